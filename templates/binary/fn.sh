#!/bin/sh
# The function NAME: tinyFaaS runs this script for every request to it, in this
# folder. The body is standard input, standard output is the reply; standard error
# goes to the log (tinyfaas logs -f NAME); an exit code other than 0 is a 500.
#
# REQUEST_METHOD, PATH_INFO (below the function's name), QUERY_STRING, CONTENT_TYPE
# and HTTP_... (headers) are set as in CGI.
set -eu

echo "called: $REQUEST_METHOD $PATH_INFO" >&2
input=$(cat)
if [ "$PATH_INFO" = /json ]; then
    printf '{"hello":"%s"}' "$(printf '%s' "$input" | sed 's/[\\"]/\\&/g')"
else
    printf 'hello %s\n' "${input:-world}"
fi
