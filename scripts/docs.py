#!/usr/bin/env python3
"""Checks the Markdown pages and runs their commands.

usage: scripts/docs.py check
       scripts/docs.py run --programs DIR [--update] [PAGE...]

check needs nothing but Python and covers every page of the repository:

- relative links and their anchors resolve, and every docs/PAGE.md that the sources mention exists;
- every command is run by `run`, is a command of .ci/run, or is listed with a reason in scripts/docs/not-run.txt;
- Rust in pages is an excerpt of the file that the text above it links to;
- no word of scripts/docs/old-words.txt comes back, in pages, doc comments and messages, in the files and folders listed in
  scripts/docs/clean.txt.

run executes the commands of the pages (default: those with blocks that can be run, but not contrib's, whose own tests do
it), each page in a directory of its own, with free ports in place of 50000 and 50001. Two kinds of fenced blocks are
run, in order, as a shell reads them:

  console  commands after `$ ` with their output, which must match. Times in seconds and dates may differ; a line with
           only `...` stands for any lines. Each block is a terminal of its own. Its last command may be a server that
           stays: it is stopped at the end of the page.
  sh       commands that must succeed; their output is not compared.

--programs names the directory of host-cli, host-serv and device-serv. --update writes the output into the page.

Exit status: 0 all is well, 1 something is wrong, 2 usage error.
"""

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LISTS = ROOT / "scripts" / "docs"
SKIPPED = {"target", ".git", "corpus", "artifacts"}
RUN = ("console", "sh")
PROGRAMS = ("host-cli", "host-serv", "device-serv", "skiff-conformance")
# A line of a block that begins with one of these is a command, whatever the kind of the block.
COMMANDS = PROGRAMS + ("cargo", "rustup", "apt", "apt-get", "git", "unshare", "ip", "kill", "python3", "qemu-system-arm")
SERVERS = ("host-serv", "device-serv")
# The tests of these folders run the commands of their own pages.
OWN_TESTS = ("contrib/",)
# Where doc comments, help texts and messages of the programs are.
CRATES = ("proto", "keys", "crypto", "host", "device", "demo", "firmware", "bench", "conformance", "tests")
SOURCES = [(crate, "src") for crate in CRATES]
SOURCES += [("proto", "tests"), ("tests", "kit"), ("tests", "tests"), ("firmware", "embassy")]
LIMIT = 60  # seconds for anything


def files(suffix):
    for folder, folders, names in os.walk(ROOT):
        folders[:] = sorted(name for name in folders if name not in SKIPPED)
        for name in sorted(names):
            if name.endswith(suffix):
                yield Path(folder) / name


def shown(path):
    return path.relative_to(ROOT).as_posix()


# Pages


class Block:
    """A fenced or indented block: its kind, the number of its first line, its lines."""

    def __init__(self, kind, number, lines):
        self.kind, self.number, self.lines = kind, number, lines

    def commands(self):
        """The commands, each with the number of its line; in a console block also the output: (number, command, output)."""
        found = []
        here_document = None
        for at, line in enumerate(self.lines):
            number = self.number + at
            if here_document is not None:
                found[-1][1] += "\n" + line
                if line == here_document:
                    here_document = None
                continue
            if self.kind == "sh":
                if line and not line.startswith("#"):
                    found.append([number, line, []])
                    if match := re.search(r"<<'(\w+)'", line):
                        here_document = match[1]
            elif line.startswith("$ "):
                found.append([number, line[2:], []])
            elif self.kind == "console":
                if found:
                    found[-1][2].append(line)
            elif line.split(" ")[0] in COMMANDS or line.startswith((".ci/", "scripts/")):
                found.append([number, line, []])
        return found


def blocks(text):
    """Yields the blocks of a page."""
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        if match := re.match(r"(```+)\s*([\w-]*)", lines[at]):
            end = next((i for i in range(at + 1, len(lines)) if lines[i].startswith(match[1])), len(lines))
            yield Block(match[2] or "text", at + 2, lines[at + 1 : end])
            at = end + 1
        elif lines[at].startswith("    ") and (at == 0 or not lines[at - 1].strip()):
            end = at
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            yield Block("text", at + 1, [line[4:] for line in lines[at:end]])
            at = end
        else:
            at += 1


