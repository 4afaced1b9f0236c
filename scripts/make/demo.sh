#!/bin/sh
# Shows the server at work: builds it, starts one on free ports with a data
# directory of its own, deploys the sample functions, calls each over every
# protocol that there is, and stops. KEEP=1 leaves the server running.
set -eu
cd -- "$(dirname -- "$(readlink -f -- "$0")")/../.."

sh scripts/make/prerequisites.sh cargo cc curl zip base64 '?python3' '?node'
sh scripts/make/build.sh
binary=$PWD/$(sh scripts/make/binary.sh)

mkdir -p tmp
data=$(mktemp -d "$PWD/tmp/demo.XXXXXX")
pid=

now_ms() { echo $(($(date +%s%N) / 1000000)); }

stop() {
    [ -n "$pid" ] || return 0
    kill -s TERM "$pid" 2>/dev/null || true
    ended=0
    wait "$pid" || ended=$?
    pid=
}

give_up() {
    echo "$*" >&2
    echo "what the server said:" >&2
    sed 's/^/    /' "$data/output" >&2
    stop
    rm -rf -- "$data"
    exit 1
}

trap 'stop; rm -rf -- "$data"; exit 130' INT TERM

# port NAME: the port that the server has bound for an endpoint.
port() { sed -n "s/.*\"$1\"[^0-9]*\([0-9][0-9]*\).*/\1/p" "$data/state/ports.json"; }

echo
began=$(now_ms)
# A session of its own, so that Ctrl+C reaches this script first and, with
# KEEP=1, the end of the terminal does not reach the server.
setsid env TF_DATA_DIR="$data/state" TF_BACKEND=process \
    MANAGEMENT_PORT=0 HTTP_PORT=0 COAP_PORT=0 GRPC_PORT=0 \
    MANAGEMENT_ADDRESS=localhost HTTP_ADDRESS=localhost COAP_ADDRESS=localhost GRPC_ADDRESS=localhost \
    "$binary" </dev/null >"$data/output" 2>&1 &
pid=$!
until [ -s "$data/state/ports.json" ]; do
    kill -0 "$pid" 2>/dev/null || give_up "the server did not start"
    [ $(($(now_ms) - began)) -lt 30000 ] || give_up "the server was not ready after 30 s"
    sleep 0.01
done
TINYFAAS_SERVER=http://localhost:$(port management)
export TINYFAAS_SERVER
calls=http://localhost:$(port http)
coap=coap://localhost:$(port coap)
grpc=grpc://localhost:$(port grpc)
echo "the server runs on free ports: management $TINYFAAS_SERVER, calls $calls, $coap and $grpc (ready after $(($(now_ms) - began)) ms)"
echo

shown=0
shown_over_coap=0
shown_over_grpc=0
skipped=0

# matches NAME PROTOCOL PATTERN: the answer must match a shell pattern.
matches() {
    answer=$(cat "$data/answer")
    # shellcheck disable=SC2254  # a pattern is what is wanted
    case $answer in
    $3) ;;
    *) give_up "$1 answered something else over $2 than expected: $answer" ;;
    esac
}

# by_command NAME PROTOCOL FLAG INPUT EXPECTED [HEADER]: calls a function by the
# command line, sets $called to the milliseconds that it took.
by_command() {
    began=$(now_ms)
    "$binary" call "$1" "$3" --data "$4" ${6:+--header "$6"} \
        >"$data/answer" || give_up "$1 could not be called over $2"
    called=$(($(now_ms) - began))
    matches "$1" "$2" "$5"
}

# sample FOLDER NAME ENVIRONMENT TOOL INPUT EXPECTED [HEADER EXPECTED]: deploys a
# sample function, calls it over HTTP, CoAP and gRPC, and shows its answer, which must
# match EXPECTED, a shell pattern. CoAP carries fewer headers: HEADER is sent there,
# and shows in the answer.
sample() {
    if [ -n "$4" ] && ! "$4" --version >/dev/null 2>&1; then
        echo "$2 ($3): skipped, $4 is missing"
        skipped=$((skipped + 1))
        return
    fi
    began=$(now_ms)
    sh scripts/upload.sh "test/fns/$1" "$2" "$3" 1 >/dev/null || give_up "$2 could not be deployed"
    deployed=$(($(now_ms) - began))
    milliseconds=$(curl --silent --show-error --max-time 60 --noproxy '*' --data-raw "$5" \
        --header 'Lab: edge' --output "$data/answer" --write-out '%{http_code} %{time_total}' \
        "$calls/$2") || give_up "$2 could not be called"
    milliseconds=$(echo "$milliseconds" | awk '{ if ($1 != 200) exit 1; printf "%.1f", $2 * 1000 }') ||
        give_up "$2 did not answer with 200: $milliseconds $(cat "$data/answer")"
    matches "$2" HTTP "$6"
    shown=$((shown + 1))
    over_http=$answer
    by_command "$2" CoAP --coap "$5" "${8:-$6}" ${7:+"$7"}
    over_coap=$called
    shown_over_coap=$((shown_over_coap + 1))
    by_command "$2" gRPC --grpc "$5" "$6" 'Lab: edge'
    shown_over_grpc=$((shown_over_grpc + 1))
    printf '%-16s %-8s deployed in %4s ms, called over HTTP in %5s ms, by the command over CoAP in %3s, over gRPC in %3s ms: %s\n' \
        "$2" "$3" "$deployed" "$milliseconds" "$over_coap" "$called" "$over_http"
}

sample echo echo python3 python3 'hello from Python' 'hello from Python'
sample show-headers show-headers python3 python3 '' '*"Lab": "edge"*' \
    'Accept: application/json' '*"Accept": "application/json"*'
sample echo-js echo-js nodejs node 'hello from Node' 'hello from Node'
sample show-headers-js show-headers-js nodejs node '' '*"lab":"edge"*' \
    'Accept: application/json' '*"accept":"application/json"*'
sample sieve-of-eratosthenes sieve nodejs node '' 'Found 1229 primes under 10000'
sample echo-binary echo-binary binary '' 'hello from a shell script' 'hello from a shell script'

echo
echo "$shown sample functions deployed and called over HTTP, $shown_over_coap of them over CoAP and $shown_over_grpc over gRPC too, $skipped skipped"
if [ "${KEEP:-0}" = 1 ]; then
    cat <<EXPLAINED

the server goes on running as process $pid; its output goes to $data/output
  call a function:     curl --data 'hello' $calls/echo-binary
  the same over CoAP:  $binary call echo-binary -d 'hello' --gateway $coap
  the same over gRPC:  $binary call echo-binary -d 'hello' --gateway $grpc
  list the functions:  TINYFAAS_SERVER=$TINYFAAS_SERVER ./scripts/list.sh
  read the logs:       TINYFAAS_SERVER=$TINYFAAS_SERVER ./scripts/logs.sh
  stop it:             kill $pid && make clean
EXPLAINED
    exit 0
fi

began=$(now_ms)
stop
[ "$ended" -eq 0 ] || give_up "the server ended with $ended"
took=$(($(now_ms) - began))
if grep -lsz "^TINYFAAS_INSTANCE=.*@$data/state\$" /proc/[0-9]*/environ 2>/dev/null | grep -q .; then
    give_up "a process of the server is still there"
fi
echo "the server stopped after $took ms and left nothing running"
rm -rf -- "$data"
rmdir tmp 2>/dev/null || true
