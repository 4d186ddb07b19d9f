#!/usr/bin/env bash
# Builds everything that a release consists of into target/packages: the Debian package, the RPM, an archive with static
# programs, their checksums and a list of their dependencies. docs/RELEASE.md says what to check before and after.
#
# usage: scripts/release.sh [check|build|static|packages|checksums|test|reproduce]...
#
#   check       before a release: minimum Rust version, licenses and advisories, `cargo publish --dry-run`, changes of
#               the API since the last release
#   build, static, packages, checksums     the release files; the default, in this order
#   test        installs and removes the packages in a minimal system: packaging/test.sh, as root
#   reproduce   builds the files in two clones of the last commit, in different directories and with different umasks,
#               time zones and languages, and compares every byte; takes as long as two releases
#
# The same commit and toolchain give the same bytes in any directory: paths are replaced, and the time is that of the
# commit. Needs cargo-deb, cargo-generate-rpm and cargo-auditable, which adds the list of dependencies to each program;
# `check` needs cargo-deny and, after the first release, cargo-semver-checks.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
target=${CARGO_TARGET_DIR:-$root/target}
out=$root/target/packages
musl=x86_64-unknown-linux-musl
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
programs=(-p skiff-host --bin host-serv --bin host-cli -p skiff-device --bin device-serv)

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
cargo_home=${CARGO_HOME:-$HOME/.cargo}
remap=(--remap-path-prefix "$root=/skiff" --remap-path-prefix "$cargo_home=/cargo" --remap-path-prefix "$target=/target")
export SOURCE_DATE_EPOCH RUSTFLAGS="${RUSTFLAGS-} ${remap[*]}" CARGO_INCREMENTAL=0
# For the C and assembler sources of ring.
export CFLAGS="${CFLAGS-} -ffile-prefix-map=$root=/skiff -ffile-prefix-map=$cargo_home=/cargo -ffile-prefix-map=$target=/target"

umask 022

check() {
    local msrv last manifest
    unset RUSTFLAGS CFLAGS
    msrv=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    cargo "+$msrv.0" check --workspace --locked
    for manifest in Cargo.toml fuzz/Cargo.toml firmware/Cargo.toml examples/embassy/Cargo.toml; do
        # shellcheck disable=SC2086 # words
        cargo deny --manifest-path $manifest check ${SKIFF_DENY-}
    done
    cargo publish --dry-run --workspace --locked
    if last=$(git describe --tags --abbrev=0 --match 'v*' HEAD^ 2>/dev/null); then
        cargo semver-checks --workspace --baseline-rev "$last"
    else
        echo 'release.sh: no earlier release: no API to compare with'
    fi
}

build() {
    cargo auditable build --locked --release "${programs[@]}"
    mkdir -p "$out/man"
    for program in host-serv host-cli device-serv; do
        "$target/release/$program" man | gzip -9n >"$out/man/$program.1.gz"
    done
    for shell in bash zsh fish; do
        "$target/release/host-cli" completions $shell >"$out/host-cli.$shell"
    done
    mv "$out/host-cli.zsh" "$out/_host-cli"
}

static() {
    if ! rustup target list --installed | grep -qx $musl; then
        rustup target add $musl
    fi
    # ring needs a C compiler, but nothing of a C library.
    if ! command -v musl-gcc >/dev/null; then
        export CC_x86_64_unknown_linux_musl=gcc
    fi
    CFLAGS="$CFLAGS -U_FORTIFY_SOURCE" cargo auditable build --locked --release --target $musl "${programs[@]}"
    local name=skiff-$version-x86_64-linux
    rm -rf "${out:?}/$name"
    mkdir -p "$out/$name"
    install -m 755 "$target/$musl/release/"{host-serv,host-cli,device-serv} "$out/$name"
    install -m 644 README.md LICENSE-* "$out/$name"
    tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$out" -c "$name" |
        gzip -9n >"$out/$name.tar.gz"
    rm -rf "${out:?}/$name"
}

packages() {
    cargo deb --locked --no-build --no-strip -p skiff-host -o "$out/skiff_${version}_amd64.deb"
    # The RPM contains the times of its files: set them to that of the commit, whenever they were checked out or built.
    rm -rf "$out/rpm"
    mkdir "$out/rpm"
    cp -r "$target/release/"{host-serv,host-cli,device-serv} "$out"/{man,host-cli.bash,host-cli.fish,_host-cli} \
        packaging/host-serv.{service,default} README.md LICENSE-* "$out/rpm"
    find "$out/rpm" -exec touch -d "@$SOURCE_DATE_EPOCH" {} +
    cargo generate-rpm -p host --target-dir "$target" --payload-compress gzip \
        -o "$out/skiff-$version.x86_64.rpm"
}

checksums() {
    local program
    for program in "$target"{,/$musl}/release/{host-serv,host-cli,device-serv}; do
        readelf -S "$program" | grep -qF .dep-v0 || {
            echo "release.sh: $program does not contain its list of dependencies" >&2
            return 1
        }
    done
    cargo tree --locked --edges normal --prefix none --format '{p} {l}' -p skiff-host -p skiff-device |
        sed "s| ($root[^)]*)||; s| (\*)||; /^$/d" | sort -u >"$out/dependencies.txt"
    (cd "$out" && sha256sum ./*.deb ./*.rpm ./*.tar.gz dependencies.txt >SHA256SUMS && cat SHA256SUMS)
}

test() {
    packaging/test.sh "$out/skiff_${version}_amd64.deb" "$out/skiff-$version.x86_64.rpm" \
        "$out/skiff-$version-x86_64-linux.tar.gz"
}

reproduce() {
    local work clone
    work=$(mktemp -d)
    unset RUSTFLAGS CFLAGS CARGO_TARGET_DIR SOURCE_DATE_EPOCH
    git clone -q "$root" "$work/one"
    (cd "$work/one" && scripts/release.sh)
    (umask 077 && git clone -q "$root" "$work/another/place")
    (cd "$work/another/place" && TZ=Asia/Tokyo LC_ALL=C scripts/release.sh)
    for clone in one another/place; do
        if grep -aFl -e "$work" -e "$cargo_home" "$work/$clone"/target{,/$musl}/release/{host-serv,host-cli,device-serv}; then
            echo 'release.sh: these programs contain a path of this machine' >&2
            return 1
        fi
    done
    diff "$work"/{one,another/place}/target/packages/SHA256SUMS
    echo "release.sh: reproduced; the clones are in $work"
}

(($# > 0)) || set -- build static packages checksums
for step in "$@"; do
    case $step in
    check | build | static | packages | checksums | test | reproduce) "$step" ;;
    *)
        sed -n '2,13p' "$0" >&2
        exit 2
        ;;
    esac
done
