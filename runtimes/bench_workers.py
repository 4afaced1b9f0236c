"""How many calls a second a worker answers, without any server.

    python3 runtimes/bench_workers.py [seconds]

Each line: the runtime, calls in flight, calls a second, and the processor time that
the worker spent on a call (all its threads; it drifts less than calls a second do on a
busy machine). Worker and driver share one core if the command `taskset -c 0` precedes.
An echo of 64 bytes with the headers of an ordinary HTTP call; what is measured is the
worker, so the driver builds its frames once and counts replies by their length.
"""

import os
import struct
import sys
import tempfile
import time

import driver

HEADERS = [
    ("host", "localhost:8000"),
    ("user-agent", "curl/8.5.0"),
    ("accept", "*/*"),
    ("content-type", "application/x-www-form-urlencoded"),
    ("content-length", "64"),
]
BODY = b"x" * 64
ECHO = {
    "python3": {"fn.py": "def fn(input, headers):\n    return input\n"},
    "python3 context": {"fn.py": "def fn(input, headers, context):\n    return input\n"},
    "python3 async": {"fn.py": "async def fn(input, headers):\n    return input\n"},
    "nodejs": {"index.js": "module.exports = (req, res) => { res.send(req.body) }\n"},
    "nodejs async": {"index.js": "module.exports = async (req, res) => { res.send(req.body) }\n"},
}


def measure(worker, in_flight, seconds):
    """Keeps so many calls in flight for so long; calls a second."""
    payload = driver.with_head(driver.call_head(headers=HEADERS), BODY)
    frames = [driver.frame(driver.CALL, driver.END, n, payload) for n in range(in_flight)]
    size = len(driver.frame(driver.REPLY, driver.END, 0, driver.with_head(b"", BODY)))
    numbers = struct.Struct("<8xI%dx" % (size - 12))
    socket = worker.socket
    socket.setblocking(True)
    socket.sendall(b"".join(frames))
    began = now = time.perf_counter()
    done, rest = 0, b""
    while now - began < seconds:
        data = socket.recv(1 << 18)
        if not data:
            raise ConnectionError("the worker is gone; log: " + worker.logged())
        data = rest + data if rest else data
        whole = len(data) - len(data) % size
        rest = data[whole:]
        answered = [frames[number] for (number,) in numbers.iter_unpack(data[:whole])]
        done += len(answered)
        socket.sendall(b"".join(answered))
        now = time.perf_counter()
    # Leave the socket as it was found.
    left = in_flight * size - len(rest)
    while left:
        left -= len(socket.recv(left))
    socket.setblocking(False)
    return done / (now - began)


def processor_us(worker):
    total = 0
    for thread in os.listdir("/proc/%d/task" % worker.process):
        with open("/proc/%d/task/%s/schedstat" % (worker.process, thread)) as stat:
            total += int(stat.read().split()[0])
    return total / 1000


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 2
    for name, files in ECHO.items():
        with tempfile.TemporaryDirectory() as folder:
            for file, text in files.items():
                with open(os.path.join(folder, file), "w") as out:
                    out.write(text)
            worker = driver.Worker(name.split()[0], folder)
            worker.ready()
            measure(worker, 8, min(seconds, 0.5))
            for in_flight in (1, 4, 32):
                before = processor_us(worker)
                rate = measure(worker, in_flight, seconds)
                spent = (processor_us(worker) - before) / (rate * seconds)
                print("%-14s %3d in flight %9.0f calls/s %8.1f us" % (name, in_flight, rate, spent), flush=True)
            worker.close()


if __name__ == "__main__":
    main()
