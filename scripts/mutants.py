#!/usr/bin/env python3
"""The work of scripts/mutants.sh: samples mutants, tests them in stages, prints what was missed.

A mutant goes through the stages of its place until one of them catches it. The cheap stage comes first: a mutant of proto is
tested by proto's own tests, and only if those pass is the `tests` crate built with it. The tests run in a copy of the work
tree (target/mutants/tree), one mutant at a time.
"""
import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

HOME = Path("target/mutants")
TREE = HOME / "tree"

# Each stage: the packages, then the arguments of `cargo test`.
PLACES = {
    "proto": (
        ["proto/src/**/*.rs"],
        [
            (["skiff-proto"], "--features embedded-io,embedded-io-async --tests"),
            (["skiff-kit"], "--test server_session --test properties"),
            (["skiff-host"], "--lib"),
            (["skiff-tests"], "--test simulation"),
            (["skiff-tests"], "--test device --test host_serv -- link:: wire::"),
        ],
    ),
    "ram": (
        ["device/src/ram/**/*.rs"],
        [
            (["skiff-kit"], "--test stores -- ram::"),
            (["skiff-tests"], "--test simulation"),
            (["skiff-tests"], "--test device -- link::"),
        ],
    ),
    "flash": (
        ["device/src/flash/**/*.rs"],
        [
            (["skiff-kit"], "--test stores -- flash:: media::"),
            (["skiff-device"], "--no-default-features --lib"),
            (["skiff-kit"], "--test flash_cuts"),
            (["skiff-tests"], "--test simulation"),
            (["skiff-tests"], "--test device -- flash_image::"),
        ],
    ),
    "dir": (
        ["host/src/store/**/*.rs"],
        [
            (["skiff-host"], "--no-default-features --features server --lib"),
            (["skiff-tests"], "--test store_dir"),
            (["skiff-tests"], "--test host_serv -- wire::"),
        ],
    ),
    "server": (
        ["device/src/server/**/*.rs"],
        [
            (["skiff-device"], "--lib"),
            (["skiff-tests"], "--test device -- link:: poll:: hostile::"),
            (["skiff-tests"], "--test simulation"),
            (["skiff-tests"], "--test device -- wire:: network::"),
        ],
    ),
}


