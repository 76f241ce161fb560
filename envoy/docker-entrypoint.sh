#!/bin/sh
# Renders the edge's configuration from the environment, then becomes Envoy.
set -eu

: "${SANDGATE_DOMAIN:?the domain of the sandboxes, like sandbox.example.com}"
: "${SANDGATE_SANDBOX_NETWORK:?the network of the sandboxes, like 10.64.0.0; with SANDGATE_SANDBOX_PREFIX_LEN}"
: "${SANDGATE_SANDBOX_PREFIX_LEN:?length of SANDGATE_SANDBOX_NETWORK in bits, like 16}"
: "${SANDGATE_CONTROL_PLANE_ADDRESS:?name or address of the control plane}"

export SANDGATE_DOMAIN SANDGATE_SANDBOX_NETWORK SANDGATE_SANDBOX_PREFIX_LEN SANDGATE_CONTROL_PLANE_ADDRESS
export SANDGATE_SECOND_DOMAIN="${SANDGATE_SECOND_DOMAIN:-local}"
export SANDGATE_EDGE_ADDRESS="${SANDGATE_EDGE_ADDRESS:-0.0.0.0}"
export SANDGATE_EDGE_PORT="${SANDGATE_EDGE_PORT:-9443}"
export SANDGATE_ADMIN_PORT="${SANDGATE_ADMIN_PORT:-9901}"
export SANDGATE_API_PORT="${SANDGATE_API_PORT:-8900}"
export SANDGATE_GATEWAY_PORT="${SANDGATE_GATEWAY_PORT:-8901}"
export SANDGATE_WASM="${SANDGATE_WASM:-/etc/sandgate/sandgate_ingress.wasm}"
export SANDGATE_STREAM_IDLE_TIMEOUT="${SANDGATE_STREAM_IDLE_TIMEOUT:-3600s}"
export SANDGATE_TRUSTED_ORIGINS="${SANDGATE_TRUSTED_ORIGINS:-[]}"
export SANDGATE_INGRESS_LIMITS="${SANDGATE_INGRESS_LIMITS:-{\}}"

umask 077
run=/tmp/sandgate
mkdir -p "$run"
if [ -z "${SANDGATE_GATEWAY_TOKEN_SDS:-}" ]; then
    # Mount a file and name it in SANDGATE_GATEWAY_TOKEN_SDS to rotate the token without a restart.
    : "${SANDGATE_GATEWAY_TOKEN:?the credential for the gateway API; or SANDGATE_GATEWAY_TOKEN_SDS, a file}"
    export SANDGATE_GATEWAY_TOKEN
    /etc/sandgate/render.sh /etc/sandgate/gateway-token.yaml > "$run/gateway-token.yaml"
    unset SANDGATE_GATEWAY_TOKEN
    export SANDGATE_GATEWAY_TOKEN_SDS="$run/gateway-token.yaml"
fi
/etc/sandgate/render.sh /etc/sandgate/edge.yaml > "$run/edge.yaml"
exec envoy -c "$run/edge.yaml" "$@"
