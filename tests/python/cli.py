"""A stand-in for the original classic client, quirks included, to test against.

usage: cli.py HOST PORT

Reads the commands `get NAME`, `put PATH`, `ls` and `quit` from standard input, one a line; the end
of input is `quit`. Like serv.py it counts lengths in characters, handles text files only and
misreads a length that comes in pieces. More quirks:
- `put` sends the path as it was typed;
- a reply to `get` or `put` that is no number ends the program with a ValueError, and a file that
  is not UTF-8 with a UnicodeDecodeError;
- `get` keeps what came before the end of stream, be it short;
- `ls` waits until as many characters have come as the length says.
"""

import os
import socket
import sys

sys.dont_write_bytecode = True

from serv import open_new, read_file, recv_message, send_message


def request(control, command):
    """Sends a `get` or `put` and returns the port to go to, None if there is none."""
    send_message(control, command)
    port = int(recv_message(control) or "")
    return None if port == -1 else port


def get(control, host, name):
    port = request(control, f"get {name}")
    if port is None:
        print(f"file not found: {name}")
        return
    with socket.create_connection((host, port)) as conn:
        text = recv_message(conn)
    if text is None:
        print(f"nothing received: {name}")
        return
    with open_new(os.path.basename(name)) as file:
        file.write(text)
        print(f"received {file.name}: {len(text)} characters")


def put(control, host, path):
    if not os.path.isfile(path):
        print(f"file not found: {path}")
        return
    port = request(control, f"put {path}")
    if port is None:
        print(f"refused: {path}")
        return
    with socket.create_connection((host, port)) as conn:
        text = read_file(path)
        send_message(conn, text)
        conn.shutdown(socket.SHUT_WR)
    print(f"sent {path}: {len(text)} characters")


def ls(control):
    send_message(control, "ls")
    print(recv_message(control) or "")


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: cli.py HOST PORT")
    host = sys.argv[1]
    with socket.create_connection((host, int(sys.argv[2]))) as control:
        while True:
            try:
                words = input("> ").split()
            except EOFError:
                words = ["quit"]
            match words:
                case ["get", name]:
                    get(control, host, name)
                case ["put", path]:
                    put(control, host, path)
                case ["ls"]:
                    ls(control)
                case ["quit"]:
                    send_message(control, "quit")
                    return
                case []:
                    pass
                case _:
                    print("commands: get NAME, put PATH, ls, quit")


if __name__ == "__main__":
    main()
