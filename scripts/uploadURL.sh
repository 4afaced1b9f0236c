#!/bin/sh
# Deploys a function from a zip file that the server downloads itself.
set -eu
. "$(dirname -- "$(readlink -f -- "$0")")/management.sh"

usage() {
    cat >&2 <<'USAGE'
usage: uploadURL.sh URL SUBFOLDER NAME ENV THREADS
   or: uploadURL.sh URL NAME ENV THREADS [SUBFOLDER]
  URL        where the server finds the zip file
  SUBFOLDER  the folder within it that has the function's code; / is the top
  NAME       the name by which it is called
  ENV        python3, nodejs or binary
  THREADS    how many handlers are kept for it
example: ./scripts/uploadURL.sh "https://github.com/OpenFogStack/tinyFaas/archive/main.zip" "tinyFaaS-main/test/fns/sieve-of-eratosthenes" "sieve" "nodejs" 1
USAGE
    exit 2
}

# Both orders are documented. The environment tells them apart, and so does what
# follows it: the only argument that must be a number.
if [ $# -eq 4 ] && is_number "$4"; then
    name=$2 env=$3 threads=$4 subfolder=/
elif [ $# -eq 5 ] && is_number "$4"; then
    name=$2 env=$3 threads=$4 subfolder=$5
elif [ $# -eq 5 ] && is_number "$5"; then
    subfolder=$2 name=$3 env=$4 threads=$5
else
    usage
fi
need curl

printf '{"name":%s,"env":%s,"threads":%s,"url":%s,"subfolder_path":%s}' \
    "$(json_string "$name")" "$(json_string "$env")" "$threads" \
    "$(json_string "$1")" "$(json_string "$subfolder")" | post /uploadURL
