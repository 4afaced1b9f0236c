"""Replies with the text it was sent, in capitals, twice."""


def fn(input, headers, context):
    if context.method != "POST":
        return "POST me a long text", 200
    return context.body.upper() * 2, 200, {"Content-Type": "text/plain"}
