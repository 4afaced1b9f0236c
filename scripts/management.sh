# shellcheck shell=sh
# How the scripts beside this file talk to the management service. Sourced by
# them, not run. Knows nothing of what a single script asks for.

# The server's address, without a slash at its end.
server=${TINYFAAS_SERVER:-http://localhost:8080}
server=${server%/}

# Ends the script with a sentence for its user.
die() {
    printf '%s\n' "$*" >&2
    exit 1
}

# need TOOL...: ends the script if one is missing, and says what to install.
need() {
    missing=
    packages=
    for tool in "$@"; do
        command -v "$tool" >/dev/null 2>&1 && continue
        missing="$missing $tool"
        case $tool in
        base64) packages="$packages coreutils" ;;
        *) packages="$packages $tool" ;;
        esac
    done
    [ -z "$missing" ] ||
        die "not found:$missing; install the package:$packages (on Debian: apt-get install$packages)"
}

# A text as a JSON string, whatever bytes it holds.
json_string() {
    printf '"'
    printf '%s' "$1" | od -A n -v -t u1 | LC_ALL=C awk '{
        for (i = 1; i <= NF; i++) {
            if ($i == 34 || $i == 92) printf "\\%c", $i + 0
            else if ($i < 32 || $i == 127) printf "\\u%04x", $i
            else printf "%c", $i + 0
        }
    }'
    printf '"'
}

# A temporary directory that goes with the script.
work=
make_work() {
    work=$(mktemp -d "${TMPDIR:-/tmp}/tinyfaas.XXXXXX") || die "cannot make a temporary directory in ${TMPDIR:-/tmp}"
    trap 'rm -rf "$work"' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

# ask PATH [CURL OPTION...]: sends one request. A success prints the server's
# answer; anything else puts the server's words on stderr and ends the script.
ask() {
    path=$1
    shift
    [ -n "$work" ] || make_work
    : >"$work/answer"
    failed=0
    status=$(curl --silent --show-error \
        --noproxy "localhost,127.0.0.1,::1,${no_proxy:-${NO_PROXY:-}}" \
        --output "$work/answer" --write-out '%{http_code}' \
        "$@" "$server$path" 2>"$work/trouble") || failed=1
    case $status in
    2??)
        [ "$failed" -eq 0 ] || die "the answer from $server broke off: $(cat "$work/trouble")"
        cat "$work/answer"
        ;;
    '' | 000)
        die "no answer from $server: $(cat "$work/trouble")
start a server with 'make start', or name another one: TINYFAAS_SERVER=http://HOST:PORT"
        ;;
    *)
        # An answer whose body says nothing still has its status.
        [ -s "$work/answer" ] || printf 'the server answered %s\n' "$status" >"$work/answer"
        cat "$work/answer" >&2
        # A line of its own, whether or not the server has ended its last one.
        [ -z "$(tail -c 1 "$work/answer")" ] || echo >&2
        exit 1
        ;;
    esac
}

# post PATH: sends stdin, as it is produced, as the JSON body of a POST.
post() {
    ask "$1" --request POST --header 'Content-Type: application/json' --upload-file -
}

# Whether a text is a whole number as JSON writes it; the server judges whether
# it makes sense.
is_number() {
    case ${1#-} in
    '' | 0?* | *[!0-9]*) return 1 ;;
    esac
}
