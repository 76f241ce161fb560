#!/bin/bash
# Exits with 0 if a server of this container answers GET PATH with 200 or, without PATH, accepts a connection: a server that speaks
# TLS can be asked no more. It needs only bash, because the images have no HTTP client.
#
# usage: answers.sh PORT [PATH]
set -euo pipefail

port=${1:?usage: answers.sh PORT [PATH]}
path=${2:-}

exec 3<>"/dev/tcp/127.0.0.1/$port"
[ -n "$path" ] || exit 0
printf 'GET %s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n' "$path" >&3
IFS= read -r line <&3
case $line in
    'HTTP/1.1 200 '*) ;;
    *)
        echo "port $port answers GET $path with ${line%$'\r'}" >&2
        exit 1
        ;;
esac
