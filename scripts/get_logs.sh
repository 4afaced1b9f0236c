#!/bin/sh
# The older name of logs.sh.
set -eu
exec "$(dirname -- "$(readlink -f -- "$0")")/logs.sh" "$@"
