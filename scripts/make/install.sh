#!/bin/sh
# Installs the server below PREFIX (default /usr/local): the binary, its manual,
# shells' completions, the service for systemd, the user it runs as. DESTDIR puts
# all of it below another root, for packages, and then nothing else of this machine
# is touched. What is installed is noted in PREFIX/share/tinyfaas/manifest, which
# uninstall.sh goes by. Further: SYSTEMD_UNIT_DIR, SYSUSERS_DIR, BINARY.
set -eu
cd -- "$(dirname -- "$(readlink -f -- "$0")")/../.."

prefix=${PREFIX:-/usr/local}
prefix=${prefix%/}
root=${DESTDIR:-}
root=${root%/}
units=${SYSTEMD_UNIT_DIR:-$prefix/lib/systemd/system}
users=${SYSUSERS_DIR:-$prefix/lib/sysusers.d}
documents=$prefix/share/doc/tinyfaas
manifest=$prefix/share/tinyfaas/manifest

for path in "$prefix" "$units" "$users"; do
    case $path in
    *[@\&\|[:space:]]*) echo "$path: a path with a blank or one of @ & | cannot be installed to" >&2 && exit 1 ;;
    /*) ;;
    *) echo "$path must be an absolute path (PREFIX, SYSTEMD_UNIT_DIR, SYSUSERS_DIR)" >&2 && exit 1 ;;
    esac
done

binary=${BINARY:-$(sh scripts/make/binary.sh)}
[ -x "$binary" ] || sh scripts/make/build.sh

[ -z "$root" ] || mkdir -p -- "$root"
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
trap 'exit 130' INT TERM

# folder PATH: makes a folder and what is missing above it, and notes those made.
folder() {
    [ ! -d "$root$1" ] || return 0
    folder "$(dirname -- "$1")"
    mkdir -- "$root$1"
    chmod 755 -- "$root$1"
    echo "$1/" >>"$work/made"
}

# put MODE SOURCE TARGET: installs one file. A server that runs keeps the file that
# it was started from.
put() {
    folder "$(dirname -- "$3")"
    cp -- "$2" "$root$3.new"
    chmod "$1" -- "$root$3.new"
    mv -f -- "$root$3.new" "$root$3"
    echo "$3" >>"$work/files"
}

: >"$work/made"
: >"$work/files"
mkdir "$work/man"
"$binary" man --directory "$work/man"
for shell in bash zsh fish; do
    "$binary" completions "$shell" >"$work/$shell"
done
sed -e "s|@BINDIR@|$prefix/bin|g" -e "s|@DOCDIR@|$documents|g" \
    pkg/systemd/tinyfaas.service >"$work/service"

put 755 "$binary" "$prefix/bin/tinyfaas"
for page in "$work"/man/*.1; do
    put 644 "$page" "$prefix/share/man/man1/${page##*/}"
done
put 644 "$work/bash" "$prefix/share/bash-completion/completions/tinyfaas"
put 644 "$work/zsh" "$prefix/share/zsh/site-functions/_tinyfaas"
put 644 "$work/fish" "$prefix/share/fish/vendor_completions.d/tinyfaas.fish"
put 644 "$work/service" "$units/tinyfaas.service"
put 644 pkg/sysusers/tinyfaas.conf "$users/tinyfaas.conf"
put 644 pkg/config/config.toml "$documents/config.toml"
for document in README.md CHANGELOG.md LICENSE docs/configuration.md; do
    put 644 "$document" "$documents/${document##*/}"
done

# What an earlier installation made and this one has not, goes; its folders stay
# known.
folder "$(dirname -- "$manifest")"
if [ -f "$root$manifest" ]; then
    grep '/$' "$root$manifest" >>"$work/made" || true
    grep -v '/$' "$root$manifest" | while read -r old; do
        grep -qxF -- "$old" "$work/files" || [ "$old" = "$manifest" ] || rm -f -- "$root$old"
    done
fi
echo "$manifest" >>"$work/files"
{
    cat "$work/files"
    # From the deepest to the highest, as they can be removed.
    sort -ru "$work/made"
} >"$work/manifest"
put 644 "$work/manifest" "$manifest"

echo "installed $root$prefix/bin/tinyfaas and what belongs to it"
[ -z "$root" ] || exit 0

if [ "$(id -u)" -eq 0 ] && command -v systemd-sysusers >/dev/null 2>&1; then
    systemd-sysusers "$users/tinyfaas.conf"
elif ! id tinyfaas >/dev/null 2>&1; then
    echo "the service needs its user: useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin tinyfaas"
fi
if [ -d /run/systemd/system ]; then
    [ "$(id -u)" -ne 0 ] || systemctl daemon-reload
    echo "start it, now and at every boot: systemctl enable --now tinyfaas"
fi
