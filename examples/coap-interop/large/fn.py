"""A text of 1,700 bytes: a hundred numbered lines."""

TEXT = "".join(f"large, line {n:4}\n" for n in range(100))


def fn(input, headers):
    return TEXT, 200, {"Content-Type": "text/plain"}
