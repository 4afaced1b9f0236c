#!/bin/sh
# Removes every function.
set -eu
. "$(dirname -- "$(readlink -f -- "$0")")/management.sh"

if [ $# -ne 0 ]; then
    printf 'usage: wipe-functions.sh\nexample: ./scripts/wipe-functions.sh\n' >&2
    exit 2
fi
need curl
ask /wipe --request POST
