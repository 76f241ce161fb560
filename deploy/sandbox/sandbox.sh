#!/bin/sh
# Runs a program as a sandbox: in a network namespace of its own, behind the namespace in which this script is started.
#
# usage: sandbox.sh SHARED PROGRAM ARGUMENT...
#
# This script needs SYS_ADMIN, NET_ADMIN, SETUID, SETGID and SETPCAP to make the namespace and to give them up. PROGRAM runs as
# user 1000 without any capability, except in user namespaces that it makes itself. It starts when sidecar.sh says in SHARED that
# the policy is enforced, and gets the sandbox's id in the variable SANDBOX_ID. If it could write in SHARED, it is not started. The
# script ends with the placement, and with it all processes of its container; the engine starts it again.
set -eu

shared=${1:?usage: sandbox.sh SHARED PROGRAM ARGUMENT...}
shift
# sidecar.sh has the same names.
interface=sandbox0
gateway=10.200.0.1
sandbox=10.200.0.2

# What is left of the former run, whose namespace the kernel may not have removed yet.
ip link delete "$interface" 2>/dev/null || true
rm -f "$shared/running"
unshare --net sleep infinity &
holder=$!
trap 'exit 0' TERM INT
own=$(readlink /proc/self/ns/net)
while [ "$(readlink "/proc/$holder/ns/net")" = "$own" ]; do sleep 0.05; done
inside() { nsenter --net="/proc/$holder/ns/net" "$@"; }

ip link add "$interface" type veth peer name eth0 netns "$holder"
ip address add "$gateway/30" dev "$interface"
ip link set "$interface" up
inside ip link set lo up
inside ip address add "$sandbox/30" dev eth0
inside ip link set eth0 up
inside ip route add default via "$gateway"

until [ -s "$shared/id" ]; do sleep 0.1; done
SANDBOX_ID=$(cat "$shared/id")
export SANDBOX_ID
as_program() {
    inside setpriv --reuid 1000 --regid 1000 --clear-groups --bounding-set -all --inh-caps -all --ambient-caps -all \
        --no-new-privs -- "$@"
}
# sidecar.sh has closed the folder. A program that can write there can outlive its placement.
as_program sh -c '[ ! -w "$1" ]' sh "$shared" || {
    echo "sandbox.sh: user 1000 can write in $shared; its owner must be root, and its mode 0755" >&2
    exit 1
}
as_program "$@" &
program=$!
printf '%s\n' "$SANDBOX_ID" >"$shared/running"

while [ "$(cat "$shared/id" 2>/dev/null)" = "$SANDBOX_ID" ] && [ -d "/proc/$program" ]; do sleep 0.2; done
# In this order: a platform may place another sandbox here once there is no `running`.
ip link delete "$interface"
rm -f "$shared/running"
