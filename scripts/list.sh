#!/bin/sh
# Prints the name of each function, one a line.
set -eu
. "$(dirname -- "$(readlink -f -- "$0")")/management.sh"

if [ $# -ne 0 ]; then
    printf 'usage: list.sh\nexample: ./scripts/list.sh\n' >&2
    exit 2
fi
need curl
ask /list
