#!/usr/bin/env bash
# Plants single mistakes with cargo-mutants and shows which of them the tests of CI miss: scripts/mutants.sh [PLACE...]
#
#   scripts/mutants.sh                 # a sample of 200 over all places
#   scripts/mutants.sh proto flash     # a sample of 200 over two of them
#   SKIFF_MUTANTS=20 SKIFF_MUTANTS_SEED=7 scripts/mutants.sh ram
#
# PLACE: proto, ram, flash, dir, server (scripts/mutants.py says which files and tests each of them has).
# SKIFF_MUTANTS: size of the sample (200). SKIFF_MUTANTS_SEED: which sample (1). NICE: the priority (19, the lowest).
# scripts/mutants.txt explains mutants that no test can find. Exit status 1: some other mutant was missed.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v cargo-mutants >/dev/null || cargo install --locked cargo-mutants
exec nice -n "${NICE:-19}" python3 scripts/mutants.py "$@"
