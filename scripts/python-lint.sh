#!/usr/bin/env bash
# mypy --strict, ruff and its formatter over contrib/python and the tests of contrib/wireshark, with the versions of its requirements-dev.txt.
# They are installed into target/python-lint; without a package index, the check is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=${CARGO_TARGET_DIR:-target}/python-lint
wanted=contrib/python/requirements-dev.txt
if ! cmp -s "$wanted" "$tools/installed.txt"; then
    rm -rf "$tools"
    if ! { python3 -m venv "$tools" && timeout 300 "$tools/bin/pip" install -q --disable-pip-version-check -r "$wanted"; }; then
        rm -rf "$tools"
        printf 'SKIPPED: %s: mypy and ruff could not be installed\n' "$0" >&2
        exit 0
    fi
    cp "$wanted" "$tools/installed.txt"
fi
tools=$(realpath "$tools")
cd contrib/python
export RUFF_NO_CACHE=true
"$tools/bin/mypy" --cache-dir "$tools/mypy"
"$tools/bin/ruff" check --config pyproject.toml . ../wireshark
"$tools/bin/ruff" format --config pyproject.toml --check . ../wireshark
