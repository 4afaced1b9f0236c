"""What is asked for over DTLS."""


def fn(input, headers):
    return "this may be told in confidence", 200, {"Content-Type": "text/plain"}
