#!/bin/sh
# Fills a template in: `render.sh edge.yaml > edge.rendered.yaml`. Values come from the environment.
# A name without a value is an error, never an empty string.
set -eu
exec awk '
{
    out = ""; rest = $0
    while (match(rest, /\$\{[A-Z_]+\}/)) {
        name = substr(rest, RSTART + 2, RLENGTH - 3)
        if (!(name in ENVIRON)) {
            printf "%s:%d: %s has no value; set it in the environment\n", FILENAME, FNR, name > "/dev/stderr"
            exit 1
        }
        # What was put in is not looked at again.
        out = out substr(rest, 1, RSTART - 1) ENVIRON[name]
        rest = substr(rest, RSTART + RLENGTH)
    }
    print out rest
}' "$1"
