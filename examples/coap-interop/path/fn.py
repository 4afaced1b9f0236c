"""Links to what is below it: /path/sub1, /path/sub2, /path/sub3."""

BELOW = ("/sub1", "/sub2", "/sub3")


def fn(input, headers, context):
    if context.path == "/":
        links = ",".join(f'</path{sub}>;ct=0' for sub in BELOW)
        return links, 200, {"Content-Type": "application/link-format"}
    if context.path in BELOW:
        return f"/path{context.path}", 200, {"Content-Type": "text/plain"}
    return f"there is no /path{context.path}", 404
