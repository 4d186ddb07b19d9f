#!/usr/bin/env bash
# Checks that host-cli and its library compile for other systems. Nothing is linked, so no compiler for them is needed.
#
# usage: scripts/platforms.sh [TARGET...]       (default: Windows and macOS)
#
# Without the feature `secure`: its C code needs a C compiler for the system. A target that rustup can't install is
# skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
(($# > 0)) || set -- x86_64-pc-windows-gnu x86_64-apple-darwin
for target in "$@"; do
    if ! rustup target list --installed | grep -qx "$target" && ! timeout 120 rustup target add "$target"; then
        printf 'SKIPPED: %s: %s can not be installed\n' "$0" "$target" >&2
        continue
    fi
    features=client,cli
    # host-serv needs Unix.
    [[ $target == *windows* ]] || features+=,server
    printf '==> %s: %s\n' "$target" "$features"
    cargo check --locked --target-dir "${CARGO_TARGET_DIR:-target}/platforms" -p skiff-host --no-default-features \
        --features "$features" --target "$target"
done
