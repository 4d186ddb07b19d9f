#!/usr/bin/env bash
# Installs a package in a minimal Debian, runs its service under systemd, upgrades it during an upload, and removes it.
# For an archive, runs its programs in an otherwise empty root directory.
#
# usage: packaging/test.sh [--log FILE] FILE.deb|FILE.rpm|FILE.tar.gz...      (as root; needs debootstrap)
#
# The first run makes the minimal system in target/packages/root (240 MB, two minutes). A test runs in a copy of it, in
# its own namespaces, and changes nothing outside. --log writes the commands of installation, use and removal, with
# their output, to FILE.
set -euo pipefail

step() { printf '== %s\n' "$*"; }
fail() {
    printf 'FAILED: %s\n' "$*" >&2
    exit 1
}

# inside FILE NEWER: the test of a package, which runs in the copy.
inside() {
    export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 SKIFF_HISTORY= HOME=/root TERM=dumb
    local file=$1 newer=$2 program completion main
    if [[ $file == *.deb ]]; then
        install=(dpkg -i) upgrade=(dpkg -i) remove=(dpkg -r skiff) purge=(dpkg -P skiff)
        zsh=zsh/vendor-completions
    else
        # The libraries are installed, but not as RPMs.
        install=(rpm -i --nodeps) upgrade=(rpm -U --nodeps --force) remove=(rpm -e skiff) purge=(true)
        zsh=zsh/site-functions
    fi
    cd /root

    step 'not installed'
    ! command -v host-serv host-cli device-serv || fail 'the programs are on this system already'

    step 'install'
    typed "${install[*]} $(basename "$file")" "${install[@]}" "$file"
    for program in host-serv host-cli device-serv; do
        "$program" --version
        [[ -s /usr/share/man/man1/$program.1.gz ]] || fail "no manual page of $program"
    done
    for completion in bash-completion/completions/host-cli $zsh/_host-cli fish/vendor_completions.d/host-cli.fish; do
        [[ -s /usr/share/$completion ]] || fail "no /usr/share/$completion"
    done
    unit=/usr/lib/systemd/system/host-serv.service
    systemd-analyze verify --man=no $unit
    systemd-analyze security --threshold=20 host-serv | tail -n 1

    step 'start'
    ! systemctl is-active -q host-serv || fail 'it runs without having been started'
    ! systemctl is-enabled -q host-serv || fail 'it is enabled'
    typed 'systemctl enable --now host-serv' systemctl enable --now host-serv
    listening 50000
    main=$(systemctl show -P MainPID host-serv)
    grep -E '^(Uid|CapEff|NoNewPrivs|Seccomp):' "/proc/$main/status"
    [[ $(awk '/^Uid:/ { print $2 }' "/proc/$main/status") -gt 60000 ]] || fail 'it is not a dynamic user'

    step 'use'
    typed 'seq 100000 > notes.txt' eval 'seq 100000 > notes.txt'
    typed 'host-cli localhost put notes.txt' host-cli localhost put notes.txt
    typed 'host-cli localhost ls -l' host-cli localhost ls -l
    typed 'host-cli localhost get notes.txt -o copy.txt' host-cli localhost get notes.txt -o copy.txt
    typed 'cmp notes.txt copy.txt' cmp notes.txt copy.txt
    host-cli localhost tail -n 1 notes.txt | grep -qx 100000 || fail 'tail'

    step 'require keys, as the settings explain'
    if credentials_work; then
        keys
    else
        printf 'SKIPPED: systemd can not pass credentials to services here\n' >&2
    fi

    step 'upgrade, with a changed setting, during an upload'
    sed -i 's/^OPTIONS=.*/OPTIONS=-v/' /etc/default/host-serv
    head -c 3000000 /dev/urandom >big
    host-cli localhost -q put --limit-rate 1000K big &
    local upload=$!
    sleep 1
    typed "${upgrade[*]} $(basename "$newer")" "${upgrade[@]}" "$newer"
    grep -qx 'OPTIONS=-v' /etc/default/host-serv || fail 'the upgrade has replaced a setting'
    wait $upload || fail 'the upload did not survive the upgrade'
    # The old program exits after the upload.
    listening 50000
    [[ $(systemctl show -P MainPID host-serv) != "$main" ]] || fail 'the old program still runs'
    host-cli localhost -q get -f big notes.txt -o ./
    host-cli localhost sum big notes.txt
    cmp notes.txt copy.txt

    step 'remove'
    typed "${remove[*]}" "${remove[@]}"
    hash -r
    ! command -v host-serv host-cli device-serv || fail 'programs are left'
    ! systemctl is-active -q host-serv || fail 'the service still runs'
    [[ -s /var/lib/private/host-serv/notes.txt ]] || fail 'files of the server are gone'
    typed 'ls /var/lib/private/host-serv' ls /var/lib/private/host-serv

    step 'purge'
    "${purge[@]}"
    # The packages of cargo-generate-rpm own no directories, and RPM has no purge.
    if [[ $file == *.deb ]]; then also=(/var/lib) not=(-false); else also=() not=(-type d -o -name '*.rpmsave'); fi
    left=$(find /etc /usr "${also[@]}" \( -path /var/lib/dpkg -prune -o "${not[@]}" \) -o \
        \( -iname '*host-serv*' -o -iname '*host-cli*' -o -iname '*device-serv*' -o -path '*/doc/skiff*' \) -print)
    [[ -z $left ]] || fail "left: $left"
}

