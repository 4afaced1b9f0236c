#!/bin/sh
# Builds the server for this machine and leaves it as ./tinyfaas-linux-amd64 or
# ./tinyfaas-linux-arm64. PROFILE=lean takes less memory and time for it: for a
# board with 1 GB.
set -eu
cd -- "$(dirname -- "$(readlink -f -- "$0")")/../.."

binary=$(sh scripts/make/binary.sh)
sh scripts/make/prerequisites.sh cargo cc
profile=${PROFILE:-release}
jobs=
# Each job takes a compiler's memory.
[ "$profile" != lean ] || jobs='--jobs 1'
# shellcheck disable=SC2086  # two words
cargo build --profile "$profile" $jobs --locked --package tinyfaas --bin tinyfaas
# Wherever this user's cargo puts what it builds.
target=$(cargo metadata --format-version 1 --no-deps --locked |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
# A server that runs keeps the file that it was started from.
cp "$target/$profile/tinyfaas" "$binary.new"
mv "$binary.new" "$binary"
echo "built ./$binary"
