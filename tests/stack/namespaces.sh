#!/usr/bin/env bash
# Creates three network namespaces that are connected by veth pairs only, so no packet reaches this machine's network.
#
#   PREFIX-sandbox 192.0.2.2 ── 192.0.2.1 PREFIX-gateway 198.51.100.2 ── 198.51.100.1 PREFIX-internet, and ADDRESS…
#
# usage: tests/stack/namespaces.sh PREFIX RESOLVER ADDRESS...
#
# Prints `built`, and keeps the namespaces until it receives SIGTERM, SIGINT or SIGHUP. (The kernel sends SIGTERM if the
# parent is killed.) Programs in PREFIX-sandbox use RESOLVER for DNS. Namespaces of an earlier run with the same PREFIX
# are removed first. Also creates the folder /run/PREFIX. Needs root.

set -euo pipefail

prefix=$1 resolver=$2
shift 2

clean() {
  local name pid
  for name in sandbox gateway internet; do
    [ -e "/run/netns/$prefix-$name" ] || continue
    # A program that still runs in the namespace would keep it alive.
    for pid in $(ip netns pids "$prefix-$name" 2>/dev/null); do kill -KILL "$pid" 2>/dev/null || true; done
    ip netns del "$prefix-$name" || true
  done
  rm -rf "/etc/netns/$prefix-sandbox" "/run/$prefix"
  rmdir /etc/netns 2>/dev/null || true
}

inside() { ip netns exec "$prefix-$1" "${@:2}"; }
set_up() { ip -n "$prefix-$1" "${@:2}"; }

trap 'exit 0' TERM INT HUP
trap 'trap "" TERM INT HUP; clean' EXIT
clean
for name in sandbox gateway internet; do
  ip netns add "$prefix-$name"
  set_up "$name" link set lo up
done
ip link add eth0 netns "$prefix-sandbox" type veth peer name sandbox0 netns "$prefix-gateway"
ip link add eth0 netns "$prefix-gateway" type veth peer name eth0 netns "$prefix-internet"
set_up sandbox addr add 192.0.2.2/30 dev eth0
set_up gateway addr add 192.0.2.1/30 dev sandbox0
set_up gateway addr add 198.51.100.2/30 dev eth0
set_up internet addr add 198.51.100.1/30 dev eth0
for link in sandbox:eth0 gateway:sandbox0 gateway:eth0 internet:eth0; do
  set_up "${link%%:*}" link set "${link##*:}" up
done
set_up sandbox route add default via 192.0.2.1
set_up gateway route add default via 198.51.100.1
# The route back to the sandbox. The sidecar decides which connections may reach it.
set_up internet route add 192.0.2.0/30 via 198.51.100.2
for address in "$resolver" "$@"; do
  set_up internet addr add "$address/32" dev lo
done
# A new namespace may inherit this setting from the machine. The gateway starts without forwarding; the sidecar enables it.
inside gateway sysctl -qw net.ipv4.ip_forward=0

# `ip netns exec` mounts these files over those in /etc. Names are resolved by DNS, and not by services of this machine.
mkdir -p "/etc/netns/$prefix-sandbox"
printf 'nameserver %s\noptions timeout:2 attempts:1\n' "$resolver" >"/etc/netns/$prefix-sandbox/resolv.conf"
[ ! -e /etc/nsswitch.conf ] || printf 'hosts: files dns\n' >"/etc/netns/$prefix-sandbox/nsswitch.conf"
# The folder that Envoy's user must be able to access.
mkdir -m 755 "/run/$prefix"

echo built
# In the background, because a shell handles signals during `wait`, but not while a program runs in the foreground.
setpriv --pdeathsig KILL sleep infinity &
wait