# True if systemd can pass credentials to a service, which does not work in every namespace.
credentials_work() {
    printf '[Service]\nType=oneshot\nDynamicUser=yes\nLoadCredential=a:/etc/hosts\nExecStart=cat ${CREDENTIALS_DIRECTORY}/a\n' \
        >/run/systemd/system/try.service
    systemctl start try 2>/dev/null
}

keys() {
    host-cli key new /etc/skiff-secret >/dev/null
    host-cli key grant --secret /etc/skiff-secret --role rw laptop -o laptop.key
    mkdir -p /run/systemd/system/host-serv.service.d
    printf '[Service]\nLoadCredential=secret:/etc/skiff-secret\n' >/run/systemd/system/host-serv.service.d/secret.conf
    cp /etc/default/host-serv settings
    sed -n 's/^# \(OPTIONS=\)/\1/p' settings >>/etc/default/host-serv
    systemctl daemon-reload
    systemctl restart host-serv
    listening 50000
    ! host-cli localhost ls 2>/dev/null || fail 'no key is needed'
    host-cli --key laptop.key localhost ls
    rm -r /run/systemd/system/host-serv.service.d
    cp settings /etc/default/host-serv
    systemctl daemon-reload
    systemctl restart host-serv
    listening 50000
}

# typed TEXT COMMAND...: runs COMMAND, and writes TEXT and the output into the log.
typed() {
    printf '$ %s\n' "$1" >>/log
    { "${@:2}" 2>&1 || echo "exit status $?"; } | tee -a /log
    ! tail -n 1 /log | grep -q '^exit status' || fail "$1"
}

listening() {
    local _
    for _ in {1..100}; do
        ! (: <"/dev/tcp/localhost/$1") 2>/dev/null || return 0
        sleep 0.1
    done
    journalctl --no-pager -u host-serv | tail -n 20
    fail "nothing listens on port $1"
}

# A copy of the minimal system that runs systemd; prints the process id.
boot() {
    local root=$1
    mount -t overlay copy -o "lowerdir=$base,upperdir=$work/upper,workdir=$work/work" "$root"
    mount -t proc proc "$root/proc"
    mount -t sysfs -o ro sysfs "$root/sys"
    # Where the host still mounts version 1 of control groups here.
    mountpoint -q "$root/sys/fs/cgroup" || mount -t tmpfs cgroup "$root/sys/fs/cgroup"
    mount -t cgroup2 cgroup "$root/sys/fs/cgroup"
    mount -t tmpfs -o mode=755 run "$root/run"
    mount -t tmpfs -o mode=755 dev "$root/dev"
    for node in null zero full random urandom tty; do
        touch "$root/dev/$node"
        mount --bind "/dev/$node" "$root/dev/$node"
    done
    mkdir "$root/dev/pts" "$root/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    : >"$root/etc/machine-id"
    printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
    ip link set lo up
    # systemd gives services their own root directory, which does not work in a chroot.
    cd "$root"
    mkdir old
    pivot_root . old
    umount -l /old
    exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd \
        --log-target=journal --show-status=false
}

