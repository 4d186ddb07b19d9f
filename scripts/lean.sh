#!/usr/bin/env bash
# Checks that skiff-host as a library needs no crate of the programs. scripts/lean.sh
set -euo pipefail
cd "$(dirname "$0")/.."

# lean FEATURE CRATE...: exactly these crates are direct dependencies, and no crate of the programs is behind them.
lean() {
    local feature=$1 tree=(cargo tree --locked -e normal -p skiff-host --no-default-features --features "$1" --prefix none)
    shift
    diff <(printf '%s\n' "$@") <("${tree[@]}" --depth 1 | sed 1d | cut -d' ' -f1 | sort)
    if "${tree[@]}" | grep -E "^($programs) "; then
        printf '%s: feature %s of skiff-host needs a crate of the programs\n' "$0" "$feature" >&2
        exit 1
    fi
}

programs='anyhow|bytesize|clap|console|indicatif|jiff|mdns-sd|regex-lite|rustyline|serde|serde_json|shell-words|tracing-subscriber'
lean client rustix skiff-proto socket2 tempfile thiserror tokio
lean server rustix sha2 skiff-proto socket2 thiserror tokio tracing
