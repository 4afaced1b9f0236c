"""Not there until it is PUT; DELETE takes it away again."""

import threading

lock = threading.Lock()
state = None


def fn(input, headers, context):
    global state
    with lock:
        if context.method == "PUT":
            if "If-None-Match" in headers and state is not None:
                return "it is there already", 412
            made, state = state is None, context.body
            return b"", 201 if made else 204
        if state is None:
            return "it is not there; PUT it first", 404
        if context.method == "GET":
            return state, 200, {"Content-Type": "text/plain"}
        if context.method == "DELETE":
            state = None
            return b"", 204
    return f"there is no {context.method} here", 405
