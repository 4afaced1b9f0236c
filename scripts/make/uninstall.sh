#!/bin/sh
# Removes what install.sh has installed below PREFIX (and DESTDIR): what its
# manifest names, and the folders that it made, where they are empty. What the
# server itself has made stays: its data, its settings, its user.
set -eu

prefix=${PREFIX:-/usr/local}
prefix=${prefix%/}
root=${DESTDIR:-}
root=${root%/}
manifest=$prefix/share/tinyfaas/manifest

if [ ! -f "$root$manifest" ]; then
    echo "nothing is installed below $root$prefix (there is no $root$manifest); set PREFIX and DESTDIR as they were at make install" >&2
    exit 1
fi
if [ -z "$root" ] && [ -d /run/systemd/system ] && [ "$(id -u)" -eq 0 ]; then
    systemctl disable --now tinyfaas.service 2>/dev/null || true
fi

list=$(cat -- "$root$manifest")
printf '%s\n' "$list" | while read -r entry; do
    case $entry in
    */) rmdir -- "$root$entry" 2>/dev/null || true ;;
    /*) rm -f -- "$root$entry" ;;
    esac
done
echo "removed tinyfaas from $root$prefix"

[ -z "$root" ] || exit 0
[ ! -d /run/systemd/system ] || [ "$(id -u)" -ne 0 ] || systemctl daemon-reload
for left in /etc/tinyfaas /var/lib/tinyfaas; do
    [ ! -e "$left" ] || echo "kept $left; remove it if you will not use it again"
done
if id tinyfaas >/dev/null 2>&1; then
    echo "kept the user tinyfaas; remove it by: userdel tinyfaas"
fi
