#!/bin/sh
# Removes a function.
set -eu
. "$(dirname -- "$(readlink -f -- "$0")")/management.sh"

if [ $# -ne 1 ]; then
    printf 'usage: delete.sh NAME\nexample: ./scripts/delete.sh "sieve"\n' >&2
    exit 2
fi
need curl
printf '{"name":%s}' "$(json_string "$1")" | post /delete
