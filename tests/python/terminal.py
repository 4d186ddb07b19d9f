"""Runs a program on a terminal of its own, of 80 columns and 24 lines.

usage: terminal.py [--slow] PROGRAM [ARGUMENT...]

With --slow it shows about 50 kB a second.

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
import time


def copy(terminal, slow):
    """Copies both ways until the program has ended: the terminal then has no other side."""
    inputs = [terminal, 0]
    while True:
        for ready in select.select(inputs, [], [])[0]:
            try:
                data = os.read(ready, 512 if slow else 65536)
            except OSError:
                data = b""
            if data:
                write(1 if ready == terminal else terminal, data)
                if slow:
                    time.sleep(0.01)
            elif ready == terminal:
                return
            else:
                inputs.remove(0)


def write(to, data):
    while data:
        data = data[os.write(to, data) :]


def main():
    program = sys.argv[1:]
    slow = program[:1] == ["--slow"]
    if slow:
        del program[0]
    if not program:
        sys.exit("usage: terminal.py [--slow] PROGRAM [ARGUMENT...]")
    pid, terminal = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        os.execvp(program[0], program)
    copy(terminal, slow)
    os.close(terminal)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


if __name__ == "__main__":
    main()