def prose(text):
    """The lines of a page without its fenced blocks, numbered, with code spans emptied."""
    fence = None
    for number, line in enumerate(text.split("\n"), 1):
        if match := re.match(r"```+", line):
            fence = None if fence else match[0]
            continue
        if not fence and not line.startswith("    "):
            yield number, re.sub(r"`[^`]*`", "``", line)


def anchors(text):
    """The anchors of a page's headings, as GitHub makes them."""
    found, fence = {}, False
    for line in text.split("\n"):
        if line.startswith("```"):
            fence = not fence
        match = re.match(r"#{1,6}\s+(.*?)\s*#*$", line)
        if fence or not match:
            continue
        heading = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", match[1]).lower()
        slug = re.sub(r"[^\w\- ]", "", heading).replace(" ", "-")
        count = found.get(slug, -1) + 1
        found[slug] = count
        if count:
            found[f"{slug}-{count}"] = 0
    return set(found) | set(re.findall(r'<a (?:id|name)="([^"]+)"', text))


# Checks


def check_links():
    texts = {path: path.read_text() for path in files(".md")}
    for path, text in texts.items():
        for number, line in joined(prose(text)):
            targets = re.findall(r"\[[^\[\]]*(?:\[[^\]]*\][^\[\]]*)*\]\(([^()\s]+)\)", line)
            targets += re.findall(r'(?:src|href)="([^"]+)"', line)
            for target in targets:
                if re.match(r"[a-z]+:", target):
                    continue
                page, _, anchor = target.partition("#")
                to = (path.parent / page).resolve() if page else path
                if not to.exists():
                    yield f"{shown(path)}:{number}: no such file: {target}"
                elif anchor and to.suffix == ".md" and anchor not in anchors(texts.get(to) or to.read_text()):
                    yield f"{shown(path)}:{number}: no such heading: {target}"
    for path in (*files(".rs"), *files(".toml"), *files(".sh"), *files(".py")):
        for number, line in enumerate(path.read_text().split("\n"), 1):
            for page in re.findall(r"\b(?:docs|firmware|bench)/\w+\.md\b", line):
                if page != "docs/PAGE.md" and not (ROOT / page).exists():
                    yield f"{shown(path)}:{number}: no such page: {page}"


def joined(lines):
    """Paragraphs as one line each: a link may be broken over two."""
    first, text = 0, ""
    for number, line in lines:
        if line.strip():
            first = first or number
            text += line + " "
        elif text:
            yield first, text
            first, text = 0, ""
    if text:
        yield first, text


def entries(name):
    """The lines of a list, numbered, without comments: fields between tabs."""
    for number, line in enumerate((LISTS / name).read_text().split("\n"), 1):
        if line.strip() and not line.startswith("#"):
            yield number, line.split("\t")


def plain(command):
    """A command without its comment and prompt."""
    return re.sub(r"\s+#.*$", "", command).strip()


def check_commands():
    ci = (ROOT / ".ci" / "run").read_text()
    listed = {(page, command): [number, reason, False] for number, (page, command, reason) in entries("not-run.txt")}
    for path in files(".md"):
        for block in blocks(path.read_text()):
            if block.kind in RUN:
                continue
            for number, command, _ in block.commands():
                command = plain(command)
                key = next((key for key in ((shown(path), command), (shown(path), "*")) if key in listed), None)
                if key:
                    listed[key][2] = True
                elif not re.search(rf"^step '[^']*' {re.escape(command)}$", ci, re.M):
                    yield (
                        f"{shown(path)}:{number}: not run by any test: {command}\n"
                        "    make it part of a block `console` or `sh`, or list it in scripts/docs/not-run.txt"
                    )
    for (page, command), (number, _, used) in listed.items():
        if not used:
            yield f"scripts/docs/not-run.txt:{number}: {page} has no such command that is not run: {command}"


