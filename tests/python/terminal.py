"""Runs a program on a terminal of its own, of 80 columns and 24 lines.

usage: terminal.py PROGRAM [ARGUMENT...]

What comes on standard input is typed there, and what the terminal shows goes to standard output. It
ends with the exit code of the program.
"""

import fcntl
import os
import pty
import select
import struct
import sys
import termios


def copy(terminal):
    """Copies both ways until the program has ended: the terminal then has no other side."""
    inputs = [terminal, 0]
    while True:
        for ready in select.select(inputs, [], [])[0]:
            try:
                data = os.read(ready, 65536)
            except OSError:
                data = b""
            if data:
                write(1 if ready == terminal else terminal, data)
            elif ready == terminal:
                return
            else:
                inputs.remove(0)


def write(to, data):
    while data:
        data = data[os.write(to, data) :]


def main():
    if len(sys.argv) < 2:
        sys.exit("usage: terminal.py PROGRAM [ARGUMENT...]")
    pid, terminal = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        os.execvp(sys.argv[1], sys.argv[1:])
    copy(terminal)
    os.close(terminal)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


if __name__ == "__main__":
    main()
