#!/bin/sh
# Runs the sidecar of one sandbox in the network namespace that is the sandbox's gateway: that of a pod, or of a container.
#
# usage: sidecar.sh PLACEMENT SHARED EDGE OPTION...
#
# PLACEMENT is a folder with the files `id` and `token` of the sandbox that the platform has placed here. While there is no
# `id`, no sandbox is. SHARED is a folder for sandbox.sh: this script writes `id` there once the policy is enforced, and
# removes it when the placement ends. Only root may write in SHARED, whatever its mode was before. EDGE is the range of the
# edges: their TCP connections to this namespace's address go to the sandbox. OPTION... are further options of `sandgate-sidecar`.
set -eu

placement=${1:?usage: sidecar.sh PLACEMENT SHARED EDGE OPTION...}
shared=${2:?usage: sidecar.sh PLACEMENT SHARED EDGE OPTION...}
edge=${3:?usage: sidecar.sh PLACEMENT SHARED EDGE OPTION...}
shift 3
# sandbox.sh has the same names.
interface=sandbox0
sandbox=10.200.0.2

# An emptyDir of Kubernetes is writable for everyone. A program that can write there could put a FIFO or a link in the place of
# a file, to block these scripts or to make this one write to another file. At the first start no program runs yet: sandbox.sh
# waits for `id`.
chmod 0755 "$shared"

placed() { cat "$placement/id" 2>/dev/null || true; }

agent=
end_agent() {
    rm -f "$shared/id"
    [ -n "$agent" ] || return 0
    kill -TERM "$agent" 2>/dev/null || true
    wait "$agent" || true
    agent=
}
trap 'end_agent; exit 0' TERM INT

rm -f "$shared/id" "$shared/ready"
while :; do
    until id=$(placed) && [ -n "$id" ] && ip link show "$interface" >/dev/null 2>&1; do sleep 0.2; done
    # Repeated, because the former sandbox may have had another interface of this name.
    nft -f - <<RULES
add table ip sandgate_inbound
delete table ip sandgate_inbound
table ip sandgate_inbound {
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    iifname != { "lo", "$interface" } ip saddr $edge meta l4proto tcp fib daddr type local dnat to $sandbox
  }
}
RULES
    sandgate-sidecar --sandbox-interface "$interface" --sandbox "$id" --token-file "$placement/token" \
        --edge "$edge" --ready-file "$shared/ready" "$@" &
    agent=$!
    until [ -e "$shared/ready" ] || ! kill -0 "$agent" 2>/dev/null; do sleep 0.1; done
    # The sandbox starts only now, so it has no moment without its policy.
    [ ! -e "$shared/ready" ] || { printf '%s\n' "$id" >"$shared/id.new" && mv "$shared/id.new" "$shared/id"; }
    while [ "$(placed)" = "$id" ] && kill -0 "$agent" 2>/dev/null; do sleep 0.2; done
    if [ "$(placed)" = "$id" ]; then
        # Nothing passes without the agent; the sandbox continues to run.
        wait "$agent" || echo "sidecar.sh: sandgate-sidecar ended with $?; it is started again" >&2
        agent=
        sleep 1
    else
        # sandbox.sh ends, and its interface with it, before the platform places another sandbox here.
        end_agent
    fi
done