def copy_tree():
    """Copies what differs, with the time of now: what was built of a mutant is never taken for the original."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", ":!bench/results"],
        check=True, stdout=subprocess.PIPE, text=True,
    ).stdout
    files = {name for name in listed.split("\0") if name and os.path.isfile(name)}
    for path in TREE.rglob("*"):
        if path.is_file() and str(path.relative_to(TREE)) not in files:
            path.unlink()
    for name in files:
        source, copy = Path(name), TREE / name
        if not copy.is_file() or copy.read_bytes() != source.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(source.read_bytes())
            copy.chmod(source.stat().st_mode)


def mutants(arguments, **options):
    return subprocess.run(["cargo-mutants", "mutants", "--dir", str(TREE), "--workspace", *arguments], **options)


def sample(places, count, seed):
    """The `count` mutants that come first by a hash of the seed and of their name without line numbers."""
    globs = [argument for place in places for glob in PLACES[place][0] for argument in ("--file", glob)]
    listed = mutants(["--list", "--json", *globs], check=True, stdout=subprocess.PIPE)
    all_mutants = json.loads(listed.stdout)
    for mutant in all_mutants:
        position = mutant["span"]["start"]
        mutant["line"] = position["line"]
        prefix = f"{mutant['file']}:{position['line']}:{position['column']}: "
        mutant["what"] = mutant["name"].removeprefix(prefix)
        mutant["place"] = next(place for place in places if in_place(mutant["file"], place))
    order = lambda mutant: hashlib.sha256(f"{seed} {mutant['file']} {mutant['what']}".encode()).digest()
    print(f"{min(count, len(all_mutants))} of {len(all_mutants)} mutants, seed {seed}", flush=True)
    return sorted(all_mutants, key=order)[:count]


def in_place(file, place):
    return any(file.startswith(glob.split("*")[0]) for glob in PLACES[place][0])


def test(chosen, packages, arguments, out):
    """Tests the mutants in `chosen`; what became of each, by name."""
    environment = dict(
        os.environ,
        CARGO_TARGET_DIR=str((HOME / "build").resolve()),
        CARGO_PROFILE_DEV_DEBUG="0",
        PROPTEST_DISABLE_FAILURE_PERSISTENCE="1",
        TMPDIR=str((HOME / "tmp").resolve()),
    )
    # Without a mutant all tests have to pass; cargo-mutants would run those of the mutated package only.
    cargo = ["cargo", "test", *(f"--package={package}" for package in packages)]
    subprocess.run([*cargo, "--no-run", *arguments.split()], cwd=TREE, env=environment, check=True)
    used = cpu_seconds()
    with open(out / "unmutated.log", "w") as log:
        subprocess.run([*cargo, *arguments.split()], cwd=TREE, env=environment, check=True, stdout=log, stderr=log)
    # A limit on processor time, which does not depend on other load; a long one on elapsed time, only for tests that wait forever.
    limit = round(max(10, 10 * (cpu_seconds() - used)))
    environment[f"CARGO_TARGET_{host().upper().replace('-', '_')}_RUNNER"] = f"prlimit --cpu={limit}"

    options = ["--in-place", "--output", str(out), "--baseline=skip", f"--timeout={max(1200, 30 * limit)}"]
    options += ["--test-package", ",".join(packages)]
    build, separator, run = arguments.partition("-- ")
    options += [f"--cargo-arg={argument}" for argument in build.split()]
    options += [f"--cargo-test-arg={argument}" for argument in (separator + run).split()]
    options += [f"--re=^{re.escape(mutant['name'])}$" for mutant in chosen]
    # cargo-mutants 27.1 adds all mutants that delete a field, whatever --re says; these only where the sample has a line.
    (out / "lines.diff").write_text(diff_of(chosen))
    options += ["--in-diff", str(out / "lines.diff")]
    ended = mutants(options, env=environment)
    # 2: missed, 3: timeouts.
    if ended.returncode not in (0, 2, 3):
        sys.exit(f"cargo-mutants ends with status {ended.returncode}: {out}/mutants.out/log")
    names = {mutant["name"] for mutant in chosen}
    became = {}
    for outcome in json.loads((out / "mutants.out/outcomes.json").read_text())["outcomes"]:
        name, summary = outcome["scenario"]["Mutant"]["name"], outcome["summary"]
        if summary == "CaughtMutant" and "SIGXCPU" in (out / "mutants.out" / outcome["log_path"]).read_text(errors="replace"):
            summary = "Timeout"
        if name in names:
            became[name] = summary
    return became


def cpu_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def host():
    about = subprocess.run(["rustc", "-vV"], check=True, stdout=subprocess.PIPE, text=True).stdout
    return re.search("host: (.*)", about)[1]


def diff_of(chosen):
    """A diff that touches the lines on which these mutants begin."""
    lines = {}
    for mutant in chosen:
        lines.setdefault(mutant["file"], set()).add(mutant["line"])
    text = ""
    for file, numbers in sorted(lines.items()):
        source = (TREE / file).read_text().splitlines()
        text += f"--- a/{file}\n+++ b/{file}\n"
        text += "".join(f"@@ -{n} +{n} @@\n-\n+{source[n - 1]}\n" for n in sorted(numbers))
    return text


def explanations():
    """Lines `FILE: MUTANT | PART OF THE LINE | WHY`; # begins a comment."""
    found = []
    for line in Path("scripts/mutants.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            mutant, code, why = line.rsplit(" | ", 2)
            found.append((mutant, code, why))
    return found


def explain(mutant, known):
    code = Path(mutant["file"]).read_text().splitlines()[mutant["line"] - 1]
    for what, part, why in known:
        if what == f"{mutant['file']}: {mutant['what']}" and part in code:
            return why
    return None


def main():
    places = sys.argv[1:] or list(PLACES)
    if unknown := set(places) - set(PLACES):
        sys.exit(f"scripts/mutants.sh: no such place: {' '.join(sorted(unknown))} (there are {' '.join(PLACES)})")
    shutil.rmtree(HOME / "tmp", ignore_errors=True)
    (HOME / "tmp").mkdir(parents=True)
    TREE.mkdir(exist_ok=True)
    copy_tree()
    known = explanations()
    chosen = sample(places, int(os.environ.get("SKIFF_MUTANTS", 200)), os.environ.get("SKIFF_MUTANTS_SEED", "1"))
    result = {}
    for place in places:
        left = [mutant for mutant in chosen if mutant["place"] == place]
        for number, (packages, arguments) in enumerate(PLACES[place][1], 1):
            if not left:
                break
            print(f"{place}: {len(left)} mutants, -p {' -p '.join(packages)} {arguments}", flush=True)
            out = HOME / f"{place}-{number}"
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            result |= test(left, packages, arguments, out)
            left = [mutant for mutant in left if result[mutant["name"]] == "MissedMutant"]

    of = lambda summary: [mutant for mutant in chosen if result[mutant["name"]] == summary]
    caught, missed, timeouts, unviable = map(of, ["CaughtMutant", "MissedMutant", "Timeout", "Unviable"])
    explained = [(mutant, why) for mutant in missed if (why := explain(mutant, known))]
    survivors = [mutant for mutant in missed if not explain(mutant, known)]
    viable = len(chosen) - len(unviable)
    print(f"\n{'place':8} {'caught':>7} {'missed':>7} {'timeout':>8} {'unviable':>9}  caught of viable")
    for place in [*places, "all"]:
        row = [sum(place in (mutant["place"], "all") for mutant in kind) for kind in (caught, missed, timeouts, unviable)]
        # A timeout is a mutant that made a test hang: CI would not pass.
        share = 100 * (row[0] + row[2]) / max(1, sum(row[:3]))
        print(f"{place:8} {row[0]:7} {row[1]:7} {row[2]:8} {row[3]:9}  {share:.1f}%")
    for mutant, why in explained:
        print(f"explained: {mutant['name']}: {why}")
    for mutant in survivors:
        print(f"MISSED: {mutant['name']}")
    sys.exit(bool(survivors))


main()
