#!/bin/sh
# Removes what servers that stopped or crashed have left: processes that carry
# the mark of a data directory which is gone or which no server holds, and ./tmp.
# Touches nothing of a running server, and needs none.
set -eu
cd -- "$(dirname -- "$(readlink -f -- "$0")")/../.."

# Whether a running server holds this data directory. Where that cannot be told,
# it does: nothing of a running server may be touched.
is_held() {
    [ -e "$1/lock" ] || return 1
    command -v flock >/dev/null 2>&1 || return 0
    ! flock --nonblock --shared "$1/lock" true 2>/dev/null
}

# Whether a process belongs to a running server. Its data directory is looked for
# as each of its ancestors sees it: a container's server is seen from its host,
# too, and the directory is not where the host would look.
is_served() {
    seen_by=$1
    while [ "$seen_by" -gt 0 ]; do
        is_held "/proc/$seen_by/root$2" && return 0
        seen_by=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$seen_by/status" 2>/dev/null)
        [ -n "$seen_by" ] || break
    done
    is_held "$2"
}

# The mark of a process: TINYFAAS_INSTANCE=ID@DATA-DIRECTORY.
directory_of() {
    mark=$(tr '\0' '\n' 2>/dev/null <"/proc/$1/environ" | sed -n 's/^TINYFAAS_INSTANCE=//p' | head -n 1)
    case $mark in
    *@/*) printf '%s\n' "${mark#*@}" ;;
    *) return 1 ;;
    esac
}

# The processes left over, one a line.
left_over() {
    grep -lsz '^TINYFAAS_INSTANCE=' /proc/[0-9]*/environ 2>/dev/null | while read -r file; do
        pid=${file#/proc/}
        pid=${pid%/environ}
        directory=$(directory_of "$pid") || continue
        is_served "$pid" "$directory" || printf '%s\n' "$pid"
    done
}

# A process may fork while it is looked for: look again until none is left.
rounds=0
ended=0
while [ "$rounds" -lt 20 ]; do
    pids=$(left_over)
    [ -n "$pids" ] || break
    for pid in $pids; do
        if kill -s KILL "$pid" 2>/dev/null; then
            ended=$((ended + 1))
        fi
    done
    rounds=$((rounds + 1))
    sleep 0.05
done
[ "$ended" -eq 0 ] || echo "ended $ended processes that a server has left behind"
if [ -n "$(left_over)" ]; then
    echo "some processes of a server that is gone cannot be ended: $(left_over | tr '\n' ' ')" >&2
    exit 1
fi

[ -d tmp ] || exit 0
kept=0
for entry in tmp/* tmp/.[!.]*; do
    [ -e "$entry" ] || [ -L "$entry" ] || continue
    held=$(find "$entry/" -name lock 2>/dev/null | while read -r lock; do
        if is_held "${lock%/lock}"; then echo held; fi
    done)
    if [ -n "$held" ]; then
        echo "kept $entry: a running server holds it"
        kept=1
    else
        rm -rf -- "$entry"
    fi
done
[ "$kept" -eq 1 ] || rmdir tmp
