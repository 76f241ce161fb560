#!/bin/bash
# Runs `sandgate` with the connection string of the database from a file, because secrets are mounted as files.
#
# usage: control-plane.sh ARGUMENT...      SANDGATE_DATABASE_FILE names the file
set -euo pipefail

if [ -n "${SANDGATE_DATABASE_FILE:-}" ]; then
    SANDGATE_DATABASE=$(<"$SANDGATE_DATABASE_FILE")
    export SANDGATE_DATABASE
fi
exec sandgate "$@"