package() {
    local file=$1 root=$work/root pid newer
    mkdir "$work/upper" "$work/work" "$root"
    unshare --mount --net --pid --ipc --uts --cgroup --fork --kill-child \
        "$BASH" "$0" --boot "$work" "$root" "$base" >"$work/console" 2>&1 &
    local outer=$!
    for _ in {1..300}; do
        pid=$(pgrep -P $outer || true)
        [[ -n $pid ]] && enter "$pid" systemctl is-system-running 2>/dev/null | grep -Eq 'running|degraded' && break
        kill -0 $outer 2>/dev/null || fail "systemd did not start: $(cat "$work/console")"
        sleep 0.2
    done
    enter "$pid" systemctl is-system-running
    newer=$work/newer.${file##*.}
    if [[ $file == *.deb ]]; then
        dpkg-deb -R "$file" "$work/newer"
        sed -i 's/^Version: .*/&+newer/' "$work/newer/DEBIAN/control"
        dpkg-deb -b "$work/newer" "$newer" >/dev/null
    else
        cp "$file" "$newer"
    fi
    local name to
    for name in "$file" "$newer" "$0"; do
        to=/root/$(basename "$name")
        enter "$pid" tee "$to" <"$name" >/dev/null
    done
    local status=0
    enter "$pid" bash "/root/$(basename "$0")" --inside "/root/$(basename "$file")" "/root/$(basename "$newer")" || status=$?
    [[ -z $log ]] || enter "$pid" cat /log >"$log"
    kill -KILL "$pid"
    wait $outer 2>/dev/null || true
    return $status
}

enter() { nsenter -t "$1" --mount --net --pid --ipc --uts --cgroup --root env --chdir=/ "${@:2}"; }

# Checks that the programs of an archive run without the files of a system.
archive() {
    local root=$work/root name
    mkdir "$root"
    tar -xzf "$1" -C "$root" --strip-components 1
    mkdir "$root/files"
    seq 1000 >"$root/notes.txt"
    for name in host-serv host-cli device-serv; do
        chroot "$root" "/$name" --version
    done
    unshare --net --mount --pid --fork --kill-child "$BASH" -c '
        ip link set lo up
        chroot "$1" /host-serv 50000 --root /files >"$1/port" 2>/dev/null &
        until [[ -s $1/port ]]; do sleep 0.05; done
        chroot "$1" /host-cli 127.0.0.1 50000 put /notes.txt
        chroot "$1" /host-cli 127.0.0.1 50000 get notes.txt -o /copy.txt
        cmp "$1/notes.txt" "$1/copy.txt"
    ' bash "$root"
}

case ${1-} in
--boot)
    work=$2 base=$4
    boot "$3"
    ;;
--inside)
    inside "$2" "$3"
    exit
    ;;
esac
log=
if [[ ${1-} == --log ]]; then
    log=$2
    shift 2
fi
(($# > 0)) || {
    sed -n '2,9p' "$0" >&2
    exit 2
}
if [[ ${SKIFF_MOUNTS-} != own ]]; then
    SKIFF_MOUNTS=own exec unshare --mount --propagation private "$BASH" "$0" ${log:+--log "$log"} "$@"
fi
base=$(realpath -m "$(dirname "$0")/../target/packages/root")
if [[ ! -e $base ]]; then
    # The same release as this system: the programs were linked with its C library.
    (. /etc/os-release && mkdir -p "$base.part" &&
        debootstrap --variant=minbase --include=systemd,systemd-sysv,rpm "$VERSION_CODENAME" "$base.part" >"$base.log")
    mv "$base.part" "$base"
fi
for file in "$@"; do
    work=$(mktemp -d)
    mount -t tmpfs copy "$work"
    trap 'umount -l "$work" && rmdir "$work"' EXIT
    step "$(basename "$file")"
    if [[ $file == *.tar.gz ]]; then archive "$file"; else package "$(realpath "$file")"; fi
    umount -l "$work" && rmdir "$work"
    trap - EXIT
done
step 'passed'
