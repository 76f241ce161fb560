#!/bin/sh
# Renders the edge's configuration from the environment, runs Envoy, and drains it on SIGTERM.
set -eu
here=$(dirname "$0")

: "${SANDGATE_DOMAIN:?the domain of the sandboxes, like sandbox.example.com}"
: "${SANDGATE_SANDBOX_NETWORK:?the network of the sandboxes, like 10.64.0.0; with SANDGATE_SANDBOX_PREFIX_LEN}"
: "${SANDGATE_SANDBOX_PREFIX_LEN:?length of SANDGATE_SANDBOX_NETWORK in bits, like 16}"
: "${SANDGATE_CONTROL_PLANE_ADDRESS:?name or address of the control plane}"

export SANDGATE_DOMAIN SANDGATE_SANDBOX_NETWORK SANDGATE_SANDBOX_PREFIX_LEN SANDGATE_CONTROL_PLANE_ADDRESS
export SANDGATE_SECOND_DOMAIN="${SANDGATE_SECOND_DOMAIN:-local}"
case $SANDGATE_DOMAIN in
  # Where Tensorlake's clients look for it.
  sandbox.*) SANDGATE_API_HOST=${SANDGATE_API_HOST:-api.${SANDGATE_DOMAIN#sandbox.}} ;;
  *) SANDGATE_API_HOST=${SANDGATE_API_HOST:-api.localhost} ;;
esac
export SANDGATE_API_HOST
export SANDGATE_EDGE_ADDRESS="${SANDGATE_EDGE_ADDRESS:-0.0.0.0}"
export SANDGATE_EDGE_PORT="${SANDGATE_EDGE_PORT:-9443}"
export SANDGATE_EDGE_TLS_PORT="${SANDGATE_EDGE_TLS_PORT:-9444}"
export SANDGATE_LISTENER_FILTERS="${SANDGATE_LISTENER_FILTERS:-[]}"
export SANDGATE_TRUSTED_HOPS="${SANDGATE_TRUSTED_HOPS:-0}"
export SANDGATE_ADMIN_PORT="${SANDGATE_ADMIN_PORT:-9901}"
export SANDGATE_API_PORT="${SANDGATE_API_PORT:-8900}"
export SANDGATE_GATEWAY_PORT="${SANDGATE_GATEWAY_PORT:-8901}"
export SANDGATE_WASM="${SANDGATE_WASM:-$here/sandgate_ingress.wasm}"
export SANDGATE_STREAM_IDLE_TIMEOUT="${SANDGATE_STREAM_IDLE_TIMEOUT:-3600s}"
export SANDGATE_TRUSTED_ORIGINS="${SANDGATE_TRUSTED_ORIGINS:-[]}"
export SANDGATE_INGRESS_LIMITS="${SANDGATE_INGRESS_LIMITS:-{\}}"
export SANDGATE_EDGE_HEAP="${SANDGATE_EDGE_HEAP:-2147483648}"
export SANDGATE_EDGE_CONNECTIONS="${SANDGATE_EDGE_CONNECTIONS:-50000}"
export SANDGATE_EDGE_LOG="${SANDGATE_EDGE_LOG:-$here/edge-log.yaml}"

# Its name can't be known before: the gateway token and the configuration are there, and others may write to
# the folder around it.
umask 077
run=$(mktemp -d "${TMPDIR:-/tmp}/sandgate.XXXXXXXXXX")
trap 'rm -rf "$run"' EXIT
if [ -z "${SANDGATE_GATEWAY_TOKEN_SDS:-}" ]; then
    # Mount a file and name it in SANDGATE_GATEWAY_TOKEN_SDS to rotate the token without a restart.
    : "${SANDGATE_GATEWAY_TOKEN:?the credential for the gateway API; or SANDGATE_GATEWAY_TOKEN_SDS, a file}"
    export SANDGATE_GATEWAY_TOKEN
    sh "$here/render.sh" "$here/gateway-token.yaml" > "$run/gateway-token.yaml"
    unset SANDGATE_GATEWAY_TOKEN
    export SANDGATE_GATEWAY_TOKEN_SDS="$run/gateway-token.yaml"
fi
if [ -z "${SANDGATE_TLS_SDS:-}" ]; then
    export SANDGATE_TLS_SDS="$run/tls-certificate.yaml"
    if [ -n "${SANDGATE_TLS_DIR:-}" ]; then
        export SANDGATE_TLS_DIR
        sh "$here/render.sh" "$here/tls-certificate.yaml" > "$SANDGATE_TLS_SDS"
    else
        # No certificate: the TLS port ends every handshake.
        echo 'resources: []' > "$SANDGATE_TLS_SDS"
    fi
fi
sh "$here/render.sh" "$here/edge.yaml" > "$run/edge.yaml"

envoy -c "$run/edge.yaml" "$@" &
envoy=$!

stop() {
    trap '' TERM INT
    # What is left after that time is cut off.
    bash "$here/drain.sh" "${SANDGATE_DRAIN_SECONDS:-20}" "$SANDGATE_ADMIN_PORT" "${SANDGATE_DRAIN_PAUSE:-3}" || true
    kill -TERM "$envoy" || true
}
trap stop TERM INT

status=0
wait "$envoy" || status=$?
# A signal ends `wait`, and Envoy is still there.
while kill -0 "$envoy" 2>/dev/null; do
    status=0
    wait "$envoy" || status=$?
done
exit "$status"
