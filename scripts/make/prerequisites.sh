#!/bin/sh
# Sees to what building, trying and testing need: prerequisites.sh TOOL...
# Root gets what is missing from the distribution; anyone else is told the line
# that installs it. A tool written ?TOOL may be missing: that is said, and costs
# only what needs it. Rust is never installed by this script: a distribution's is
# mostly too old, and where it comes from is its user's choice.
set -eu

have() {
    case $1 in
    cc)
        # A compiler without the C library's files links nothing.
        command -v cc >/dev/null 2>&1 || return 1
        echo 'int main(void){return 0;}' | cc -x c - -o /dev/null 2>/dev/null
        ;;
    python3) python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 9))' 2>/dev/null ;;
    pip) python3 -m pip --version >/dev/null 2>&1 ;;
    node) node --version >/dev/null 2>&1 ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

package() {
    case $1 in
    cc) echo gcc libc6-dev ;;
    curl) echo curl ca-certificates ;;
    python3) echo python3 python3-venv ;;
    pip) echo python3-pip ;;
    node) echo nodejs ;;
    flock) echo util-linux ;;
    base64) echo coreutils ;;
    coap-client-notls) echo libcoap3-bin ;;
    *) echo "$1" ;;
    esac
}

packages=
extras=
for wanted in "$@"; do
    tool=${wanted#\?}
    [ "$tool" = cargo ] || have "$tool" || case $wanted in
    \?*) extras="$extras $(package "$tool")" ;;
    *) packages="$packages $(package "$tool")" ;;
    esac
done

# install PACKAGE...: the lists of packages may be missing or stale; then fetch them once.
install() {
    [ $# -gt 0 ] || return 0
    echo "installing what is missing: $*"
    apt_install() {
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            "$@" </dev/null >/dev/null
    }
    apt_install "$@" 2>/dev/null || { apt-get update -qq </dev/null && apt_install "$@"; } ||
        echo "the packages could not be installed; what apt-get said stands above" >&2
}

if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    # Apart, as one that the distribution lacks would keep the others away.
    # shellcheck disable=SC2086  # lists of names
    install $packages
    for extra in $extras; do
        install "$extra"
    done
fi

lacking=0
for wanted in "$@"; do
    tool=${wanted#\?}
    have "$tool" && continue
    if [ "$tool" = cargo ]; then
        line="curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
    else
        line="sudo apt-get install $(package "$tool")"
    fi
    case $wanted in
    \?*) echo "note: $tool is missing, and so is what needs it; to install it: $line" ;;
    *)
        echo "$tool is missing; install it and try again: $line" >&2
        lacking=1
        ;;
    esac
done
exit "$lacking"
