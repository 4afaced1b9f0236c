"""A text of a hundred or two hundred lines, each with the same number; PUT sets
the text."""

import math
import threading
import time

CHANGES_EVERY_S = 5
lock = threading.Lock()
state = None


def fn(input, headers, context):
    global state
    now = time.monotonic()
    with lock:
        if context.method == "PUT":
            state = context.body
            return b"", 204
        if context.method != "GET":
            return f"there is no {context.method} here", 405
        number = int(now // CHANGES_EVERY_S)
        body = state or f"number {number:5}\n".encode() * (100 + 100 * (number % 2))
    left = math.ceil(CHANGES_EVERY_S - now % CHANGES_EVERY_S)
    return body, 200, {"Content-Type": "text/plain", "Cache-Control": f"max-age={left}"}
