#!/bin/sh
# Runs every test: those beside the code, then the black-box suite against the
# server as it is built for use. Arguments go to the suite: test.sh -k upload
set -eu
cd -- "$(dirname -- "$(readlink -f -- "$0")")/../.."

sh scripts/make/prerequisites.sh cargo cc curl zip python3 '?pip' '?node' '?coap-client-notls' '?openssl'
sh scripts/make/build.sh
cargo test --workspace --locked --quiet
# The workers that run functions, each in its own language, over real frames.
python3 -m unittest discover --quiet --start-directory runtimes
lacking() {
    echo "test: $1 cannot be had; cases that need them will say that they are skipped" >&2
}
# The suite needs packages only where its list names some.
python=python3
if grep -q '^[^#]' test/requirements.txt; then
    python3 -m venv .venv
    .venv/bin/python3 -m pip install --quiet --requirement test/requirements.txt ||
        lacking "the suite's packages"
    python=.venv/bin/python3
fi
# What it needs from npm, once for each state of its list.
if command -v npm >/dev/null 2>&1 && ! cmp -s test/npm/package-lock.json .tools/npm/installed; then
    mkdir -p .tools/npm
    cp test/npm/package.json test/npm/package-lock.json .tools/npm/
    if npm ci --prefix .tools/npm --silent --no-audit --no-fund >&2; then
        cp test/npm/package-lock.json .tools/npm/installed
    else
        lacking "the suite's npm packages"
    fi
fi
sh scripts/make/grpc.sh --tools || lacking "the generators of gRPC's stubs"
sh scripts/make/go-tools.sh || lacking "programs in Go"
exec "$python" test/run.py "$@"
