#!/usr/bin/env python3
"""Records the session that README.md shows, and draws it.

usage: scripts/record.py --programs DIR    runs the session, writes docs/session.txt and docs/session.svg
       scripts/record.py                   draws docs/session.svg again from docs/session.txt
       scripts/record.py --check           exit status 1 if docs/session.svg is not what docs/session.txt gives

--programs names the directory of host-cli and device-serv. The session runs in a temporary directory, on a free port of
loopback that is shown as 50000. Every other character is what the programs printed; device-serv's log goes to a file, as
the commands show.
"""

import argparse
import html
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXT, PICTURE = ROOT / "docs" / "session.txt", ROOT / "docs" / "session.svg"

SERVE = "device-serv --listen 50000 --store flash:chip.img:4MiB 2>>log &"
# Commands and comments. None of them has a single quote in it.
SESSION = f"""
# The embedded server; chip.img is its flash
{SERVE}
host-cli localhost 50000 put config.toml
# The power fails during an upload
(sleep 0.1; kill -9 $!) &
host-cli --retries 0 localhost 50000 put firmware.bin
# ... and comes back
{SERVE}
host-cli localhost 50000 put -c firmware.bin
host-cli localhost 50000 ls -l
host-cli localhost 50000 sum firmware.bin
""".strip().split("\n")

# Bytes that are the same in every recording.
PREPARE = """
printf "baud = 115200\\nname = \\"lab-3\\"\\n" >config.toml
seq 2000000 | head -c 3000000 >firmware.bin
touch -d 2026-11-30T09:00Z config.toml firmware.bin
"""

# Pixels.
COLUMN, LINE, LEFT, TOP, SIZE = 8.43, 20, 20, 54, 14
COLORS = {"background": "#10151c", "bar": "#1c2430", "text": "#c9d4e0", "command": "#ffffff", "comment": "#7fb58d",
          "prompt": "#5fa8e8"}


def record(programs):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    script, starts = [PREPARE], 0
    for line in SESSION:
        script.append(f"printf '%s\\n' '{'' if line.startswith('#') else '$ '}{line}'")
        script.append(line)
        # bash would report that the job was killed.
        script.append("disown -a" if line.endswith("&") else "")
        if line == SERVE:
            starts += 1
            script.append(f"until [ $(grep -c ^port output) = {starts} ]; do sleep 0.01; done")
        if line.startswith("# ..."):
            # The port is free once the killed process is gone.
            script.insert(-2, "sleep 0.3")
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "output"
        with output.open("ab") as to:
            shell = subprocess.Popen(
                ["bash", "-c", "\n".join(script).replace("50000", port)], cwd=scratch, start_new_session=True,
                env=os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "TZ": "UTC", "SKIFF_HISTORY": ""},
                stdin=subprocess.DEVNULL, stdout=to, stderr=to,
            )
            try:
                shell.wait(60)
            finally:
                try:
                    os.killpg(shell.pid, signal.SIGTERM)
                except ProcessLookupError:
                    pass
        return output.read_text().replace(port, "50000")


def draw(text):
    lines = text.rstrip("\n").split("\n")
    width = round(2 * LEFT + COLUMN * max(map(len, lines)))
    height = TOP + LINE * len(lines)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        "<title>An upload to the embedded server survives a power cut</title>",
        f'<rect width="{width}" height="{height}" rx="8" fill="{COLORS["background"]}"/>',
        f'<path d="M0 32V8a8 8 0 0 1 8-8H{width - 8}a8 8 0 0 1 8 8V32Z" fill="{COLORS["bar"]}"/>',
    ]
    out += [f'<circle cx="{x}" cy="16" r="5" fill="#465366"/>' for x in (20, 38, 56)]
    out.append(
        f'<g font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,\'DejaVu Sans Mono\',monospace" font-size="{SIZE}"'
        f' fill="{COLORS["text"]}">'
    )
    for at, line in enumerate(lines):
        y = TOP + LINE * at
        # No browser collapses these spaces.
        span = html.escape(line, quote=False).replace(" ", "\u00a0")
        attributes = f'x="{LEFT}" y="{y}" textLength="{COLUMN * len(line):.1f}"'
        if line.startswith("#"):
            out.append(f'<text {attributes} fill="{COLORS["comment"]}">{span}</text>')
        elif line.startswith("$ "):
            out.append(f'<text {attributes} fill="{COLORS["command"]}">'
                       f'<tspan fill="{COLORS["prompt"]}">$</tspan>{span[1:]}</text>')
        else:
            out.append(f"<text {attributes}>{span}</text>")
    return "\n".join([*out, "</g>", "</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=Path)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    if arguments.programs:
        text = record(arguments.programs.resolve())
        print(text, end="")
        if "continued at" not in text:
            print("record: the upload was not interrupted: run it again", file=sys.stderr)
            return 1
        TEXT.write_text(text)
    picture = draw(TEXT.read_text())
    if arguments.check:
        if PICTURE.read_text() != picture:
            print("docs/session.svg is not what scripts/record.py draws from docs/session.txt", file=sys.stderr)
            return 1
        return 0
    PICTURE.write_text(picture)
    return 0


sys.exit(main())
