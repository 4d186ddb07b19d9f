#!/usr/bin/env bash
# Runs the tests of tests/objects against a real S3 server on free loopback ports, with its files in a temporary
# directory.
#
# usage: scripts/objects-servers.sh garage|ceph [ARGUMENT OF cargo test]...
#
#   garage  needs the program `garage` in PATH (cargo install garage --locked)
#   ceph    needs ceph-mon, ceph-mgr, ceph-osd and radosgw (Debian: apt install ceph-mon ceph-mgr ceph-osd radosgw)
#
# Without ARGUMENTs, it prints which conditions the server honors, then runs the storage suite and, if several instances
# may serve the storage, the test of uploads through several instances. Needs curl 7.75 or newer.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
pids=()
stop() {
    ((${#pids[@]} == 0)) || kill -9 "${pids[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap stop EXIT

# start NAME COMMAND...: runs COMMAND in the background.
start() {
    local name=$1
    shift
    "$@" >"$work/$name.log" 2>&1 &
    pids+=($!)
}

# until_ok SECONDS COMMAND...: repeats the command until it succeeds.
until_ok() {
    local end=$((SECONDS + $1))
    shift
    until timeout 20 "$@" >"$work/until.log" 2>&1; do
        if ((SECONDS >= end)); then
            printf '%s: failed: %s\n' "$0" "$*" >&2
            tail -n 20 "$work"/*.log >&2
            exit 1
        fi
        sleep 0.3
    done
}

needs() {
    local program
    for program in curl "$@"; do
        command -v "$program" >/dev/null && continue
        printf '%s: %s is not installed\n' "$0" "$program" >&2
        exit 2
    done
}

free_ports() {
    python3 - "$1" <<'PYTHON'
import socket, sys
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*[s.getsockname()[1] for s in sockets])
PYTHON
}

hex() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

garage() {
    needs garage
    local ports node
    read -ra ports < <(free_ports 3)
    export GARAGE_CONFIG_FILE=$work/garage.toml GARAGE_RPC_SECRET
    GARAGE_RPC_SECRET=$(hex 32)
    cat >"$GARAGE_CONFIG_FILE" <<TOML
metadata_dir = "$work/meta"
data_dir = "$work/data"
db_engine = "lmdb"
replication_factor = 1
rpc_bind_addr = "127.0.0.1:${ports[0]}"
rpc_public_addr = "127.0.0.1:${ports[0]}"
[s3_api]
s3_region = "us-east-1"
api_bind_addr = "127.0.0.1:${ports[1]}"
[admin]
api_bind_addr = "127.0.0.1:${ports[2]}"
TOML
    start garage command garage server
    until_ok 30 env garage status
    node=$(command garage node id -q | cut -d@ -f1)
    env garage layout assign -z dc1 -c 10G "$node" >/dev/null
    env garage layout apply --version 1 >/dev/null
    AWS_ACCESS_KEY_ID=GK$(hex 12)
    AWS_SECRET_ACCESS_KEY=$(hex 32)
    until_ok 30 env garage key import --yes "$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY"
    until_ok 30 env garage bucket create skiff
    env garage bucket allow --read --write --owner skiff --key "$AWS_ACCESS_KEY_ID" >/dev/null
    SKIFF_S3_ENDPOINT=http://127.0.0.1:${ports[1]}
}

ceph() {
    needs ceph-mon ceph-mgr ceph-osd ceph-authtool monmaptool radosgw radosgw-admin
    local ports fsid conf=$work/ceph.conf
    read -ra ports < <(free_ports 2)
    fsid=$(cat /proc/sys/kernel/random/uuid)
    mkdir "$work/mon" "$work/mgr" "$work/osd" "$work/rgw"
    # One monitor, one manager, and one daemon that keeps objects in memory.
    cat >"$conf" <<CONF
[global]
fsid = $fsid
mon host = v2:127.0.0.1:${ports[0]}
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
keyring = $work/keyring
mon data = $work/mon
mon allow pool size one = true
mon data avail warn = 1
mgr data = $work/mgr
mgr initial modules =
osd data = $work/osd
osd objectstore = memstore
memstore device bytes = 2147483648
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
rgw data = $work/rgw
rgw frontends = beast endpoint=127.0.0.1:${ports[1]}
run dir = $work
admin socket = $work/\$name.asok
log file = $work/\$name.ceph
CONF
    monmaptool --create --fsid "$fsid" --addv a "[v2:127.0.0.1:${ports[0]}]" "$work/monmap" >/dev/null
    local name
    ceph-authtool --create-keyring "$work/keyring" >/dev/null
    for name in mon. mgr.x osd.0 client.admin client.rgw; do
        ceph-authtool "$work/keyring" --gen-key -n "$name" --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
    done
    ceph-mon -c "$conf" -i a --mkfs --monmap "$work/monmap" --keyring "$work/keyring"
    start mon ceph-mon -c "$conf" -i a -f
    until_ok 60 env ceph -c "$conf" --connect-timeout 10 -s
    start mgr ceph-mgr -c "$conf" -i x -f
    local uuid
    uuid=$(cat /proc/sys/kernel/random/uuid)
    env ceph -c "$conf" osd create "$uuid" >/dev/null
    ceph-osd -c "$conf" -i 0 --mkfs --osd-uuid "$uuid" >"$work/mkfs.log" 2>&1
    start osd ceph-osd -c "$conf" -i 0 -f
    until_ok 60 sh -c "env ceph -c '$conf' osd stat | grep -q '1 up'"
    AWS_ACCESS_KEY_ID=$(hex 10)
    AWS_SECRET_ACCESS_KEY=$(hex 20)
    timeout 120 radosgw-admin -c "$conf" user create --uid skiff --display-name skiff \
        --access-key "$AWS_ACCESS_KEY_ID" --secret-key "$AWS_SECRET_ACCESS_KEY" >"$work/user.log" 2>&1
    start radosgw radosgw -c "$conf" -n client.rgw -f
    SKIFF_S3_ENDPOINT=http://127.0.0.1:${ports[1]}
    local empty=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
    until_ok 120 curl -sSf -X PUT -H "x-amz-content-sha256: $empty" --aws-sigv4 aws:amz:us-east-1:s3 \
        --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" "$SKIFF_S3_ENDPOINT/skiff"
}

case ${1-} in
garage | ceph) "$1" ;;
*)
    sed -n 's/^# usage: /usage: /p' "$0" >&2
    exit 2
    ;;
esac
shift
export SKIFF_S3_ENDPOINT AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY SKIFF_S3_BUCKET=skiff
tests=(cargo test --manifest-path tests/objects/Cargo.toml --target-dir "${CARGO_TARGET_DIR:-target/objects}" --locked)
if (($# > 0)); then
    "${tests[@]}" "$@"
    exit
fi
"${tests[@]}" --test storage several_instances_may -- --nocapture | tee "$work/promises"
"${tests[@]}" --test storage a_listing_of_several_pages
"${tests[@]}" --test suite s3::
if grep -q '^several instances: yes' "$work/promises"; then
    "${tests[@]}" --test server an_upload_continues_through_another_instance
    "${tests[@]}" --test fleet three_instances -- --nocapture
fi
