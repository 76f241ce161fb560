#!/usr/bin/env bash
# Creates the network namespace NAME with these addresses on its loopback interface. No link connects it to the machine.
#
# usage: tests/stack/internet.sh NAME ADDRESS...
#
# Prints `built`, and keeps the namespace until it receives SIGTERM, SIGINT or SIGHUP. (The kernel sends SIGTERM if the parent
# is killed.) A namespace of an earlier run with the same NAME is removed first. Needs root.

set -euo pipefail

name=$1
shift

clean() {
  local pid
  [ -e "/run/netns/$name" ] || return 0
  # A program that still runs in the namespace would keep it alive.
  for pid in $(ip netns pids "$name" 2>/dev/null); do kill -KILL "$pid" 2>/dev/null || true; done
  ip netns del "$name" || true
}

trap 'exit 0' TERM INT HUP
trap 'trap "" TERM INT HUP; clean' EXIT
clean
ip netns add "$name"
ip -n "$name" link set lo up
for address in "$@"; do
  ip -n "$name" addr add "$address/32" dev lo
done

echo built
# In the background, because a shell handles signals during `wait`, but not while a program runs in the foreground.
setpriv --pdeathsig KILL sleep infinity &
wait
