"""An observable state: the time until somebody PUTs something else.

DELETE takes it away, which ends observations; it is back when it is PUT, and
else after two seconds, so that a suite can go on.
"""

import math
import threading
import time

CHANGES_EVERY_S = 5
GONE_FOR_S = 2
lock = threading.Lock()
state = None
gone_until = 0.0


def fn(input, headers, context):
    global state, gone_until
    now = time.monotonic()
    with lock:
        if context.method == "GET":
            if now < gone_until:
                return "it was deleted; it is back in two seconds", 404
            body, content_type = state or (f"{now // CHANGES_EVERY_S:.0f} times 5 seconds", "text/plain")
            left = math.ceil(CHANGES_EVERY_S - now % CHANGES_EVERY_S)
            return body, 200, {"Content-Type": content_type, "Cache-Control": f"max-age={left}"}
        if context.method == "PUT":
            state, gone_until = (context.body, headers.get("Content-Type", "text/plain")), 0.0
            return b"", 204
        if context.method == "DELETE":
            state, gone_until = None, now + GONE_FOR_S
            return b"", 204
    return f"there is no {context.method} here", 405
