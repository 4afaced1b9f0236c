#!/bin/sh
# Prints the name of this machine's binary, or says that there is none for it.
set -eu

case "$(uname -s) $(uname -m)" in
'Linux x86_64') echo tinyfaas-linux-amd64 ;;
'Linux aarch64' | 'Linux arm64') echo tinyfaas-linux-arm64 ;;
*)
    echo "tinyFaaS runs on Linux on x86_64 and arm64; this is $(uname -s) on $(uname -m), use a Linux machine, a container or a virtual one" >&2
    exit 1
    ;;
esac
