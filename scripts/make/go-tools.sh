#!/bin/sh
# Puts programs that are written in Go into ./.tools/bin, each at the one version
# with which it is known to work: go-tools.sh [NAME...]; all of them without a name.
set -eu
cd -- "$(dirname -- "$(readlink -f -- "$0")")/../.."

[ $# -gt 0 ] || set -- pebble protoc-gen-go protoc-gen-go-grpc
for name in "$@"; do
    case $name in
    # A certificate authority that speaks ACME, for tests.
    pebble) package=github.com/letsencrypt/pebble/v2/cmd/pebble version=v2.10.1 ;;
    # As old as grpcio-tools in grpc-requirements.txt: what they generate works
    # with every later library.
    protoc-gen-go) package=google.golang.org/protobuf/cmd/protoc-gen-go version=v1.33.0 ;;
    protoc-gen-go-grpc) package=google.golang.org/grpc/cmd/protoc-gen-go-grpc version=v1.5.1 ;;
    *)
        echo "go-tools.sh knows no $name" >&2
        exit 2
        ;;
    esac
    installed=.tools/go/installed/$name-$version
    [ -x ".tools/bin/$name" ] && [ -e "$installed" ] && continue
    echo "installing $name $version" >&2
    mkdir -p .tools/bin .tools/go/installed
    GOBIN=$PWD/.tools/bin sh scripts/make/go.sh install -trimpath "$package@$version" || {
        echo "$name cannot be built; what Go says stands above" >&2
        exit 1
    }
    rm -f ".tools/go/installed/$name-"v*
    : >"$installed"
done
