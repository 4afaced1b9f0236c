"""Replies with the headers of its call, as JSON."""

import json


def fn(input, headers):
    return json.dumps(headers)
