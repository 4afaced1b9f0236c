#!/bin/sh
# Deploys a folder as a function; a function of that name is replaced.
set -eu
. "$(dirname -- "$(readlink -f -- "$0")")/management.sh"

usage() {
    cat >&2 <<'USAGE'
usage: upload.sh FOLDER NAME ENV THREADS
  FOLDER   the folder with the function's code
  NAME     the name by which it is called
  ENV      python3, nodejs or binary
  THREADS  how many handlers are kept for it
example: ./scripts/upload.sh "./test/fns/sieve-of-eratosthenes" "sieve" "nodejs" 1
USAGE
    exit 2
}

[ $# -eq 4 ] || usage
is_number "$4" || usage
need curl zip base64
# A leading ./ keeps a folder that is named like an option a folder.
case $1 in
/*) folder=$1 ;;
*) folder=./$1 ;;
esac
[ -d "$folder" ] || die "there is no folder $1"
[ -n "$(ls -A -- "$folder")" ] || die "the folder $1 is empty"

make_work
# Options from the environment would make another zip than the one meant here.
unset ZIP ZIPOPT
(cd -- "$folder" && zip --quiet --recurse-paths --symlinks "$work/function.zip" .) >&2 ||
    die "the folder $1 could not be packed"

{
    printf '{"name":%s,"env":%s,"threads":%s,"zip":"' \
        "$(json_string "$2")" "$(json_string "$3")" "$4"
    base64 <"$work/function.zip" | tr -d '\n'
    printf '"}'
} | post /upload
