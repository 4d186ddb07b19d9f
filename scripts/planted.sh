#!/usr/bin/env bash
# Plants the mistakes of tests/planted/ one at a time in a copy of the sources, and says at which seed the simulation
# finds each: scripts/planted.sh [--check] [NAME...]
#
# --check: only says whether each of them can still be planted.
# SKIFF_PLANTED_SECONDS: how long the simulation looks for each (120).
set -euo pipefail
cd "$(dirname "$0")/.."

check=
if [[ ${1-} == --check ]]; then
    check=1
    shift
fi
names=("$@")
if ((${#names[@]} == 0)); then
    mapfile -t names < <(basename -s .patch tests/planted/*.patch)
fi

scratch=$PWD/target/planted
tree=$scratch/tree
seconds=${SKIFF_PLANTED_SECONDS:-120}
rm -rf "$tree"
mkdir -p "$tree"
# With the time of now: what was built of a planted copy is never taken for this one.
git ls-files -z --cached --others --exclude-standard -- ':!fuzz' ':!firmware' ':!bench/results' |
    tar -c --null --files-from=- --ignore-failed-read | tar -x -m -C "$tree"
git -C "$tree" init -q

# plant NAME [-R]
plant() {
    git -C "$tree" apply "${@:2}" "$PWD/tests/planted/$1.patch"
}

for name in "${names[@]}"; do
    plant "$name" --check
done
if [[ -n $check ]]; then
    printf '%d mistakes can be planted\n' ${#names[@]}
    exit
fi

missed=0
printf '%-40s %8s %8s  %s\n' mistake seed seconds 'what the simulation says'
for name in "${names[@]}"; do
    plant "$name"
    CARGO_TARGET_DIR=$scratch/target cargo build -q --profile sim --manifest-path "$tree/Cargo.toml" \
        -p skiff-tests --bin simulate
    begin=$(date +%s%N)
    status=0
    timeout -k 10 $((seconds + 60)) "$scratch/target/sim/simulate" \
        --seeds 1000000000 --seconds "$seconds" --lines 20 >"$scratch/$name.log" || status=$?
    took=$((($(date +%s%N) - begin) / 10000000))
    found=$(grep -m 1 '^seed [0-9]*: ' "$scratch/$name.log" || true)
    seed=${found%%:*} seed=${seed#seed } message=${found#*: }
    case $status in
    0)
        seed=- message='nothing'
        missed=$((missed + 1))
        ;;
    1) ;;
    *) seed=${seed:-?} message="ends with status $status" ;;
    esac
    printf '%-40s %8s %5d.%02d  %s\n' "$name" "$seed" $((took / 100)) $((took % 100)) "${message:0:100}"
    plant "$name" -R
done
if ((missed > 0)); then
    printf '%d of %d mistakes were not found\n' "$missed" ${#names[@]}
    exit 1
fi
printf 'all %d mistakes were found\n' ${#names[@]}
