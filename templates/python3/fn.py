"""The function NAME: tinyFaaS calls fn() for every request to it."""

import json


def fn(input, headers, context):
    """Says hello.

    input:   the request's body as text, or None where it is empty
    headers: its headers, as {"Content-Type": ...}
    context: .method, .path (below the function's name), .query, .body (bytes),
             .call_id, .remaining() (seconds until the call's deadline)

    Return text, bytes, None, (body, status), (body, status, headers), or an
    iterator, which is streamed. `async def fn` works as well. What is printed
    goes to the log: tinyfaas logs -f NAME
    """
    print("called:", context.method, context.path)
    if context.path == "/json":
        return json.dumps({"hello": input}), 200, {"Content-Type": "application/json"}
    return f"hello {input or 'world'}\n"
