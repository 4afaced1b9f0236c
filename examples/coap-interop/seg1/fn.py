"""One resource below the name: /seg1/seg2/seg3."""


def fn(input, headers, context):
    if context.path != "/seg2/seg3":
        return f"there is nothing at {context.path}, try /seg1/seg2/seg3", 404
    return "you have found seg1, seg2 and seg3", 200, {"Content-Type": "text/plain"}
