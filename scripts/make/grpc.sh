#!/bin/sh
# Generates the stubs in pkg/grpc/tinyfaas from the protos there, and the server's
# own code in Rust: grpc.sh
# Only the stubs, into another folder, to see whether those kept are stale:
# grpc.sh --stubs FOLDER
# Only installs what it takes, into ./.tools: grpc.sh --tools
set -eu
cd -- "$(dirname -- "$(readlink -f -- "$0")")/../.."
here=pkg/grpc/tinyfaas
python=.tools/grpc/bin/python3
requirements=scripts/make/grpc-requirements.txt

tools() {
    if ! cmp -s "$requirements" .tools/grpc/installed; then
        echo "installing what generates Python stubs" >&2
        [ -x "$python" ] || python3 -m venv .tools/grpc
        "$python" -m pip install --quiet --only-binary :all: --requirement "$requirements" || {
            echo "grpcio-tools cannot be installed; what pip says stands above (Python 3.9 to 3.12 have it)" >&2
            return 1
        }
        cp "$requirements" .tools/grpc/installed
    fi
    sh scripts/make/go-tools.sh protoc-gen-go protoc-gen-go-grpc
}

protoc() {
    "$python" -m grpc_tools.protoc -I "$here" \
        --plugin=.tools/bin/protoc-gen-go --plugin=.tools/bin/protoc-gen-go-grpc "$@"
}

# stubs FOLDER. Servers of version 1 need embed nothing, as with the original's stubs.
stubs() {
    mkdir -p "$1/v2"
    protoc --python_out="$1" --pyi_out="$1" --grpc_python_out="$1" tinyfaas.proto tinyfaas_v2.proto
    protoc --go_out="$1" --go_opt=paths=source_relative --go-grpc_out="$1" \
        --go-grpc_opt=paths=source_relative,require_unimplemented_servers=false tinyfaas.proto
    protoc --go_out="$1/v2" --go_opt=paths=source_relative --go-grpc_out="$1/v2" \
        --go-grpc_opt=paths=source_relative tinyfaas_v2.proto
}

case ${1-} in
--tools) tools ;;
--stubs) tools && stubs "$2" ;;
'') tools && stubs "$here" && UPDATE=1 cargo test --quiet --locked --package tinyfaas-grpc ;;
*)
    echo "usage: grpc.sh [--tools | --stubs FOLDER]" >&2
    exit 2
    ;;
esac
