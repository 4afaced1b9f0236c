#!/bin/sh
# Prints the log of one function, or of all.
set -eu
. "$(dirname -- "$(readlink -f -- "$0")")/management.sh"

if [ $# -gt 1 ]; then
    printf 'usage: logs.sh [NAME]\nexample: ./scripts/logs.sh "sieve"\n' >&2
    exit 2
fi
need curl
if [ $# -eq 1 ]; then
    ask /logs --get --data-urlencode "name=$1"
else
    ask /logs
fi
