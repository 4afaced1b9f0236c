"""What was PUT here last; DELETE brings the beginning back."""

import threading

BEGINNING = (b"this is the test resource", "text/plain")
lock = threading.Lock()
state = BEGINNING


def fn(input, headers, context):
    global state
    method = context.method.upper()
    sent = headers.get("Content-Type", "text/plain")
    with lock:
        body, content_type = state
        if method == "GET":
            return body, 200, {"Content-Type": content_type}
        if method == "POST":
            # A resource that is made somewhere else.
            return b"", 201, {"Location": "/location1/location2/location3"}
        if method == "PUT":
            state = (context.body, sent)
            return b"", 204
        if method == "DELETE":
            state = BEGINNING
            return b"", 204
        if method == "FETCH":
            # Those words of it that begin with what is asked for.
            words = [word for word in body.split() if word.startswith(context.body)]
            return b" ".join(words), 200, {"Content-Type": content_type}
        if method == "PATCH":
            # Added at the end, each time it is asked for.
            state = (body + context.body, content_type)
            return b"", 204
        if method == "IPATCH":
            # Added at the end, unless it stands there.
            if not body.endswith(context.body):
                state = (body + context.body, content_type)
            return b"", 204
    return f"there is no {context.method} here", 405
