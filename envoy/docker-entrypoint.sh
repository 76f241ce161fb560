#!/bin/sh
# Renders the edge's configuration from the environment, runs Envoy, and drains it on SIGTERM.
set -eu
here=$(dirname "$0")

# Others may write to the folder around this one, and the gateway token will be in it: nobody can know its name
# before, and only its owner can open it.
umask 077
run=$(mktemp -d "${TMPDIR:-/tmp}/sandgate.XXXXXXXXXX")
trap 'rm -rf "$run"' EXIT
# Set SANDGATE_GATEWAY_TOKEN_SDS instead of SANDGATE_GATEWAY_TOKEN to rotate the token without a restart.
sandgate-edge-config "$here" "$run"
unset SANDGATE_GATEWAY_TOKEN

envoy -c "$run/edge.yaml" "$@" &
envoy=$!

stop() {
    trap '' TERM INT
    # Envoy's exit ends the requests that are in flight after SANDGATE_DRAIN_SECONDS.
    bash "$here/drain.sh" "${SANDGATE_DRAIN_SECONDS:-20}" "${SANDGATE_ADMIN_PORT:-9901}" "${SANDGATE_DRAIN_PAUSE:-3}" || true
    kill -TERM "$envoy" || true
}
trap stop TERM INT

status=0
wait "$envoy" || status=$?
# A signal ends `wait` while Envoy still runs.
while kill -0 "$envoy" 2>/dev/null; do
    status=0
    wait "$envoy" || status=$?
done
exit "$status"
