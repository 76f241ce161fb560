#!/bin/bash
# Takes an edge out of service without breaking a request: a preStop hook, or what to run before a stop.
#
# usage: drain.sh SECONDS [ADMIN_PORT [PAUSE]]      (9901, 0)
#
# 1. Its health checks fail (/ready on the admin page is 503), and connections are closed behind their
#    next response, so that clients go elsewhere. For PAUSE seconds it goes on listening: until load
#    balancers send no more to it.
# 2. It stops listening.
# 3. It waits until no request and no stream is left, or SECONDS are over. Stopping Envoy is up to you.
#
# Exits with 0 when nothing is left, with 1 when something would be cut off by a stop. It needs bash
# alone: the image has no HTTP client.
set -euo pipefail

seconds=${1:?usage: drain.sh SECONDS [ADMIN_PORT [PAUSE]]}
port=${2:-9901}
pause=${3:-0}

# ask METHOD PATH: the body of the admin page's answer.
ask() {
    local head=true line
    { exec 3<>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null || return 0
    printf '%s %s HTTP/1.1\r\nhost: admin\r\ncontent-length: 0\r\nconnection: close\r\n\r\n' "$1" "$2" >&3
    while IFS= read -r line <&3 || [ -n "$line" ]; do
        line=${line%$'\r'}
        if ! $head; then
            printf '%s\n' "$line"
        elif [ -z "$line" ]; then
            head=false
        fi
    done
    exec 3>&-
}

# Requests and streams that are under way, on both listeners.
active() {
    local line
    # Chunks are framed by lines of their own, which the name tells apart.
    while IFS= read -r line; do
        case $line in
            http.edge.downstream_rq_active:*) printf '%s\n' "${line#*: }" && return ;;
        esac
    done < <(ask GET '/stats?filter=^http.edge.downstream_rq_active$')
    echo "drain.sh: no admin page of an edge answers on port $port; name its port: drain.sh SECONDS PORT" >&2
    return 1
}

left=$(active)
ask POST /healthcheck/fail >/dev/null
sleep "$pause"
ask POST /drain_listeners >/dev/null
deadline=$((SECONDS + seconds))
until [ "$left" = 0 ]; do
    if [ "$SECONDS" -ge "$deadline" ]; then
        echo "drain.sh: $left requests and streams are left after $seconds s" >&2
        exit 1
    fi
    sleep 0.2
    left=$(active)
done
