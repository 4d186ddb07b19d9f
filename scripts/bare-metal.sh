#!/bin/sh
# Builds packages for a target without an operating system.
#
# usage: scripts/bare-metal.sh [--installed] [--cargo COMMAND] [--target TRIPLE] CARGO-ARGUMENTS...
#        scripts/bare-metal.sh [--installed] [--target TRIPLE] --check
#
#   scripts/bare-metal.sh -p skiff-proto --no-default-features
#   scripts/bare-metal.sh --target riscv32imac-unknown-none-elf -p skiff-proto --no-default-features
#
# COMMAND is build by default (or clippy, doc), TRIPLE thumbv7m-none-eabi. The target's `core` comes from the first of
# these that works:
#
#   1. the active toolchain, if the target is installed for it;
#   2. `rustup target add`, unless SKIFF_RUST_LIBRARY is set;
#   3. the sources of `core` in the nightly toolchain (rust-src), built with -Zbuild-std=core;
#   4. the same, with the sources named by SKIFF_RUST_LIBRARY: a folder that holds Rust's `library` folder,
#      or a .tar.xz of such a folder;
#   5. the same, with the sources in the package rust-src of Debian's suite sid, if apt is available.
#
# 4 and 5 leave the sources in the nightly toolchain, so that 3 finds them the next time. They must be of the
# same minor version as the nightly compiler. With --installed, only 1 and 3 are tried, and nothing is
# downloaded or changed. --check builds nothing; it reports whether 1, 2 or 3 would work.
#
# Exit status: cargo's, or 3 if no toolchain here can build for the target.
set -eu

say() {
    printf 'bare-metal: %s\n' "$*" >&2
}

# `timeout`, where there is one.
limited() {
    if command -v timeout >/dev/null; then
        timeout "$@"
    else
        shift
        "$@"
    fi
}

target_is_installed() {
    [ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]
}

add_target() {
    [ -z "$installed" ] || return 1
    # Whoever names sources of their own wants no download.
    [ -z "${SKIFF_RUST_LIBRARY-}" ] && command -v rustup >/dev/null || return 1
    limited 120 rustup target add "$target" >/dev/null 2>&1 && target_is_installed
}

# RUSTUP_AUTO_INSTALL=0: asking about a toolchain must not download it.
nightly_rustc() {
    RUSTUP_AUTO_INSTALL=0 rustc +nightly "$@" 2>/dev/null
}

has_sources() {
    [ -e "$sources/library/core/src/lib.rs" ]
}

# Makes the folder $1, which holds `library`, the nightly toolchain's sources.
link_sources() {
    if [ ! -e "$1/library/core/src/lib.rs" ]; then
        say "no library/core in $1"
        return 1
    fi
    if [ -e "$sources" ] && [ ! -L "$sources" ]; then
        say "$sources is there, but incomplete: not replacing it"
        return 1
    fi
    ln -sfn "$1" "$sources" || return 1
    say "linked $sources to $1; to undo it: rm $sources"
}