def check_words():
    words = [(re.compile(rf"\b(?:{old})\b", re.I), instead) for _, (old, instead) in entries("old-words.txt")]
    clean = [name for _, (name,) in entries("clean.txt")]
    for name in clean:
        if not (ROOT / name).exists():
            print(f"docs: scripts/docs/clean.txt lists {name}, which does not exist")
    sources = [path for path in files(".rs") if path.relative_to(ROOT).parts[:2] in SOURCES]
    for path in (*files(".md"), *sources):
        found = []
        for number, line in enumerate(path.read_text().split("\n"), 1):
            if path.suffix == ".rs":
                # Comments and string literals.
                match = re.match(r"\s*//[/!]?(.*)", line)
                line = match[1] if match else " ".join(re.findall(r'"((?:[^"\\]|\\.)*)"', line.split("// ")[0]))
            for pattern, instead in words:
                if match := pattern.search(line):
                    found.append(f"{shown(path)}:{number}: `{match[0]}`: write {instead}")
        if any(f"{shown(path)}/".startswith(f"{name}/") for name in clean):
            yield from found


def check_excerpts():
    for path in files(".md"):
        source = None
        lines = path.read_text().split("\n")
        for block in blocks("\n".join(lines)):
            if block.kind != "rust":
                continue
            above = " ".join(lines[max(0, block.number - 14) : block.number - 1])
            sources = re.findall(r"\]\(([^)#]+\.rs)\)", above)
            if not sources:
                yield f"{shown(path)}:{block.number}: a program without a link to the file it is from"
                continue
            source = (path.parent / sources[-1]).read_text()
            code = [re.sub(r"^//! ?", "", line).rstrip() for line in source.split("\n")]
            if "\n".join(block.lines) not in "\n".join(code):
                yield f"{shown(path)}:{block.number}: not what {sources[-1]} says"


def check():
    wrong = [line for of in (check_links, check_commands, check_excerpts, check_words) for line in of()]
    for line in wrong:
        print(line)
    return not wrong


# Running


