#!/usr/bin/env bash
# Makes the secrets that compose.yaml and the Kubernetes manifests read, each in a file of its own. Files that are there stay.
#
# usage: deploy/secrets.sh FOLDER [DOMAIN]      (sandbox.localhost)
#
# The certificate is signed by a test authority that this script makes and whose key it throws away. For production, put a
# certificate for *.DOMAIN, DOMAIN and the API's host into FOLDER/tls before you run this script, or replace it later.
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

mkdir -p "$folder/tls"
if [ ! -e "$folder/tls/tls.crt" ]; then
    case $domain in
        sandbox.*) api=api.${domain#sandbox.} ;;
        *) api=api.$domain ;;
    esac
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -keyout "$work/ca.key" \
        -out "$folder/tls/ca.crt" -subj '/CN=Sandgate test authority' 2>/dev/null
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$work/tls.key" \
        -out "$work/tls.csr" -subj "/CN=$domain" 2>/dev/null
    printf 'subjectAltName=DNS:*.%s,DNS:%s,DNS:%s\n' "$domain" "$domain" "$api" |
        openssl x509 -req -in "$work/tls.csr" -CA "$folder/tls/ca.crt" -CAkey "$work/ca.key" -CAcreateserial \
            -CAserial "$work/serial" -days 365 -extfile /dev/stdin -out "$work/tls.crt" 2>/dev/null
    install -m 0644 "$work/tls.key" "$folder/tls/tls.key"
    install -m 0644 "$work/tls.crt" "$folder/tls/tls.crt"
fi
