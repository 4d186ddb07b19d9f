"""A stand-in for the original classic server, quirks included, to test against.

usage: serv.py PORT [ADDRESS]      (ADDRESS: 127.0.0.1; the store is the current directory)

PORT 0 binds an ephemeral port; either way the first line printed is "listening on PORT".

What differs from docs/PROTOCOL.md section 3, on purpose:
- lengths count characters of the decoded text, not bytes;
- ten bytes are asked for at a time as a length; if fewer come, they are misread as a length;
- files are text: one that is not UTF-8 raises UnicodeDecodeError, which ends that transfer alone;
- `put` stores what came before the end of stream, be it short;
- a command it does not know gets no answer at all.
"""

import codecs
import os
import socket
import sys
import threading


def send_message(conn, text):
    conn.sendall(f"{len(text):010d}{text}".encode())


def recv_text(conn, length):
    """Reads `length` characters, or fewer if the stream ends before; never more."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    pieces = []
    while length > 0:
        # A character is one byte or more, so this never reads into the next message.
        data = conn.recv(min(length, 65536))
        piece = decoder.decode(data, final=not data)
        if not data:
            break
        pieces.append(piece)
        length -= len(piece)
    return "".join(pieces)


def recv_message(conn):
    """The payload of the next message, None at the end of stream."""
    header = conn.recv(10)
    if not header:
        return None
    return recv_text(conn, int(header.decode()))


def open_new(path):
    """Creates a text file, as `name(1).ext`, `name(2).ext`, ... if the name is taken."""
    stem, extension = os.path.splitext(path)
    number = 0
    while True:
        try:
            # newline="": line ends stay as they are.
            return open(path, "x", encoding="utf-8", newline="")
        except FileExistsError:
            number += 1
            path = f"{stem}({number}){extension}"


def read_file(path):
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()


def serve_get(listener, name):
    with listener:
        conn, _ = listener.accept()
    with conn:
        send_message(conn, read_file(name))


def serve_put(listener, name):
    with listener:
        conn, _ = listener.accept()
    with conn:
        text = recv_message(conn)
        if text is not None:
            with open_new(name) as file:
                file.write(text)


def start_transfer(conn, serve, name):
    """Announces a new port on `conn` and serves one data connection there, in a thread."""
    listener = socket.create_server((conn.getsockname()[0], 0))
    threading.Thread(target=serve, args=(listener, name), daemon=True).start()
    send_message(conn, str(listener.getsockname()[1]))


def serve_control(conn):
    with conn:
        while (command := recv_message(conn)) is not None:
            words = command.split()
            words[:1] = [verb.lower() for verb in words[:1]]
            match words:
                case ["get", name]:
                    if os.path.isfile(name):
                        start_transfer(conn, serve_get, name)
                    else:
                        send_message(conn, "-1")
                case ["put", name]:
                    start_transfer(conn, serve_put, os.path.basename(name))
                case ["ls"]:
                    send_message(conn, "\n".join(os.listdir()))
                case ["quit"]:
                    return


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: serv.py PORT [ADDRESS]")
    address = sys.argv[2] if len(sys.argv) == 3 else "127.0.0.1"
    with socket.create_server((address, int(sys.argv[1]))) as server:
        print(f"listening on {server.getsockname()[1]}", flush=True)
        while True:
            conn, _ = server.accept()
            threading.Thread(target=serve_control, args=(conn,), daemon=True).start()


if __name__ == "__main__":
    main()