# Moves the one folder in $1 into the nightly toolchain and makes it its sources.
keep_sources() {
    kept=$(dirname "$sources")/skiff-library
    rm -rf "$kept" && mkdir "$kept" && mv "$1"/* "$kept" || return 1
    for unpacked in "$kept"/*; do
        link_sources "$unpacked"
        return
    done
}

sources_from_variable() {
    [ -n "${SKIFF_RUST_LIBRARY-}" ] || return 1
    if [ -d "$SKIFF_RUST_LIBRARY" ]; then
        link_sources "$(cd "$SKIFF_RUST_LIBRARY" && pwd)"
    elif [ -f "$SKIFF_RUST_LIBRARY" ]; then
        mkdir "$scratch/library" &&
            tar -C "$scratch/library" -xJf "$SKIFF_RUST_LIBRARY" &&
            keep_sources "$scratch/library"
    else
        say "SKIFF_RUST_LIBRARY names nothing that is there: $SKIFF_RUST_LIBRARY"
        return 1
    fi
}

# The addresses in apt's own configuration that look like a mirror of Debian's archive, one a line.
debian_mirrors() {
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
        sed '/^[[:space:]]*#/d' | grep -oE '[a-z+]+:/[^][:space:]]+' | grep -E '/debian(/|\.list)?$' | awk '!seen[$0]++'
}

# apt-get for sid alone, with lists and cache of its own: what the machine has configured stays as it is.
sid_apt() {
    limited 300 apt-get -q \
        -o Dir::Etc::sourcelist="$scratch/sid.list" -o Dir::Etc::sourceparts=- \
        -o Dir::State::Lists="$scratch/lists" -o Dir::Cache="$scratch/cache" \
        -o Acquire::Languages=none -o APT::Sandbox::User= -o APT::Update::Error-Mode=any "$@"
}

fetch_debian_package() {
    mkdir -p "$scratch/lists/partial" "$scratch/cache/archives/partial" "$scratch/deb" || return 1
    option=
    for keyring in /usr/share/keyrings/debian-archive-keyring.gpg /usr/share/keyrings/debian-archive-keyring.pgp; do
        if [ -e "$keyring" ]; then
            option="[signed-by=$keyring] "
            break
        fi
    done
    for mirror in $(debian_mirrors); do
        printf 'deb %s%s sid main\n' "$option" "$mirror" >"$scratch/sid.list"
        sid_apt update >"$scratch/log" 2>&1 || continue
        offered=$(apt-cache -o Dir::Etc::sourcelist="$scratch/sid.list" -o Dir::Etc::sourceparts=- \
            -o Dir::State::Lists="$scratch/lists" -o Dir::Cache="$scratch/cache" \
            show --no-all-versions rust-src 2>/dev/null | sed -n 's/^Version: //p')
        case $offered in
        "$nightly_minor".*) ;;
        *)
            say "sid has rust-src ${offered:-(none)}, but nightly is $nightly_minor: they don't match"
            return 1
            ;;
        esac
        (cd "$scratch/deb" && sid_apt download rust-src) >"$scratch/log" 2>&1 && return 0
    done
    return 1
}

sources_from_debian() {
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || return 1
    say "looking for rust-src $nightly_minor in Debian's sid"
    if ! fetch_debian_package; then
        if [ -s "$scratch/log" ]; then
            sed 's/^/    /' "$scratch/log" >&2
        fi
        return 1
    fi
    dpkg -x "$scratch"/deb/*.deb "$scratch/unpacked" && keep_sources "$scratch/unpacked/usr/src"
}

build_core_too() {
    say "$target: building core with the nightly toolchain"
    cargo +nightly "$command" -Zbuild-std=core --target "$target" "$@" && exit
    status=$?
    if [ -L "$sources" ]; then
        say "if the errors are in core itself, the linked sources don't match this nightly: rm $sources"
    fi
    exit "$status"
}

target=thumbv7m-none-eabi
installed=
command=build
while [ $# -gt 0 ]; do
    case $1 in
    --installed) installed=yes ;;
    --cargo)
        [ $# -ge 2 ] || break
        command=$2
        shift
        ;;
    --target)
        [ $# -ge 2 ] || break
        target=$2
        shift
        ;;
    *) break ;;
    esac
    shift
done
if [ $# -eq 0 ] || [ "$1" = --help ]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
    [ $# -gt 0 ] && exit 0
    exit 2
fi

if [ "$1" = --check ]; then
    target_is_installed && exit
    add_target && exit
    sysroot=$(nightly_rustc --print sysroot) && sources=$sysroot/lib/rustlib/src/rust && has_sources && exit
    exit 3
fi

if target_is_installed || add_target; then
    say "$target: installed for the active toolchain"
    exec cargo "$command" --target "$target" "$@"
fi

if sysroot=$(nightly_rustc --print sysroot); then
    sources=$sysroot/lib/rustlib/src/rust
    has_sources && build_core_too "$@"
fi
if [ -n "${sysroot-}" ] && [ -z "$installed" ]; then
    nightly_minor=$(nightly_rustc --version | sed -E 's/^rustc ([0-9]+\.[0-9]+)\..*/\1/')
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    trap 'exit 1' HUP INT TERM
    if mkdir -p "$(dirname "$sources")" && { sources_from_variable || sources_from_debian; }; then
        build_core_too "$@"
    fi
fi

cat >&2 <<MESSAGE
bare-metal: nothing here to build $target with. Any one of these will do:
  - rustup target add $target
  - rustup toolchain install nightly --component rust-src
  - a nightly toolchain, and SKIFF_RUST_LIBRARY set to Rust's sources of the same version: a folder
    that holds \`library\`, or a .tar.xz of such a folder
MESSAGE
exit 3
