#!/usr/bin/env python3
"""A stand-in for the original: its six calls and its proxy as its source has them,
defects included, with processes where it has containers.

Owns what the original does otherwise, so that judging it can be tried without an
engine. As a program it prints its two addresses and runs until its input ends.
"""

import base64
import http.client
import http.server
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
import uuid
import zipfile
from datetime import datetime, timezone
from pathlib import Path

# A handler ends with the stand-in, however that ends.
ENDS_WITH_US = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
"""
PYTHON_HANDLER = """
import http.server, socketserver, sys
sys.path.insert(0, ".")
import fn
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"])).decode("utf-8") or None
        try:
            reply = fn.fn(text, dict(self.headers.items()))
            self.send_response(200)
            self.end_headers()
            if reply is not None:
                self.wfile.write(reply.encode("utf-8"))
        except Exception as error:
            print(error)
            self.send_response(500)
            self.end_headers()
            self.wfile.write(str(error).encode("utf-8"))
with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
    server.daemon_threads = True
    print("port", server.server_address[1])
    server.serve_forever()
"""
BINARY_HANDLER = """
import http.server, socketserver, subprocess
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            done = subprocess.run(["./fn.sh"], input=body, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            status, reply = 200, done.stdout
            if done.returncode:
                status, reply = 500, b"exit status %d" % done.returncode
        except OSError as error:
            status, reply = 500, str(error).encode()
        self.send_response(status)
        self.end_headers()
        self.wfile.write(reply)
with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
    server.daemon_threads = True
    print("port", server.server_address[1], flush=True)
    server.serve_forever()
"""
# How a handler of each environment is started in its folder; it prints its port.
HANDLERS = {
    "python3": [sys.executable, "-u", "-c", ENDS_WITH_US + PYTHON_HANDLER],
    "binary": [sys.executable, "-c", ENDS_WITH_US + BINARY_HANDLER],
}
START_S = 10
# The original starts as many as are asked for, until its machine has no room.
HANDLERS_MAX = 16


class Handler:
    """One process of a function; the original has a container."""

    def __init__(self, environment, folder, variables):
        self.id = uuid.uuid4().hex
        self.folder = Path(tempfile.mkdtemp())
        shutil.copytree(folder, self.folder, dirs_exist_ok=True)
        for script in self.folder.glob("fn.sh"):
            script.chmod(0o755)
        self.lines = []
        self.port = None
        self._ready = threading.Event()
        environ = {"PATH": os.environ["PATH"], "HOME": "/root", **variables}
        self.process = subprocess.Popen(
            HANDLERS[environment], cwd=self.folder, env=environ,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in io.TextIOWrapper(self.process.stdout, errors="replace"):
            if self.port is None:
                # What a function prints while it is loaded comes first.
                if line.startswith("port "):
                    self.port = int(line.split()[1])
                    self._ready.set()
                    continue
            moment = datetime.now(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
            self.lines.append((moment, line.rstrip("\n")))
        self._ready.set()

    def ready(self):
        self._ready.wait(START_S)
        return self.port is not None

    def destroy(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Original:
    """The management service and the proxy's table."""

    def __init__(self):
        self.handlers = {}
        self.routes = {}
        self.turn = threading.Lock()
        self.http_port = None

    def upload(self, request):
        packed = base64.b64decode(request.get("zip", "").replace("\r", "").replace("\n", ""), validate=True)
        return self.create(request, packed, "")

    def upload_url(self, request):
        with urllib.request.urlopen(request.get("url", "")) as answer:
            packed = answer.read()
        return self.create(request, packed, request.get("subfolder_path", ""))

    def create(self, request, packed, subfolder):
        name, environment = request.get("name", ""), request.get("env", "")
        if not all(letter.isascii() and letter.isalnum() for letter in name):
            raise ValueError("name")
        folder = Path(tempfile.mkdtemp())
        try:
            unpack(packed, folder)
            variables = dict(one.split("=", 1) for one in request.get("envs") or [] if "=" in one)
            inner = folder / subfolder.lstrip("/")
            with self.turn:
                old = self.handlers.get(name, [])
                if environment not in HANDLERS:
                    raise ValueError("env")
                if request.get("threads", 0) > HANDLERS_MAX:
                    raise ValueError("threads")
                fresh = [Handler(environment, inner, variables) for _ in range(request.get("threads", 0))]
                self.handlers[name] = fresh
                if not all(handler.ready() for handler in fresh):
                    raise ValueError("a container did not start")
                if not fresh:
                    # Without addresses the proxy understands a delete.
                    del self.routes[name]
                self.routes[name] = fresh
                for handler in old:
                    handler.destroy()
        finally:
            shutil.rmtree(folder)
        return f"http://:{self.http_port}/{name}\n"

    def delete(self, request):
        name = request.get("name", "")
        for handler in self.handlers[name]:
            handler.destroy()
        del self.routes[name]
        del self.handlers[name]
        return ""

    def wipe(self, _=None):
        for name in list(self.handlers):
            try:
                self.delete({"name": name})
            except KeyError:
                pass
        return ""

    def list(self):
        return "".join(f"{name}\n" for name in self.handlers)

    def logs(self, name):
        if not name:
            return "".join(self.logs(one) + "\n" for one in list(self.handlers))
        return "".join(
            f"function={name} handler={handler.id} {moment} {text}\n"
            for handler in self.handlers[name]
            for moment, text in handler.lines
        )

    def stop(self):
        for handlers in self.handlers.values():
            for handler in handlers:
                handler.destroy()


def unpack(packed, folder):
    """As the original: entries where they say, folders only where they are entries."""
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        for entry in archive.infolist():
            name = entry.filename
            if not entry.flag_bits & 0x800:
                # Go takes the bytes as they are.
                name = name.encode("cp437").decode("utf-8", "surrogateescape")
            # The original leaves the folder here; a stand-in must not.
            path = folder / os.path.normpath("/" + name).lstrip("/")
            if entry.is_dir():
                path.mkdir(parents=True, exist_ok=True)
            else:
                path.write_bytes(archive.read(entry))


class Service(http.server.BaseHTTPRequestHandler):
    """What both endpoints have in common."""

    protocol_version = "HTTP/1.1"
    original = None

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.handle_request
        raise AttributeError(name)

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(parts)
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionError("the caller left")
        return body

    def handle(self):
        try:
            super().handle()
        except OSError:
            # The caller left; so does this.
            pass

    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if body:
            self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


class Management(Service):
    def handle_request(self):
        body = self.body()
        parts = urllib.parse.urlsplit(self.path)
        posts = {
            "/upload": self.original.upload, "/uploadURL": self.original.upload_url,
            "/delete": self.original.delete, "/wipe": self.original.wipe,
        }
        if parts.path not in (*posts, "/list", "/logs"):
            return self.answer(404, b"404 page not found\n")
        if self.command != ("POST" if parts.path in posts else "GET"):
            return self.answer(400)
        try:
            if parts.path == "/list":
                return self.answer(200, self.original.list().encode())
            if parts.path == "/logs":
                name = urllib.parse.parse_qs(parts.query).get("name", [""])[0]
                return self.answer(200, self.original.logs(name).encode())
            request = {} if parts.path == "/wipe" else fields(body)
        except (ValueError, TypeError):
            return self.answer(400)
        except KeyError:
            return self.answer(500)
        try:
            return self.answer(200, posts[parts.path](request).encode())
        except Exception:  # noqa: BLE001 - whatever it was, the original says 500 and nothing more
            return self.answer(500)


def fields(body):
    """Keys whatever their case, kinds checked, as Go's decoder does it."""
    kinds = {"name": str, "env": str, "threads": int, "zip": str, "url": str, "subfolder_path": str, "envs": list}
    found = {}
    for key, value in dict(json.JSONDecoder().raw_decode(body.decode().lstrip())[0] or {}).items():
        kind = kinds.get(key.lower())
        if kind and value is not None:
            if type(value) is not kind:
                raise TypeError(key)
            found[key.lower()] = value
    return found


class Proxy(Service):
    def handle_request(self):
        body = self.body()
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).lstrip("/")
        handlers = self.original.routes.get(path)
        if not handlers:
            return self.answer(404)
        headers = {}
        for key, value in self.headers.items():
            headers.setdefault(key.title(), value)
        headers["Content-Length"] = str(len(body))
        headers.pop("Transfer-Encoding", None)
        if self.headers.get("X-tinyFaaS-Async"):
            threading.Thread(target=call, args=(handlers, body, headers), daemon=True).start()
            return self.answer(202)
        try:
            # Whatever the function's status and headers are, they stay here.
            return self.answer(200, call(handlers, body, headers))
        except (OSError, http.client.HTTPException):
            return self.answer(500)


def call(handlers, body, headers):
    chosen = handlers[time.monotonic_ns() % len(handlers)]
    connection = http.client.HTTPConnection("127.0.0.1", chosen.port, timeout=60)
    try:
        connection.request("POST", "/fn", body, headers)
        return connection.getresponse().read()
    finally:
        connection.close()


class Running:
    """A stand-in on ports that the kernel chooses."""

    def __init__(self):
        self.original = Original()
        self.servers = [self._serve(Management), self._serve(Proxy)]
        self.management, self.http = (f"http://127.0.0.1:{one.server_port}" for one in self.servers)
        self.original.http_port = self.servers[1].server_port

    def _serve(self, service):
        kind = type(service.__name__, (service,), {"original": self.original})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server

    def stop(self):
        for server in self.servers:
            server.shutdown()
            server.server_close()
        self.original.stop()


def main():
    running = Running()
    print(running.management, running.http, flush=True)
    sys.stdin.read()
    running.stop()


if __name__ == "__main__":
    main()
