"""`python -m skiff HOST PORT COMMAND...`: the commands of host-cli that people script.

Exit codes: 0 done, 1 refused or failed, 2 usage error, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from typing import List, NoReturn, Optional, Sequence

from . import __version__
from .client import Client, connect
from .commands import COMMANDS
from .errors import SkiffError
from .output import Run, Usage

EPILOG = """\
examples:
  skiff localhost 50000 put notes.txt
  skiff localhost 50000 get 'logs/*.txt' -o new/
  tar c logs | skiff localhost 50000 put - -o backup.tar
  skiff localhost 50000 --json ls
  skiff localhost 50000 sync push build firmware
  skiff localhost 50000 < commands.txt      stops at the first failure

exit codes: 0 done, 1 refused or failed, 2 usage error, 130 stopped by Ctrl-C
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"argument COMMAND: invalid choice: (.*?) \(", message)
        if unknown:
            message = f"no such command {unknown[1]}"
        raise Usage(message)


def _parser() -> argparse.ArgumentParser:
    common = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("-q", "--quiet", action="store_true", help="print no results of transfers")
    common.add_argument("--json", action="store_true", help="print results as JSON, one object a line")
    connection = _Parser(add_help=False, argument_default=argparse.SUPPRESS)
    connection.add_argument("--connect-timeout", type=_seconds, metavar="SECONDS", help="default 10")
    connection.add_argument(
        "--idle", type=_seconds, metavar="SECONDS", help="time out after SECONDS without progress; default 60"
    )
    connection.add_argument(
        "--retries", type=_count, metavar="COUNT", help="reconnect a transfer at most COUNT times in a row; default 5"
    )
    connection.add_argument("--key", metavar="FILE", help="encrypt with the key in FILE; default: SKIFF_KEY")
    parser = _Parser(
        prog="skiff",
        description="Client for skiff servers.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common, connection],
        allow_abbrev=False,
    )
    parser.add_argument("-V", "--version", action="version", version=f"skiff {__version__}")
    parser.add_argument("host", metavar="HOST")
    parser.add_argument("port", metavar="PORT", type=_port)
    _add_commands(parser, [common, connection])
    return parser


def _add_commands(parser: argparse.ArgumentParser, parents: List[_Parser]) -> None:
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    def add(name: str, about: str, *arguments: str, help_option: bool = True) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=about, description=about, parents=parents, allow_abbrev=False, add_help=help_option
        )
        for argument in arguments:
            word = argument.rstrip("*+?")
            if argument == word:
                command.add_argument(word.lower(), metavar=word)
            else:
                command.add_argument(word.lower(), metavar=word, nargs=argument[-1])
        return command

    ls = add("ls", "list files on the server", "NAME*")
    ls.add_argument("-l", action="store_true", dest="long", help="size, time and name")
    ls.add_argument("-R", action="store_true", dest="recursive", help="with directories")
    get = add("get", "download files", "NAME+")
    get.add_argument(
        "-o", dest="output", metavar="LOCAL", help="save as LOCAL, or into the directory LOCAL; - is standard output"
    )
    get.add_argument("-f", action="store_true", dest="force", help="replace local files")
    get.add_argument("-c", action="store_true", dest="resume", help="continue an interrupted transfer")
    get.add_argument("-r", action="store_true", dest="recursive", help="with directories")
    put = add("put", "upload files", "LOCAL+")
    put.add_argument("-o", dest="output", metavar="NAME", help="store as NAME, or into the directory NAME/")
    put.add_argument("-f", action="store_true", dest="force", help="send files that are not text to a classic server")
    put.add_argument("-c", action="store_true", dest="resume", help="continue an interrupted transfer")
    put.add_argument("-r", action="store_true", dest="recursive", help="with directories")
    add("cat", "print files", "NAME+")
    add("stat", "show size, time and checksum of files", "NAME+")
    add("sum", "have the server compute checksums", "NAME+")
    add("rm", "remove files", "NAME+")
    add("mv", "rename a file, replacing TO", "FROM", "TO")
    mkdir = add("mkdir", "create directories", "NAME+")
    mkdir.add_argument("-p", action="store_true", dest="parents", help="with those above; they may exist")
    add("rmdir", "remove directories without files", "NAME+")
    add("df", "show disk space on the server")
    ping = add("ping", "measure the round-trip time")
    ping.add_argument("-n", type=_count, default=1, dest="count", metavar="COUNT")
    add("info", "show what the server supports")
    sync = add("sync", "make a directory like another: push LOCAL [DIR] or pull DIR LOCAL; DIR / is the root")
    sync.add_argument("direction", choices=["push", "pull"])
    sync.add_argument("source", metavar="FROM")
    sync.add_argument("target", metavar="TO", nargs="?")
    sync.add_argument("--delete", action="store_true", help="remove files that FROM does not have")


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65_535):
        raise argparse.ArgumentTypeError(f"no port: {text}")
    return int(text)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"no number: {text}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"no number of seconds: {text}")
    return value


def _script(client: Client, parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    """Carries out the lines of standard input, until one fails."""
    for count, raw in enumerate(sys.stdin.buffer, 1):
        run = Run(getattr(args, "json", False), getattr(args, "quiet", False), count)
        try:
            text = raw.decode("utf-8-sig" if count == 1 else "utf-8")
            words = shlex.split(text, comments=True)
            if not words:
                continue
            if words[0] in ("quit", "exit"):
                break
            line = parser.parse_args([args.host, str(args.port), *words])
            if line.command == "put" and "-" in line.local:
                raise Usage("put - does not work in a script")
            COMMANDS[line.command](client, run, line)
        except (Usage, ValueError) as error:
            run.error(None, None, error if isinstance(error, Usage) else Usage(str(error)))
            return 2
        except (SkiffError, OSError) as error:
            if isinstance(error, BrokenPipeError):
                raise
            run.error(None, None, error)
        if run.failed:
            return 1
    return 0


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs the program; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    run = Run("--json" in words, False)
    try:
        return _main(words, run)
    except Usage as error:
        run.error(None, None, error)
        return 2
    except BrokenPipeError:
        # The reader of standard output has exited: not an error. Do not flush to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1 if run.failed else 0
    except (SkiffError, OSError) as error:
        run.error(None, None, error)
        return 1
    except KeyboardInterrupt:
        return 130


def _main(words: List[str], run: Run) -> int:
    parser = _parser()
    args = parser.parse_args(words)
    run.json, run.quiet = getattr(args, "json", False), getattr(args, "quiet", False)
    with connect(
        args.host,
        args.port,
        timeout=getattr(args, "idle", 60.0),
        connect_timeout=getattr(args, "connect_timeout", 10.0),
        retries=getattr(args, "retries", 5),
        key=getattr(args, "key", os.environ.get("SKIFF_KEY") or None),
    ) as client:
        if args.command is None:
            if sys.stdin.isatty():
                raise Usage("give a command, or a script on standard input")
            return _script(client, parser, args)
        COMMANDS[args.command](client, run, args)
    sys.stdout.flush()
    return 1 if run.failed else 0
