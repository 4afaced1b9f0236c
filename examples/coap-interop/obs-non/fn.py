"""The time. Who asks for it by a non-confirmable request is told so, too."""

import math
import time

CHANGES_EVERY_S = 5


def fn(input, headers):
    now = time.monotonic()
    left = math.ceil(CHANGES_EVERY_S - now % CHANGES_EVERY_S)
    text = f"{now // CHANGES_EVERY_S:.0f} times 5 seconds"
    return text, 200, {"Content-Type": "text/plain", "Cache-Control": f"max-age={left}"}
