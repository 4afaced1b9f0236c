"""Carries a schedule out, and keeps what came of each operation.

Owns how an operation becomes requests. Must not judge: what comes is written
down.
"""

import asyncio
import base64
import json
import os
import signal
import time
import urllib.parse
from dataclasses import dataclass, field

from blackbox.server import LocalSite, sends

from . import functions, remains
from .client import Answer, Connection, NoAnswer

# No operation takes longer on a server that is well: then it hangs.
OPERATION_MAX_S = 90
IN_FLIGHT_MAX = 200
# Connections that are kept for further calls.
KEPT_MAX = 40


@dataclass
class Record:
    """What came of one operation, or of one step of it."""

    operation: object
    start: float
    end: float = float("inf")
    answer: Answer = None
    # In place of an answer: "left", or what went wrong.
    instead: str = ""
    # Of an accepted call: what was said of it at last.
    state: dict = field(default_factory=dict)
    token: str = ""
    # The whole reply to a call; its beginning is all that is shown.
    result: Answer = None
    # What was told of an upload as it went.
    events: list = field(default_factory=list)

    def __str__(self):
        said = self.instead
        for answer in (self.answer, self.result):
            if answer:
                retry = " retry-after" if "retry-after" in answer.headers else ""
                said += f" {answer.status}{retry} {answer.text[:160]!r}"
        if self.state:
            said += " " + ", ".join(f"{key} {self.state[key]}" for key in self.state if key in ("state", "waited_ms", "ran_ms", "problem"))
        return f"{self.start:8.3f} to {self.end:8.3f} s  {self.operation}  ->{said and ' '}{said.strip()}"


