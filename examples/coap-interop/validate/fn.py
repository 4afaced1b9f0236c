"""A state with an ETag: GET answers 304 to who has it, PUT takes If-Match."""

import threading

lock = threading.Lock()
state = b"validate me"
version = 1


def tags(text):
    """The entity tags of If-Match or If-None-Match."""
    return [tag.strip() for tag in text.split(",")]


def fn(input, headers, context):
    global state, version
    with lock:
        tag = f'"v{version}"'
        if context.method == "GET":
            if tag in tags(headers.get("If-None-Match", "")):
                return b"", 304, {"ETag": tag}
            return state, 200, {"ETag": tag, "Content-Type": "text/plain"}
        if context.method != "PUT":
            return f"there is no {context.method} here", 405
        wanted = headers.get("If-Match")
        if wanted is not None and "*" not in tags(wanted) and tag not in tags(wanted):
            return "it has changed since", 412
        state, version = context.body, version + 1
        return b"", 204
