"""To be found by the attributes that stand in tinyfaas.toml."""


def fn(input, headers):
    return "link 2", 200, {"Content-Type": "text/plain"}