class Player:
    """Plays against one server."""

    def __init__(self, server):
        self.server = server
        self.management, self.http = server.ports["management"], server.ports["http"]
        self.records = []
        # Where functions write down which calls they run.
        self.marks = server.folder / "marks"
        self.marks.touch()
        # Where the accepted calls are asked for.
        self.accepted = []
        self._kept = []
        self._in_flight = 0
        self.most_in_flight = 0
        self._archives = {}
        self._site = LocalSite(self)
        self._began = time.monotonic()

    # The site asks this for what it serves.
    def get(self, path):
        return self._archives.get(path)

    def close(self):
        self._site.close()

    def now(self):
        return time.monotonic() - self._began

    async def play(self, operations):
        """Begins each operation at its time, or when there is room for it."""
        room = asyncio.Semaphore(IN_FLIGHT_MAX)
        begin = self.now()
        tasks = set()
        for operation in operations:
            wait = begin + operation.at - self.now()
            if wait > 0:
                await asyncio.sleep(wait)
            await room.acquire()
            task = asyncio.ensure_future(self.perform(operation))
            tasks.add(task)
            task.add_done_callback(lambda task: (tasks.discard(task), room.release()))
        while tasks:
            await asyncio.wait(tasks)
        self.drop_kept()

    def drop_kept(self):
        while self._kept:
            self._kept.pop().abort()

    async def perform(self, operation):
        """One operation from its begin to its end; what came of it."""
        record = Record(operation, self.now())
        self.records.append(record)
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        act = getattr(self, "_" + operation.what.replace(" ", "_"))
        try:
            await asyncio.wait_for(act(record, operation), OPERATION_MAX_S)
        except NoAnswer as error:
            record.instead = f"no answer: {error}"
        except asyncio.TimeoutError:
            record.instead = f"hangs: no answer after {OPERATION_MAX_S} s"
        finally:
            record.end = self.now()
            self._in_flight -= 1
        return record

    # Managing

    async def _manage(self, method, path, body=b"", headers=()):
        connection = await Connection.open(self.management)
        try:
            return await connection.exchange(method, path, body, headers)
        finally:
            connection.abort()

    async def load(self):
        """What the server says of how busy it is; None where it does not."""
        return json.loads((await self._manage("GET", "/v1/server")).body).get("load")

    async def _murder(self, record, _):
        spawner = remains.spawner(self.server)
        if spawner:
            os.kill(spawner, signal.SIGKILL)
            record.instead = f"process {spawner}"

    async def _list(self, record, operation):
        if operation.details.get("by") != "v1":
            record.answer = await self._manage("GET", "/list")
            return
        answer = await self._manage("GET", "/v1/functions")
        functions = json.loads(answer.body)["functions"] if answer.status == 200 else []
        record.answer = Answer(answer.status, answer.headers, "\n".join(one["name"] for one in functions).encode())

    async def _look(self, record, operation):
        record.answer = await self._manage("GET", "/v1/functions/" + operation.name)

    async def _state(self, record, operation):
        record.answer = await self._manage("GET", operation.details["of"])

    async def _logs(self, record, operation):
        query = f"?name={operation.name}" if operation.name else ""
        record.answer = await self._manage("GET", "/logs" + query)
        record.answer.body = record.answer.body[:1000]

    async def _wipe(self, record, operation):
        by_v1 = operation.details.get("by") == "v1"
        record.answer = await self._manage(*(("DELETE", "/v1/functions") if by_v1 else ("POST", "/wipe")))

    async def _delete(self, record, operation):
        if operation.details.get("by") == "v1":
            record.answer = await self._manage("DELETE", "/v1/functions/" + operation.name)
            return
        body = json.dumps({"name": operation.name}).encode()
        record.answer = await self._manage("POST", "/delete", body)

    async def _upload(self, record, operation):
        details = operation.details
        environment = details["environment"]
        archive = functions.archive(environment, details["version"])
        request = {"name": operation.name, "env": environment, "threads": details["threads"], "envs": [f"MARKS={self.marks}"]}
        if details["by"] in ("put", "stream"):
            await self._put(record, archive)
        elif details["by"] == "url":
            path = f"/{details['version']}.zip"
            self._archives[path] = sends(archive)
            await self._deploy(record, "/uploadURL", {**request, "url": self._site.url + path})
            if "leaves after" not in details:
                del self._archives[path]
        else:
            await self._deploy(record, "/upload", {**request, "zip": base64.b64encode(archive).decode()})

    async def _put(self, record, archive):
        details = record.operation.details
        query = {"env": details["environment"], "threads": details["threads"], "envs": f"MARKS={self.marks}"}
        path = f"/v1/functions/{record.operation.name}?{urllib.parse.urlencode(query)}"
        headers = [("Content-Type", "application/zip")]
        if details["by"] == "stream":
            headers.append(("Accept", "application/x-ndjson"))
        if "leaves after" in details:
            await self._leave(record, self.management, path, archive, details["leaves after"], headers, method="PUT")
            return
        answer = await self._manage("PUT", path, archive, headers)
        if details["by"] == "stream" and answer.status == 200:
            record.events = [json.loads(line) for line in answer.body.splitlines()]
            last = record.events[-1]
            replaced = 200 if last.get("replaced") else 201
            answer.status = replaced if last["event"] == "ready" else last["status"]
        record.answer = answer

    async def _deploy(self, record, path, request):
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        details = record.operation.details
        if "leaves after" in details:
            await self._leave(record, self.management, path, body, details["leaves after"])
        elif details.get("how") == "cut":
            await self._leave(record, self.management, path, body, 0.05, cut=len(body) // 2)
        else:
            record.answer = await self._manage("POST", path, body)

    async def _bad_upload(self, record, operation):
        how, environment = operation.details["how"], operation.details["environment"]
        good = base64.b64encode(functions.archive(environment, "vbad")).decode()
        request = {"name": operation.name, "env": environment, "zip": good}
        path = "/upload"
        if how in functions.BROKEN:
            request["zip"] = base64.b64encode(functions.broken_archive(environment, how)).decode()
        elif how == "no zip":
            request["zip"] = base64.b64encode(b"this is no zip" * 100).decode()
        elif how == "empty zip":
            request["zip"] = base64.b64encode(b"PK\5\6" + bytes(18)).decode()
        elif how == "not JSON":
            request = b'{"name": "' + b"x" * 500
        elif how == "environment":
            request["env"] = "cobol"
        elif how == "threads":
            request["threads"] = 0
        elif how == "name":
            request["name"] = "../" + operation.name
        elif how != "cut":
            path = "/uploadURL"
            del request["zip"]
            request["url"] = self._site.url + "/" + how.replace(" ", "-")
            if how == "url no zip":
                self._archives["/url-no-zip"] = sends(b"this is no zip")
            elif how == "subfolder":
                self._archives["/subfolder"] = sends(functions.archive(environment, "vbad"))
                request["subfolder_path"] = "not/there"
        await self._deploy(record, path, request)

    async def _leave(self, record, port, path, body, after, headers=(), cut=None, method="POST"):
        connection = await Connection.open(port)
        try:
            await connection.send(method, path, body, headers, cut)
            await asyncio.sleep(after)
        finally:
            connection.abort()
        record.instead = "left"

    # Calling

    def _asked(self, record):
        """The body of a call, with a token of its own."""
        operation = record.operation
        record.token = f"t{operation.number}-{int(record.start * 1e6)}"
        return functions.body(operation.details["kind"], operation.details["argument"], record.token)

    async def _call(self, record, operation):
        body, path = self._asked(record), "/" + operation.name
        if "leaves after" in operation.details:
            cut = len(body) // 2 if operation.details["cut"] else None
            await self._leave(record, self.http, path, body, operation.details["leaves after"], cut=cut)
            return
        details = operation.details
        kept, pause = details.get("kept", False), details.get("reads slowly", 0)
        record.answer = await self._gateway("POST", path, body, kept=kept, pause=pause)

    async def _gateway(self, method, path, body=b"", headers=(), kept=False, pause=0):
        connection = None
        while kept and self._kept and connection is None:
            connection = self._kept.pop()
            if not connection.usable():
                connection.abort()
                connection = None
        connection = connection or await Connection.open(self.http)
        try:
            answer = await connection.exchange(method, path, body, headers, pause)
        except BaseException:
            connection.abort()
            raise
        if kept and connection.usable() and len(self._kept) < KEPT_MAX:
            self._kept.append(connection)
        else:
            connection.abort()
        return answer

    async def is_forgotten(self, location):
        """Whether nothing is known any more of an accepted call."""
        return (await self._gateway("GET", location)).status == 404

    async def _accept(self, record, operation):
        body, then = self._asked(record), operation.details["then"]
        record.answer = answer = await self._gateway("POST", "/" + operation.name, body, [("X-tinyFaaS-Async", "1")])
        if answer.status != 202:
            return
        location = answer.headers.get("location", "/no-location")
        self.accepted.append(location)
        if then == "forget":
            return
        accepted = self.now()
        if then == "cancel":
            await asyncio.sleep(operation.details["after"])
            if operation.details["by"] == "v1":
                record.result = await self._manage("DELETE", location.replace("/.tinyfaas/", "/v1/"))
            else:
                record.result = await self._gateway("DELETE", location)
            if record.result.status == 200:
                record.state = json.loads(record.result.body)
                return
        query = "" if then == "poll" else "?wait=10s"
        while True:
            state = await self._gateway("GET", location + query)
            if state.status == 404:
                record.result = state
                return
            record.state = json.loads(state.body)
            if state.status == 200:
                break
            if self.now() - accepted > OPERATION_MAX_S:
                raise NoAnswer("the accepted call does not end")
            if then == "poll":
                await asyncio.sleep(0.2)
        record.result = await self._gateway("GET", location + "/result")
