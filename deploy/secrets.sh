#!/usr/bin/env bash
# Makes the secrets that compose.yaml and the Kubernetes manifests read, each in a file of its own. Files that are there stay.
#
# usage: deploy/secrets.sh FOLDER [DOMAIN]      (sandbox.localhost)
#
# The certificates of the edges (FOLDER/tls) and of the control plane (FOLDER/control-plane) are signed by test authorities that
# this script makes and whose keys it throws away. For production, put a certificate for *.DOMAIN, DOMAIN and the API's host
# into FOLDER/tls before you run this script, or replace it later.
set -euo pipefail

folder=${1:?usage: deploy/secrets.sh FOLDER [DOMAIN]}
domain=${2:-sandbox.localhost}
envoy=$(cd "$(dirname "${BASH_SOURCE[0]}")/../envoy" && pwd)

# Nobody else can enter the folder. The files in it can be read by anyone, because a container reads them as its own user.
mkdir -p "$folder"
chmod 0700 "$folder"
umask 022

# make NAME: writes what the standard input has, unless the file is there.
make() {
    if [ -e "$folder/$1" ]; then
        cat >/dev/null
    else
        cat >"$folder/$1.new"
        mv "$folder/$1.new" "$folder/$1"
    fi
}
random() { openssl rand -hex 32; }

random | make gateway-token
random | make database-password
random | make webhook-secret
random | make xds-key
# Hexadecimal digits have no meaning in a URL, in YAML, or in sed.
token=$(head -n 1 "$folder/gateway-token")
sed "s/\${SANDGATE_GATEWAY_TOKEN}/$token/; /^#/d" "$envoy/gateway-token.yaml" | make gateway-token.yaml
printf 'postgres://sandgate:%s@postgres/sandgate?sslmode=disable\n' "$(<"$folder/database-password")" | make database-url

# certificate FOLDER NAME...: makes a certificate for the names, and an authority that has signed it. Files that are there stay.
certificate() {
    local place=$folder/$1 names
    shift
    mkdir -p "$place"
    [ ! -e "$place/tls.crt" ] || return 0
    names=$(printf ',DNS:%s' "$@")
    local work
    work=$(mktemp -d)
    local key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes)
    openssl req -x509 "${key[@]}" -days 365 -keyout "$work/ca.key" -out "$work/ca.crt" -subj '/CN=Sandgate test authority' 2>/dev/null
    openssl req "${key[@]}" -keyout "$work/tls.key" -out "$work/tls.csr" -subj "/CN=$1" 2>/dev/null
    printf 'subjectAltName=%s\n' "${names#,}" | openssl x509 -req -in "$work/tls.csr" -CA "$work/ca.crt" -CAkey "$work/ca.key" \
        -CAcreateserial -CAserial "$work/serial" -days 365 -extfile /dev/stdin -out "$work/tls.crt" 2>/dev/null
    install -m 0644 "$work"/{ca.crt,tls.key,tls.crt} "$place"
    rm -rf "$work"
}

case $domain in
    sandbox.*) api=api.${domain#sandbox.} ;;
    *) api=api.$domain ;;
esac
certificate tls "$domain" "*.$domain" "$api"
# The names of compose.yaml and of the manifests.
certificate control-plane control-plane sandgate-control-plane sandgate-control-plane.sandgate.svc
