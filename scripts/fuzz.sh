#!/usr/bin/env bash
# Runs the fuzz targets one after the other, for so long each: scripts/fuzz.sh [TIME [TARGET...]]
#
#   scripts/fuzz.sh              # each target for a minute
#   scripts/fuzz.sh 30m          # the long run of docs/RELIABILITY.md
#   scripts/fuzz.sh 2h frames
#
# TIME is a number of seconds, or of minutes (30m) or hours (2h). Inputs found before (fuzz/corpus) are used again. At the
# first crash it ends; the input is in fuzz/artifacts then, and `cargo +nightly fuzz run TARGET FILE` shows it again.
# It takes a nightly toolchain and cargo-fuzz (`cargo install cargo-fuzz --locked`).
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1-60} in
*m) seconds=$((${1%m} * 60)) ;;
*h) seconds=$((${1%h} * 3600)) ;;
*) seconds=${1-60} ;;
esac
targets=("${@:2}")
if ((${#targets[@]} == 0)); then
    mapfile -t targets < <(cargo +nightly fuzz list)
fi
scripts/fuzz-seeds.py

logs=fuzz/target/logs
mkdir -p "$logs"
printf '%-8s %12s %10s %9s %9s %7s\n' target executions 'a second' coverage features corpus
for target in "${targets[@]}"; do
    log=$logs/$target.log
    if ! cargo +nightly fuzz run "$target" -- -max_total_time="$seconds" -max_len=8192 -timeout=20 \
        -print_final_stats=1 >"$log" 2>&1; then
        tail -n 60 "$log"
        printf 'scripts/fuzz.sh: %s has found something: %s\n' "$target" "$log" >&2
        exit 1
    fi
    # The last of the lines `#1234 DONE cov: 12 ft: 34 corp: 5/67b ..`.
    last=$(grep -a ' cov: ' "$log" | tail -n 1)
    field() {
        sed -n "s/.* $1: \([0-9]*\).*/\1/p" <<<"$last"
    }
    stat() {
        sed -n "s/^stat::$1: *//p" "$log"
    }
    printf '%-8s %12d %10d %9d %9d %7d\n' "$target" "$(stat number_of_executed_units)" \
        "$(stat average_exec_per_sec)" "$(field cov)" "$(field ft)" "$(field corp)"
done
