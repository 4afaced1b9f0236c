"""Replies with what it was called with."""


def fn(input, headers):
    return input
