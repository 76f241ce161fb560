#!/bin/bash
# Takes an edge out of service without breaking a request. Run it as a preStop hook, or before you stop the edge.
#
# usage: drain.sh SECONDS [ADMIN_PORT [PAUSE]]      (9901, 0)
#
# 1. Makes the health checks fail (/ready of the admin page is 503). Envoy then closes connections after their next response, so
#    that clients connect to other edges. It continues to listen for PAUSE seconds, until load balancers send no more requests.
# 2. Makes Envoy stop listening.
# 3. Waits until no request and no stream is left, or until SECONDS are over. It does not stop Envoy.
#
# Exits with 0 if no request is left, and with 1 otherwise. It needs only bash, because the image has no HTTP client.
set -euo pipefail

seconds=${1:?usage: drain.sh SECONDS [ADMIN_PORT [PAUSE]]}
port=${2:-9901}
pause=${3:-0}

# ask METHOD PATH: prints the body of the admin page's response.
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

# Prints the number of requests and streams in flight on both listeners.
active() {
    local line
    # The lines that frame chunks do not start with the name.
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
