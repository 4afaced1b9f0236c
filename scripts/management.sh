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

# Whom to trust over https://, and who one is; the command line has the same
# variables. Nothing here takes a server for the right one unseen: curl checks its
# certificate, or its public key, or both.
check_trust() {
    if [ -n "${TINYFAAS_CLIENT_KEY:-}" ] && [ -z "${TINYFAAS_CLIENT_CERTIFICATE:-}" ]; then
        die "TINYFAAS_CLIENT_KEY is set and TINYFAAS_CLIENT_CERTIFICATE is not: name the certificate's file, too"
    fi
    for file in "${TINYFAAS_CA_FILE:-}" "${TINYFAAS_CLIENT_CERTIFICATE:-}" "${TINYFAAS_CLIENT_KEY:-}"; do
        [ -z "$file" ] || [ -r "$file" ] || die "the file $file cannot be read; see TINYFAAS_CA_FILE, TINYFAAS_CLIENT_CERTIFICATE and TINYFAAS_CLIENT_KEY"
    done
    # curl takes anything else for a file's name, and where there is no such file it
    # would not say so.
    case ${TINYFAAS_PINNED_PUBKEY:-} in
    '' | sha256//?*) ;;
    *) die "TINYFAAS_PINNED_PUBKEY=$TINYFAAS_PINNED_PUBKEY: write sha256//BASE64, as the server prints it at its start" ;;
    esac
}

# What curl's exit code says of TLS; nothing where it says nothing of that.
advice() {
    case $1 in
    35) echo "is https:// right for this port? a server may also want to see a certificate: TINYFAAS_CLIENT_CERTIFICATE=FILE and TINYFAAS_CLIENT_KEY=FILE" ;;
    55 | 56) echo "a server may want to see a certificate: TINYFAAS_CLIENT_CERTIFICATE=FILE and TINYFAAS_CLIENT_KEY=FILE" ;;
    58) echo "TINYFAAS_CLIENT_CERTIFICATE and TINYFAAS_CLIENT_KEY must be a certificate and its key, as PEM without a password" ;;
    60) echo "say whom to trust: TINYFAAS_CA_FILE=FILE, or TINYFAAS_PINNED_PUBKEY=sha256//BASE64, which the server prints at its start" ;;
    77) echo "TINYFAAS_CA_FILE must be a file of certificates as PEM" ;;
    90) echo "the server prints its key at its start: if it has a new one, TINYFAAS_PINNED_PUBKEY must be that; if not, somebody stands between" ;;
    esac
}

# ask PATH [CURL OPTION...]: sends one request. A success prints the server's
# answer; anything else puts the server's words on stderr and ends the script.
ask() {
    path=$1
    shift
    [ -n "$work" ] || make_work
    : >"$work/answer"
    case $server in
    https://*)
        check_trust
        if [ -n "${TINYFAAS_PINNED_PUBKEY:-}" ]; then
            # With a key alone nothing else need be right; the key is checked all the same.
            [ -n "${TINYFAAS_CA_FILE:-}" ] || set -- --insecure "$@"
            set -- --pinnedpubkey "$TINYFAAS_PINNED_PUBKEY" "$@"
        fi
        [ -z "${TINYFAAS_CA_FILE:-}" ] || set -- --cacert "$TINYFAAS_CA_FILE" "$@"
        if [ -n "${TINYFAAS_CLIENT_CERTIFICATE:-}" ]; then
            # What follows a plain colon would be the password.
            set -- --cert "$(printf '%s' "$TINYFAAS_CLIENT_CERTIFICATE" | sed 's/[\\:]/\\&/g')" "$@"
        fi
        [ -z "${TINYFAAS_CLIENT_KEY:-}" ] || set -- --key "$TINYFAAS_CLIENT_KEY" "$@"
        ;;
    esac
    failed=0
    status=$(curl --silent --show-error \
        --noproxy "localhost,127.0.0.1,::1,${no_proxy:-${NO_PROXY:-}}" \
        --output "$work/answer" --write-out '%{http_code}' \
        "$@" "$server$path" 2>"$work/trouble") || failed=$?
    case $status in
    2??)
        [ "$failed" -eq 0 ] || die "the answer from $server broke off: $(cat "$work/trouble")"
        cat "$work/answer"
        ;;
    '' | 000)
        # The first line says it; others advise to look away.
        why=$(head -n 1 "$work/trouble")
        advice=$(case $server in https://*) advice "$failed" ;; esac)
        die "no answer from $server: $why
${advice:-start a server with 'make start', or name another one: TINYFAAS_SERVER=http://HOST:PORT}"
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
