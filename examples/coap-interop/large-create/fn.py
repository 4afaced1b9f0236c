"""POST makes /large-create/1, /large-create/2 and so on; the newest are kept."""

import threading

KEPT_MAX = 16
lock = threading.Lock()
made = {}
last = 0


def fn(input, headers, context):
    global last
    with lock:
        if context.method == "POST":
            last += 1
            made[f"/{last}"] = context.body, headers.get("Content-Type", "application/octet-stream")
            while len(made) > KEPT_MAX:
                made.pop(next(iter(made)))
            return b"", 201, {"Location": f"/large-create/{last}"}
        if context.path == "/" and context.method == "GET":
            return f"{len(made)} resources are here, the last is /large-create/{last}", 200
        if context.path not in made:
            return f"there is no /large-create{context.path}", 404
        if context.method == "GET":
            body, content_type = made[context.path]
            return body, 200, {"Content-Type": content_type}
        if context.method == "DELETE":
            del made[context.path]
            return b"", 204
    return f"there is no {context.method} here", 405
