"""POST makes a resource that is found by a query."""


def fn(input, headers, context):
    if context.method == "POST":
        return b"", 201, {"Location": "/location-query?first=1&second=2"}
    return f"first and second: {context.query}", 200, {"Content-Type": "text/plain"}
