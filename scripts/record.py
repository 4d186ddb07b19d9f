#!/usr/bin/env python3
"""Records the sessions that README.md and docs/CLI.md show, and draws them, and the output of tshark.

usage: scripts/record.py --programs DIR [NAME...]   runs the sessions, writes docs/NAME.txt and docs/NAME.svg
       scripts/record.py                            draws docs/*.svg again from docs/*.txt
       scripts/record.py --check                    exit status 1 if a docs/NAME.svg is not what docs/NAME.txt gives

--programs names the directory of host-cli, host-serv and device-serv. A session runs in a temporary directory, on a
free port of loopback that is shown as 50000; with a network, in its own namespace (`unshare -Urn` must work). All other
text is exactly what the programs printed; a server's log goes to a file, as the commands show.
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

DOCS = Path(__file__).resolve().parent.parent / "docs"

# For each session: a title; a script that makes bytes that are the same in every recording; commands and comments,
# without single quotes; a text that a good recording contains; the address of this machine in a network, if the session
# needs one.
SESSIONS = {
    "session": (
        "An upload to the embedded server survives a power cut",
        """
printf "baud = 115200\\nname = \\"lab-3\\"\\n" >config.toml
seq 2000000 | head -c 3000000 >firmware.bin
touch -d 2026-11-30T09:00Z config.toml firmware.bin
""",
        """
# The embedded server; chip.img is its flash
device-serv --listen 50000 --store flash:chip.img:4MiB 2>>log &
host-cli localhost 50000 put config.toml
# The power fails during an upload
(sleep 0.1; kill -9 $!) &
host-cli --retries 0 localhost 50000 put firmware.bin
# ... and comes back
device-serv --listen 50000 --store flash:chip.img:4MiB 2>>log &
host-cli localhost 50000 put -c firmware.bin
host-cli localhost 50000 ls -l
host-cli localhost 50000 sum firmware.bin
""",
        "resumed at",
        None,
    ),
    "desk": (
        "A board is found on the network, a directory synced to it, and a log on it followed",
        """
mkdir -p board/logs site/fonts
for n in $(seq 40); do seq $n 9000 >site/fonts/glyphs-$n.bin; done
printf "baud = 9600\\n" >site/config.toml
printf "09:00:00 boot\\n09:00:01 link up\\n" >board/logs/app.log
touch -d 2026-11-30T09:00Z site/*.* site/fonts/*
""",
        """
host-serv 50000 --root board --bind 0.0.0.0 --open --announce=lab3 2>>log &
# Which boards are on this network?
host-cli discover
export SKIFF_BOARD=lab3.local
# Sync sends what differs, by content
host-cli -q sync site www
sed -i s/9600/115200/ site/config.toml
rm site/fonts/glyphs-7.bin
host-cli sync --delete site www
host-cli sync --delete site www
# A log on the board, followed until Ctrl-C
(sleep 2; echo 09:00:04 ready; sleep 1; echo 09:00:05 23.5 C) >>board/logs/app.log &
timeout -s INT 5 host-cli tail -n 1 -f logs/app.log
""",
        "23.5 C\n",
        "192.168.1.7/24",
    ),
}

# Texts that are only drawn, not recorded: other tests check them.
DRAWN = {"wireshark": "tshark shows skiff connections"}

# Pixels.
COLUMN, LINE, LEFT, TOP, SIZE = 8.43, 20, 20, 54, 14
COLORS = {"background": "#10151c", "bar": "#1c2430", "text": "#c9d4e0", "command": "#ffffff", "comment": "#7fb58d",
          "prompt": "#5fa8e8"}


def record(programs, prepare, session, address):
    namespace = []
    if address:
        namespace = ["unshare", "-Urn"]
        # mDNS reaches the programs on this machine over any interface that is up.
        network = f"""
ip link set lo up
ip link add eth0 type veth peer name far
ip address add {address} dev eth0
ip link set far up
ip link set eth0 up
"""
        prepare = network + prepare
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    script, starts = [prepare], 0
    for line in session.strip().split("\n"):
        script.append(f"printf '%s\\n' '{'' if line.startswith('#') else '$ '}{line}'")
        script.append(line)
        # bash would report that the job was killed.
        script.append("board=${board:-$!}; disown -a" if line.endswith("&") else "")
        if line.startswith(("device-serv", "host-serv")):
            starts += 1
            script.append(f"until [ $(grep -c ^port output) = {starts} ]; do sleep 0.01; done")
        if "--announce" in line:
            script.append("until grep -q announced log; do sleep 0.01; done")
        if line.startswith("# ..."):
            # The port is free once the killed process, the first in the background, is gone.
            script.insert(-2, "while kill -0 $board 2>>log; do sleep 0.01; done")
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "output"
        with output.open("ab") as to:
            shell = subprocess.Popen(
                [*namespace, "bash", "-c", "\n".join(script).replace("50000", port)], cwd=scratch, start_new_session=True,
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


def draw(title, text):
    lines = text.rstrip("\n").split("\n")
    width = round(2 * LEFT + COLUMN * max(map(len, lines)))
    height = TOP + LINE * len(lines)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f"<title>{title}</title>",
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
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[[], *SESSIONS, *DRAWN])
    arguments = parser.parse_args()
    status = 0
    for name in arguments.names or [*SESSIONS, *DRAWN]:
        text, picture = DOCS / f"{name}.txt", DOCS / f"{name}.svg"
        title, prepare, session, proof, address = SESSIONS.get(name) or (DRAWN[name], "", "", "", "")
        if arguments.programs and session:
            recorded = record(arguments.programs.resolve(), prepare, session, address)
            print(recorded, end="")
            if proof not in recorded:
                print(f"record: {name}: no {proof!r} in it: run it again", file=sys.stderr)
                return 1
            text.write_text(recorded)
        drawn = draw(title, text.read_text())
        if not arguments.check:
            picture.write_text(drawn)
        elif picture.read_text() != drawn:
            print(f"docs/{name}.svg is not what scripts/record.py draws from docs/{name}.txt", file=sys.stderr)
            status = 1
    return status


sys.exit(main())