def bound(address, port=0):
    """The port, or any free one for 0, if it can be bound; otherwise None."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.bind((address, port))
            return probe.getsockname()[1]
    except OSError:
        return None


IPV6 = bound("::1") is not None


def free_port():
    """A port that is free on loopback, for IPv6 as well if this machine has it."""
    while True:
        port = bound("127.0.0.1")
        if port and (not IPV6 or bound("::1", port)):
            return port


def normal(line):
    """A line of output without what differs from run to run."""
    line = re.sub(r"\b\d+\.\d+ s\b", "0.0 s", line.rstrip())
    line = re.sub(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\b", "DATE", line)
    return re.sub(r" +", " ", line)


def matches(expected, found):
    """Whether the lines are the same; `...` stands for any lines."""
    if not expected:
        return not found
    if expected[0].strip() == "...":
        return any(matches(expected[1:], found[at:]) for at in range(len(found) + 1))
    return bool(found) and normal(expected[0]) == normal(found[0]) and matches(expected[1:], found[1:])



# Every page is one script. A mark in its output ends the output of each command.
PRELUDE = r"""
mark() { printf '\001mark %s %s\n' "$1" "$2" >>"$OUTPUT"; }
# Waits until the output of the background command has so many lines.
lines() {
    for _ in $(seq 400); do
        [ "$(tail -c +"$1" "$OUTPUT" | wc -l)" -ge "$2" ] && return
        sleep 0.05
    done
}
size() { echo $(($(stat -c %s "$OUTPUT") + 1)); }
trap 'kill $(jobs -p) 2>/dev/null' EXIT
"""


def script_of(page_blocks):
    """The script that runs these blocks, and its commands: (block, number of the line, command, expected output)."""
    script, commands, background = [PRELUDE], [], set()
    for block in page_blocks:
        of_block = block.commands()
        stays = bool(of_block) and of_block[-1][1].split(" ")[0] in SERVERS and not plain(of_block[-1][1]).endswith("&")
        if stays:
            script.append('before=$(size)\n(')
        for number, command, output in of_block:
            at = len(commands)
            commands.append((block, number, command, output))
            last = stays and number == of_block[-1][0]
            if last or plain(command).endswith("&"):
                background.add(at)
                if not last:
                    script.append("before=$(size)")
                script.append(f"{command}\n{') &' if last else ''}")
                # A server says that it is ready.
                awaited = max(len(output), int(any(server in command for server in SERVERS)))
                script.append(f"lines $before {awaited}\nmark {at} 0")
                if last:
                    # What the block did before its server counts as well: their marks are lines.
                    script[-1] = f"lines $before {sum(len(o) for _, _, o in of_block) + len(of_block) - 1}\nmark {at} 0"
            else:
                script.append(f"{command}\nmark {at} $?")
    return "\n".join(script) + "\n", commands, background


def run_page(path, programs, update):
    """Runs a page. Says what is wrong."""
    text = path.read_text()
    script, commands, background = script_of([block for block in blocks(text) if block.kind in RUN])
    wrong = []
    with tempfile.TemporaryDirectory() as scratch:
        home, output = Path(scratch) / "home", Path(scratch) / "output"
        home.mkdir()
        output.touch()
        places = {"50000": str(free_port()), "50001": str(free_port()), "/tmp/": f"{scratch}/"}
        environment = os.environ | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(home),
            "OUTPUT": str(output),
            "TMPDIR": scratch,
            "TZ": "UTC",
            "LC_ALL": "C.UTF-8",
            "SKIFF_HISTORY": "",
        }
        environment.pop("RUST_LOG", None)
        for name, place in places.items():
            script = script.replace(name, place)
        with output.open("ab") as to:
            shell = subprocess.Popen(
                ["bash", "-c", script], cwd=home, env=environment, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=to, stderr=to,
            )
            try:
                shell.wait(LIMIT)
            except subprocess.TimeoutExpired:
                wrong.append(f"{shown(path)}: not done after {LIMIT} s")
            finally:
                try:
                    os.killpg(shell.pid, signal.SIGTERM)
                except ProcessLookupError:
                    pass
                shell.wait()
        ran = output.read_bytes().decode(errors="replace")
        # The shell's own reports of jobs.
        ran = re.sub(r"^bash: line \d+: +\d+ (?:Killed|Terminated) .*\n", "", ran, flags=re.M)
        for name, place in places.items():
            ran = ran.replace(place, name)
    pieces = re.split(r"\x01mark (\d+) (\d+)\n", ran)
    results = {int(at): (piece, int(status)) for piece, at, status in zip(pieces[::3], pieces[1::3], pieces[2::3])}
    changes = []
    for at, (block, number, command, expected) in enumerate(commands):
        if at not in results:
            wrong.append(f"{shown(path)}:{number}: did not end: {command}\n{pieces[-1]}")
            break
        piece, status = results[at]
        found = piece.removesuffix("\n").split("\n") if piece else []
        if not IPV6:
            expected = [line.replace(", [::1]:50000", "") for line in expected]
        # A blank line before the next command is for the reader.
        while expected and not expected[-1]:
            expected = expected[:-1]
        if block.kind == "sh" and status != 0:
            wrong.append(f"{shown(path)}:{number}: exit status {status}: {command}\n{piece}")
        elif block.kind == "console" and not matches(*(
            # The lines of a background program's stdout and stderr come in any order.
            (sorted(expected), sorted(found)) if at in background else (expected, found)
        )):
            changes.append((number, len(expected), found))
            wrong.append(f"{shown(path)}:{number}: {command}\n" + "".join(f"  - {x}\n" for x in expected)
                         + "".join(f"  + {x}\n" for x in found))
    if update and changes:
        lines = text.split("\n")
        for number, count, found in reversed(changes):
            lines[number : number + count] = found
        path.write_text("\n".join(lines))
    return wrong, len(commands)


def is_run(path):
    return not shown(path).startswith(OWN_TESTS) and any(block.kind in RUN for block in blocks(path.read_text()))


def run(programs, pages, update):
    is_right = True
    for path in pages or [path for path in files(".md") if is_run(path)]:
        wrong, count = run_page(path, programs, update)
        print("\n".join(wrong) if wrong else f"docs: {shown(path)}: {count} commands")
        is_right &= not wrong
    return is_right


def main():
    parser = argparse.ArgumentParser(usage="see scripts/docs.py", add_help=False)
    parser.add_argument("action", choices=["check", "run"])
    parser.add_argument("--programs", type=Path)
    parser.add_argument("--update", action="store_true")
    parser.add_argument("pages", nargs="*", type=lambda name: Path(name).resolve())
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__.strip())
        return 0
    arguments = parser.parse_intermixed_args()
    if arguments.action == "check":
        return 0 if check() else 1
    if not arguments.programs:
        parser.error("run needs --programs DIR")
    return 0 if run(arguments.programs.resolve(), arguments.pages, arguments.update) else 1


sys.exit(main())
