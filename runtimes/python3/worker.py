"""The Python worker: runs one function for the server, over the socket that it
inherits as file descriptor 3 (docs/worker-protocol.md).

It owns the frames' Python side, the threads that run calls, and what `fn` may take
and return. It knows nothing of HTTP, routes, other handlers, or who started it.

Threads take turns: one leads, it alone reads frames. A leader runs a call itself, so
a short call costs no change of thread; when a call proves slow the lead passes to a
follower, and the former leader finishes its call and becomes a follower. The calls of
an `async def fn` run on one event loop in the main thread; the leader only hands them
over. Started as `python3 -I -S -u worker.py`; the standard library only, and little of
it, because each import lengthens every start.
"""

import io
import json
import os
import site
import struct
import sys
from _signal import SIG_DFL, SIGINT, signal
from _thread import allocate_lock, start_new_thread

# By name: functions and their test tools may replace what `time` holds.
from time import monotonic, perf_counter, sleep

SOCKET = 3
LOAD, CALL, BODY, CANCEL, CREDIT, PING = 1, 2, 3, 4, 5, 6
READY, FAILED, REPLY, ERROR, ENDED, PONG = 65, 66, 67, 68, 69, 70
END, FAILURE = 1, 2

FRAME = struct.Struct("<IBBHI")
# REPLY with the length of its head.
REPLY_FRAME = struct.Struct("<IBBHII")
U32 = struct.Struct("<I")

PAYLOAD_BYTES_MAX = 2 << 20
HEAD_BYTES_MAX = 512 << 10
# Of a body this much may be sent unasked, in each direction.
WINDOW_BYTES = 256 << 10
# Credit is granted in steps of this, and a body is cut into frames of this.
STEP_BYTES = 64 << 10
PIECE_BYTES = 128 << 10
READ_BYTES = 64 << 10
# What a caller is told of an exception is cut here; the log has it whole.
FAILURE_BYTES_MAX = 32 << 10
NAMES_MAX = 1024
REPEATED_MAX = 64
REPEATED_BYTES_MAX = 2 << 10

# A function whose last call took longer than this runs without the lead.
SLOW_SECONDS = 0.0005
# A finished reply does not wait longer than this for the ones behind it.
HOLD_SECONDS = 0.0002
# How often the watch looks whether the leader is still in the same call, and after
# how many looks without a call it goes to sleep.
WATCH_SECONDS = 0.001
WATCH_QUIET = 20

HEADER_NAME = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
CONTROLS = bytes(set(range(32)) - {9}) + b"\x7f"
# Of a function's code: it is an `async def`, with or without `yield`.
CO_COROUTINE, CO_ASYNC_GENERATOR = 0x80, 0x200
SIGNATURES = "fn(input), fn(input, headers) or fn(input, headers, context)"
RETURNS = (
    "return a str, bytes, None, (body, status), (body, status, headers) "
    "or an iterator of str or bytes"
)


def main():
    try:
        # Programs that the function starts must not hold the socket open.
        os.set_inheritable(SOCKET, False)
        os.set_blocking(SOCKET, True)
    except OSError:
        leave(70, "file descriptor 3 is no socket: this program is started by the tinyFaaS server")
    # Python's own way, an exception in the main thread, hits whichever call runs there.
    signal(SIGINT, SIG_DFL)
    open_log()
    wire = Wire(SOCKET)
    os.register_at_fork(after_in_child=wire.abandon)
    kind, _, _, start, stop = wire.frame()
    if kind != LOAD:
        leave(70, "the first frame was not LOAD")
    try:
        load = json.loads(wire.data[start:stop])
        crew = Crew(wire, load["concurrency"])
        folder, dependencies = load["folder"], load.get("dependencies")
    except (ValueError, KeyError, TypeError) as error:
        leave(70, "LOAD does not parse: %r" % error)
    # Another thread leads while this one imports: the server may go meanwhile.
    first = crew.follower()
    if first is None:
        leave(70, "no thread can be started; the limit of processes is too low")
    first.release()
    work = crew.follow
    try:
        crew.fn, crew.takes = load_function(folder, dependencies)
        if is_async(crew.fn):
            work = Loop(crew).work
    except Unfit as unfit:
        reason = str(unfit)
    except BaseException as error:
        reason = "fn.py could not be loaded\n" + account(error)
        if isinstance(error, ModuleNotFoundError):
            reason += "If %s is a package, name it in requirements.txt.\n" % error.name
    else:
        name = "Python %d.%d.%d" % sys.version_info[:3]
        wire.send(READY, 0, 0, json.dumps({"protocol": 1, "runtime": name}).encode())
        work()
    for log in (sys.stdout, sys.stderr):
        try:
            log.flush()
        except Exception:
            pass
    wire.send(FAILED, 0, 0, reason.encode("utf-8", "replace")[:FAILURE_BYTES_MAX])
    os._exit(1)


def leave(code, why):
    """Ends the process, whatever its threads are at."""
    if why:
        try:
            os.write(2, ("tinyfaas worker: %s\n" % why).encode("utf-8", "replace"))
        except OSError:
            pass
    os._exit(code)


def open_log():
    """Whole lines at a time, so that threads do not mix theirs; never an encoding error."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        raw = io.FileIO(number, "w", closefd=False)
        log = io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "backslashreplace", line_buffering=True)
        setattr(sys, name, log)
        setattr(sys, "__%s__" % name, log)


# --- frames ---------------------------------------------------------------------


class Wire:
    """The socket: whole frames in, whole frames out."""

    def __init__(self, number):
        self.number = number
        self.data = b""
        self.at = 0
        # Frames on their way. Adding one needs no lock, append being atomic.
        self.waiting = []
        self.writing = allocate_lock()
        # When the oldest of them may have begun to wait.
        self.since = 0.0

    def frame(self):
        """The next frame: its payload is data[start:stop]. Only the leader calls this."""
        while True:
            start = self.at + 12
            if len(self.data) < start:
                self.read(start - len(self.data))
                continue
            length, kind, flags, _, number = FRAME.unpack_from(self.data, self.at)
            stop = start + length
            if len(self.data) < stop:
                if length > PAYLOAD_BYTES_MAX:
                    leave(70, "a frame of %d bytes, over the limit" % length)
                self.read(stop - len(self.data))
                continue
            self.at = stop
            return kind, flags, number, start, stop

    def read(self, missing):
        """Reads at least `missing` bytes more. What is finished goes out first."""
        if self.waiting:
            self.flush()
        rest = self.data[self.at :]
        self.at = 0
        self.data = self.receive(missing)
        missing -= len(self.data)
        if rest or missing > 0:
            # A frame of many parts is joined once, not part by part.
            parts = [rest, self.data]
            while missing > 0:
                parts.append(self.receive(missing))
                missing -= len(parts[-1])
            self.data = b"".join(parts)
        self.since = perf_counter()

    def receive(self, missing):
        try:
            part = os.read(self.number, max(missing, READ_BYTES))
        except ConnectionError:
            part = b""
        except OSError as error:
            self.broke(error)
        if not part:
            # The server is gone.
            os._exit(0)
        return part

    def send(self, kind, flags, number, payload):
        self.waiting.append(FRAME.pack(len(payload), kind, flags, 0, number) + payload)
        self.flush()

    def flush(self):
        """Writes all that waits. The lock keeps frames of several threads whole."""
        with self.writing:
            count = len(self.waiting)
            if not count:
                return
            data = self.waiting[0] if count == 1 else b"".join(self.waiting[:count])
            del self.waiting[:count]
            try:
                done = os.write(self.number, data)
                while done < len(data):
                    done += os.write(self.number, memoryview(data)[done:])
            except ConnectionError:
                os._exit(0)
            except OSError as error:
                self.broke(error)

    def broke(self, error):
        if self.number < 0:
            leave(70, "a process that fn forked came back from fn; it must end by os._exit")
        leave(70, "the socket to the server broke (has fn closed file descriptor 3?): %s" % error)

    def abandon(self):
        """A child that the function forked is no worker: it has neither socket nor say."""
        os.close(self.number)
        self.number = -1
        self.writing = allocate_lock()


class Call:
    # `since`, when it came on time.monotonic(), is set only where its body took time.
    __slots__ = ("number", "head", "body", "parts", "owed", "cancelled", "granted", "sent", "gate", "since")

    def __init__(self, number, head, body):
        self.number = number
        self.head = head
        self.body = body
        # Parts of a body that has not ended, and how much of it is not yet granted again.
        self.parts = None
        self.owed = 0
        self.cancelled = False
        # Written by the leader alone; `sent` by the thread that replies.
        self.granted = WINDOW_BYTES
        self.sent = 0
        # Opened by the leader when credit or a cancellation came.
        self.gate = None


# --- threads --------------------------------------------------------------------


class Crew:
    """The threads, and the calls that they run."""

    def __init__(self, wire, concurrency):
        self.wire = wire
        self.fn = None
        # How many arguments fn takes.
        self.takes = 2
        self.calls = {}
        # One more than calls: CREDIT and CANCEL must be read while all of them wait.
        self.hands_max = concurrency + 1
        self.hands = 0
        self.hiring = allocate_lock()
        # Parked threads, each by the lock on which it waits. The last to park goes
        # first: its memory is warm.
        self.parked = []
        # Holds the leader while it runs a call. Who takes it out, the watch or the
        # leader on its return, has the lead: dict.pop is atomic.
        self.inside = {}
        self.turns = 0
        self.slow = False
        self.watch_sleeps = False
        self.watch_bell = allocate_lock()
        self.watch_bell.acquire()
        if not self.start(self.watch):
            leave(70, "no thread can be started; the limit of processes is too low")

    def start(self, *work):
        try:
            start_new_thread(self.guarded, work)
            return True
        except RuntimeError:
            return False

    def guarded(self, work, *arguments):
        try:
            work(*arguments)
        except BaseException as error:
            leave(70, "the worker itself failed\n" + account(error))

    def follower(self):
        """A parked thread, hired if need be; None if there can be none."""
        try:
            return self.parked.pop()
        except IndexError:
            pass
        with self.hiring:
            if self.hands >= self.hands_max:
                return None
            me = allocate_lock()
            me.acquire()
            if not self.start(self.follow, me):
                return None
            self.hands += 1
            return me

    def follow(self, me=None):
        if me is None:
            me = allocate_lock()
            me.acquire()
            self.hands += 1
            self.parked.append(me)
        while True:
            me.acquire()
            self.lead(me)
            self.parked.append(me)

    def lead(self, me):
        """Reads frames and runs calls until the lead is lost."""
        wire, inside = self.wire, self.inside
        # What the last leader had finished must not wait for what it is at.
        wire.flush()
        while True:
            call = self.next_call()
            if self.slow:
                follower = self.follower()
                if follower is not None:
                    follower.release()
                    self.run(call, me)
                    wire.flush()
                    return
            self.turns += 1
            inside[me] = True
            if self.watch_sleeps:
                self.wake_watch()
            done = self.run(call, me)
            if inside.pop(me, None) is None:
                wire.flush()
                return
            if done - wire.since > HOLD_SECONDS:
                wire.flush()
                wire.since = done

    def surrender(self, me):
        """Gives the lead away before a wait, if it is still here."""
        if me not in self.inside:
            return
        follower = self.follower()
        if follower is None:
            # None is free at this moment; the watch tries again.
            return
        if self.inside.pop(me, None) is None:
            self.parked.append(follower)
        else:
            follower.release()

    def watch(self):
        """Passes the lead on when the leader stays in one call. Sleeps without traffic."""
        seen, quiet = -1, 0
        while True:
            sleep(WATCH_SECONDS)
            turns = self.turns
            if turns != seen:
                seen, quiet = turns, 0
            elif self.inside:
                follower = self.follower()
                if follower is not None:
                    try:
                        self.inside.popitem()
                    except KeyError:
                        self.parked.append(follower)
                    else:
                        self.slow = True
                        follower.release()
            elif quiet < WATCH_QUIET:
                quiet += 1
            else:
                quiet = 0
                self.watch_sleeps = True
                # A leader that got a call before it could see this rings no bell.
                if self.turns == seen:
                    self.watch_bell.acquire()
                self.watch_sleeps = False

    def wake_watch(self):
        self.watch_sleeps = False
        try:
            self.watch_bell.release()
        except RuntimeError:
            # It rings already.
            pass

    # --- frames that come in ---

    def next_call(self):
        """Reads until a call is complete; deals with all other frames on the way."""
        wire, calls = self.wire, self.calls
        while True:
            kind, flags, number, start, stop = wire.frame()
            call = calls.get(number)
            if kind == CALL:
                if call is not None:
                    leave(70, "call %d began twice" % number)
                call = self.open(number, start, stop)
                calls[number] = call
                if flags & END:
                    return call
                call.parts = [call.body]
                call.since = monotonic()
                self.grant(call, len(call.body))
            elif kind == BODY:
                if call is None:
                    # It has ended on this side; what still arrives for it is ignored.
                    continue
                if call.parts is None:
                    leave(70, "call %d got a body after its end" % number)
                call.parts.append(wire.data[start:stop])
                if flags & END:
                    call.body = b"".join(call.parts)
                    call.parts = None
                    return call
                self.grant(call, stop - start)
            elif kind == CANCEL:
                if call is not None:
                    self.cancel(call)
            elif kind == CREDIT:
                if stop - start != 4:
                    leave(70, "a CREDIT of %d bytes" % (stop - start))
                if call is not None:
                    call.granted += U32.unpack_from(wire.data, start)[0]
                    self.open_gate(call)
            elif kind == PING:
                self.wire.send(PONG, 0, number, b"")
            else:
                leave(70, "a frame of kind %d, which no worker gets" % kind)

    def open(self, number, start, stop):
        data = self.wire.data
        if stop - start >= 4:
            size = U32.unpack_from(data, start)[0]
            middle = start + 4 + size
            head = data[start + 4 : middle]
            breaks = head.count(b"\n")
            if middle <= stop and size <= HEAD_BYTES_MAX and breaks >= 4 and not breaks & 1:
                return Call(number, head, data[middle:stop])
        leave(70, "the head of call %d does not parse" % number)

    def grant(self, call, count):
        # The whole body goes to the function at once, and the server bounds it.
        call.owed += count
        if call.owed >= STEP_BYTES:
            self.wire.waiting.append(FRAME.pack(4, CREDIT, 0, 0, call.number) + U32.pack(call.owed))
            call.owed = 0

    def cancel(self, call):
        call.cancelled = True
        self.open_gate(call)
        if call.parts is not None:
            # The function has not begun.
            self.finish(call, ENDED, 0, b"")

    def open_gate(self, call):
        if call.gate is not None:
            try:
                call.gate.release()
            except RuntimeError:
                # It is open already.
                pass

    # --- running a call, and replies that go out ---

    def run(self, call, me):
        """Runs one call, to its last frame; the time at which the function was done."""
        began = perf_counter()
        try:
            body = call.body
            text = str(body, "utf-8", "surrogateescape") if body else None
            if self.takes == 2:
                result = self.fn(text, headers_of(call.head))
            elif self.takes == 1:
                result = self.fn(text)
            else:
                result = self.fn(text, headers_of(call.head), Context(call))
            head, flags = b"", END
            if type(result) is str:
                body = result.encode("utf-8", "surrogateescape")
            else:
                head, body = reply_of(result)
        except BaseException as error:
            head, flags = b"500", END | FAILURE
            body = tell(error)
        done = perf_counter()
        self.slow = done - began > SLOW_SECONDS
        if call.cancelled:
            close(body)
            self.finish(call, ENDED, 0, b"")
        elif type(body) is not bytes:
            self.surrender(me)
            self.stream(call, head, body)
        elif len(body) <= WINDOW_BYTES:
            number = call.number
            # Gone before its last frame is: the server may use the number again.
            del self.calls[number]
            size = len(head)
            self.wire.waiting.append(
                REPLY_FRAME.pack(4 + size + len(body), REPLY, flags, 0, number, size) + head + body
            )
        else:
            self.surrender(me)
            if not self.pour(call, head, body, END):
                self.finish(call, ENDED, 0, b"")
        return done

    def finish(self, call, kind, flags, payload):
        del self.calls[call.number]
        self.wire.send(kind, flags, call.number, payload)

    def stream(self, call, head, items):
        """Sends what an iterator yields as it comes; the reply begins with the first of it."""
        begun = False
        try:
            for item in items:
                data = bytes_of(item)
                if call.cancelled or data and not self.pour(call, None if begun else head, data, 0):
                    break
                begun = begun or len(data) > 0
        except BaseException as error:
            words = tell(error)
            if call.cancelled:
                pass
            elif begun:
                close(items)
                return self.finish(call, ERROR, 0, words)
            else:
                close(items)
                return self.finish(call, REPLY, END | FAILURE, U32.pack(3) + b"500" + words)
        close(items)
        if not self.pour(call, None if begun else head, b"", END):
            self.finish(call, ENDED, 0, b"")

    def pour(self, call, head, data, flags):
        """Sends data in frames, as credit allows; False if the call was cancelled first."""
        if call.gate is None:
            call.gate = allocate_lock()
            call.gate.acquire()
        for whole in self.pouring(call, head, data, flags):
            if whole is not None:
                return whole
            call.gate.acquire()

    def pouring(self, call, head, data, flags):
        """The steps of pour: None where it must wait at the gate, at last what it returns."""
        view = memoryview(data)
        while True:
            room = call.granted - call.sent
            if call.cancelled:
                yield False
                return
            if view and room <= 0:
                yield None
                continue
            piece = view[: min(room, PIECE_BYTES)]
            view = view[len(piece) :]
            call.sent += len(piece)
            kind = BODY
            if head is not None:
                kind, piece, head = REPLY, b"".join((U32.pack(len(head)), head, piece)), None
            if view:
                self.wire.send(kind, 0, call.number, piece)
            elif flags & END:
                self.finish(call, kind, END, bytes(piece))
                yield True
                return
            else:
                self.wire.send(kind, 0, call.number, bytes(piece))
                yield True
                return


# --- an async def fn ----------------------------------------------------------------


class Loop:
    """The event loop that runs the calls of an `async def fn`, all in one thread. It takes
    the place of `Crew.run`: the leader hands a call over and reads on."""

    def __init__(self, crew):
        # Not before it is needed: it lengthens a start by tens of milliseconds.
        import asyncio
        from collections import deque

        self.asyncio = asyncio
        self.crew = crew
        # Before 3.10 what a module makes when it is imported belongs to the default loop.
        self.loop = asyncio.get_event_loop() if sys.version_info < (3, 10) else asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        # Calls that have come and have not begun; whether the loop knows of them.
        self.new = deque()
        self.knocked = False
        self.flushing = False
        # The loop itself holds tasks weakly.
        self.tasks = set()
        crew.run = self.take

    def work(self):
        """Runs calls for ever, in the thread that calls it."""
        while not self.loop.is_closed():
            try:
                self.loop.run_forever()
            except BaseException as error:
                # sys.exit in a task that fn has made.
                tell(error)
        leave(70, "fn has closed its event loop")

    def take(self, call, me):
        """Hands a call over. Called by the leader, for whom many calls are one knock."""
        call.gate = Gate(self, call)
        self.new.append(call)
        if not self.knocked:
            self.knocked = True
            self.loop.call_soon_threadsafe(self.begin)
        return perf_counter()

    def begin(self):
        self.knocked = False
        while self.new:
            call = self.new.popleft()
            call.gate.task = task = self.loop.create_task(self.run(call))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def run(self, call):
        """Runs one call, to its last frame."""
        crew = self.crew
        if call.cancelled:
            return crew.finish(call, ENDED, 0, b"")
        call.gate.begun = True
        flags = END
        try:
            body = call.body
            text = str(body, "utf-8", "surrogateescape") if body else None
            arguments = (text, headers_of(call.head), Context(call))[: crew.takes]
            result = crew.fn(*arguments)
            if hasattr(result, "__await__"):
                result = await result
            head, body = reply_of(result, True)
        except BaseException as error:
            head, flags = b"500", END | FAILURE
            body = self.told(call, error)
        if call.cancelled:
            await self.close(body)
            crew.finish(call, ENDED, 0, b"")
        elif type(body) is not bytes:
            await self.stream(call, head, body)
        elif len(body) <= WINDOW_BYTES:
            del crew.calls[call.number]
            size = len(head)
            frame = REPLY_FRAME.pack(4 + size + len(body), REPLY, flags, 0, call.number, size)
            crew.wire.waiting.append(frame + head + body)
            if not self.flushing:
                # Replies of one turn of the loop go out together.
                self.flushing = True
                self.loop.call_soon(self.flush)
        elif not await self.pour(call, head, body, END):
            crew.finish(call, ENDED, 0, b"")

    def flush(self):
        self.flushing = False
        self.crew.wire.flush()

    async def stream(self, call, head, items):
        """Sends what an iterator yields as it comes; the reply begins with the first of it."""
        crew, begun = self.crew, False
        try:
            async for item in items if hasattr(items, "__anext__") else self.turns(items):
                data = bytes_of(item)
                if data and not await self.pour(call, None if begun else head, data, 0):
                    break
                begun = begun or len(data) > 0
        except BaseException as error:
            words = self.told(call, error)
            await self.close(items)
            if call.cancelled:
                crew.finish(call, ENDED, 0, b"")
            elif begun:
                crew.finish(call, ERROR, 0, words)
            else:
                crew.finish(call, REPLY, END | FAILURE, U32.pack(3) + b"500" + words)
            return
        await self.close(items)
        if not await self.pour(call, None if begun else head, b"", END):
            crew.finish(call, ENDED, 0, b"")

    async def turns(self, items):
        """A plain iterator, which gives the other calls a turn after each item."""
        for item in items:
            yield item
            await self.asyncio.sleep(0)

    async def pour(self, call, head, data, flags):
        for whole in self.crew.pouring(call, head, data, flags):
            if whole is not None:
                return whole
            try:
                await call.gate.opened()
            except self.asyncio.CancelledError:
                # By CANCEL, which the next step sees, or by fn itself.
                if not call.cancelled:
                    raise

    def told(self, call, error):
        """What the caller is told. That a cancelled call ends so is no news."""
        if call.cancelled and isinstance(error, (self.asyncio.CancelledError, GeneratorExit)):
            return b""
        return tell(error)

    async def close(self, body):
        """Tells an iterator that nobody takes more of it."""
        shut = getattr(body, "aclose", None)
        if shut is None:
            return close(body)
        try:
            await shut()
        except BaseException as error:
            tell(error)


class Gate:
    """Where a call on the loop waits for credit. CANCEL comes by it, too."""

    __slots__ = ("loop", "call", "task", "begun", "waiter")

    def __init__(self, loop, call):
        self.loop = loop.loop
        self.call = call
        self.task = None
        # A task that is cancelled before its first step would never say that it ended.
        self.begun = False
        self.waiter = None

    def release(self):
        """Called by the leader."""
        self.loop.call_soon_threadsafe(self.wake)

    def wake(self):
        if self.call.cancelled:
            if self.begun:
                self.task.cancel()
        elif self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    async def opened(self):
        # Credit that has come since the last look finds this: wake runs on the loop.
        self.waiter = self.loop.create_future()
        await self.waiter


# --- what the function takes ------------------------------------------------------


class TitleCase(dict):
    """Header names as Python functions know them: user-agent is User-Agent."""

    def __missing__(self, name):
        if len(self) >= NAMES_MAX:
            # Callers choose names; memory must not grow with them.
            self.clear()
        title = self[name] = "-".join(part.capitalize() for part in name.split("-"))
        return title


TITLES = TitleCase()


# The headers of the latest callers, as they came and as functions get them: a caller
# repeats its own, and a copy costs a fourth of parsing.
REPEATED = {}


def headers_of(head):
    """A dict of a call's headers; a repeated one is joined to one value."""
    lines = head.split(b"\n", 5)
    if len(lines) < 6:
        return {}
    block = lines[5]
    headers = REPEATED.get(block)
    if headers is None:
        headers = parsed(block)
        if len(block) <= REPEATED_BYTES_MAX:
            if len(REPEATED) >= REPEATED_MAX:
                REPEATED.clear()
            REPEATED[block] = headers
    # The function may change its own.
    return headers.copy()


def parsed(block):
    fields = block.decode("latin-1").split("\n")
    names, values = fields[0::2], fields[1::2]
    headers = dict(zip(map(TITLES.__getitem__, names), values))
    if len(headers) < len(names):
        headers = {}
        for name, value in zip(map(TITLES.__getitem__, names), values):
            if name in headers:
                value = headers[name] + ("; " if name == "Cookie" else ", ") + value
            headers[name] = value
    return headers


class Context:
    """What a function learns of its call beyond its input and headers."""

    __slots__ = ("method", "path", "query", "body", "call_id", "deadline")

    def __init__(self, call):
        fields = call.head.split(b"\n", 5)
        self.call_id, self.method, self.path, self.query = (str(field, "latin-1") for field in fields[:4])
        self.body = call.body
        # In seconds, on time.monotonic(); then the call is given up.
        self.deadline = getattr(call, "since", monotonic()) + int(fields[4]) / 1000

    def remaining(self):
        """Seconds until the deadline, 0 at least."""
        return max(0.0, self.deadline - monotonic())


# --- what the function returns ----------------------------------------------------


class Unfit(Exception):
    """What a function is or returned cannot be used; the message says what can."""


def reply_of(result, on_loop=False):
    """The head of a reply, and its body: bytes, or an iterator; one that must be awaited
    only on the loop."""
    if type(result) is tuple:
        if len(result) == 2:
            body, status = result
            headers = None
        elif len(result) == 3:
            body, status, headers = result
        else:
            raise Unfit("fn returned a tuple of %d; %s" % (len(result), RETURNS))
        head = head_of(status, headers)
    else:
        head, body = b"", result
    if body is None:
        return head, b""
    if isinstance(body, (str, bytes, bytearray, memoryview)):
        return head, bytes_of(body)
    if hasattr(body, "__next__") or on_loop and hasattr(body, "__anext__"):
        return head, body
    kind = type(body).__name__
    if hasattr(body, "__await__") or hasattr(body, "__anext__"):
        close(body)
        advice = "await it" if on_loop else "make fn itself an async def"
        raise Unfit("fn returned %s, which nobody awaits; %s" % (kind, advice))
    if isinstance(body, (dict, list)):
        raise Unfit("fn returned %s; %s (json.dumps makes a str of a %s)" % (kind, RETURNS, kind))
    raise Unfit("fn returned %s; %s" % (kind, RETURNS))


def bytes_of(item):
    if isinstance(item, str):
        return item.encode("utf-8", "surrogateescape")
    if isinstance(item, (bytes, bytearray, memoryview)):
        return bytes(item)
    raise Unfit("fn returned an iterator that yields %s; yield str or bytes" % type(item).__name__)


def head_of(status, headers):
    if status is None:
        # Whatever is usual: over CoAP that depends on the method.
        fields = [b""]
    elif isinstance(status, bool) or not isinstance(status, int):
        raise Unfit("fn returned the status %.80r; return a whole number from 200 to 599" % (status,))
    elif not 200 <= status <= 599:
        raise Unfit("fn returned the status %d; return one from 200 to 599" % status)
    else:
        fields = [b"%d" % status]
    if headers is not None and not hasattr(headers, "items"):
        raise Unfit("fn returned headers as %s; return a dict" % type(headers).__name__)
    for name, values in headers.items() if headers else ():
        if not isinstance(name, str) or not name or name.strip(HEADER_NAME):
            raise Unfit(
                "fn returned a header named %.80r; a name is made of letters, digits and -" % (name,)
            )
        for value in values if isinstance(values, (list, tuple)) else (values,):
            fields += (name.lower().encode(), header_value(name, value))
    head = b"\n".join(fields)
    if len(head) > HEAD_BYTES_MAX:
        raise Unfit("fn returned %d bytes of headers; at most %d fit" % (len(head), HEAD_BYTES_MAX))
    return head


def header_value(name, value):
    if not isinstance(value, str):
        raise Unfit(
            "fn returned %s as the header %s; return a str, or a list of str for a repeated header"
            % (type(value).__name__, name)
        )
    try:
        data = value.encode("latin-1")
    except UnicodeEncodeError:
        raise Unfit(
            "fn returned a header %s with characters beyond Latin-1; "
            "percent-encode them (urllib.parse.quote)" % name
        ) from None
    if len(data.translate(None, CONTROLS)) < len(data):
        raise Unfit(
            "fn returned a header %s with a line break or another control character; "
            "a header is one line" % name
        )
    return data


def close(body):
    """Tells an iterator that nobody takes more of it."""
    shut = getattr(body, "close", None)
    if shut is not None:
        try:
            shut()
        except BaseException as error:
            tell(error)


def tell(error):
    """Puts an exception into the log, and returns what the caller is told of it."""
    if isinstance(error, Unfit):
        words = trace = str(error)
    else:
        trace = account(error)
        words = summary(error)
        if isinstance(error, SystemExit):
            words = "fn called exit(%s); it must return its reply" % ("" if error.code is None else error.code)
    try:
        sys.stderr.write(trace.rstrip("\n") + "\n")
    except BaseException:
        # The function has closed or replaced it; the caller is told nevertheless.
        pass
    return words.encode("utf-8", "backslashreplace")[:FAILURE_BYTES_MAX]


def summary(error):
    kind = type(error).__name__
    try:
        text = str(error)
    except BaseException:
        text = "(its message cannot be made)"
    return "%s: %s" % (kind, text) if text else kind


def account(error):
    """An exception with its traceback, from the function's first frame on."""
    try:
        # Not before it is needed: it lengthens every start by several milliseconds.
        import traceback

        trace = error.__traceback__
        ours = {main.__code__.co_filename}
        while trace is not None:
            name = trace.tb_frame.f_code.co_filename
            if name not in ours and not name.startswith("<frozen "):
                break
            trace = trace.tb_next
        return "".join(traceback.format_exception(type(error), error, trace))
    except BaseException:
        return summary(error)


# --- loading the function ---------------------------------------------------------


def load_function(folder, dependencies):
    """Imports fn.py as a user would expect it; fn, and how many arguments it takes."""
    # -S leaves these out, and functions use them.
    site.setquit()
    if dependencies:
        site.addsitedir(dependencies)
    sys.path.insert(0, folder)
    sys.argv = [os.path.join(folder, "fn.py")]
    os.chdir(folder)
    if not os.path.isfile("fn.py"):
        inner = sorted(name for name in os.listdir(".") if os.path.isfile(os.path.join(name, "fn.py")))
        advice = "put a file fn.py with a function fn(input, headers) at the top of the uploaded folder"
        if inner:
            advice = "there is one in %s/: upload that folder itself" % inner[0]
        raise Unfit("the function's folder has no fn.py; " + advice)
    import fn as module

    fn = getattr(module, "fn", None)
    if fn is None:
        raise Unfit("fn.py defines no fn; define fn(input, headers) in it, what it returns is the reply")
    if not callable(fn):
        raise Unfit("fn in fn.py is %s; it must be a function fn(input, headers)" % type(fn).__name__)
    return fn, takes(fn)


def takes(fn):
    """How many arguments fn takes. Older functions may have a third one of their own, with
    a default: it gets the context if it needs a value or is named so."""
    code = getattr(fn, "__code__", None)
    if code is not None and not hasattr(fn, "__wrapped__") and type(fn) is type(main):
        named, taken = code.co_argcount, 2 if code.co_flags & 0x04 else min(code.co_argcount, 2)
        needed = named - len(fn.__defaults__ or ())
        needed_by_name = code.co_kwonlyargcount - len(fn.__kwdefaults__ or ())
        if needed == 3 or named > 2 and code.co_varnames[2] == "context":
            taken = 3
        if needed <= taken and taken and not needed_by_name:
            return taken
    else:
        # Not before it is needed: it lengthens every start by many milliseconds.
        import inspect

        try:
            signature = inspect.signature(fn)
        except (TypeError, ValueError):
            # A callable made in C that does not tell.
            return 2
        names = list(signature.parameters)
        for count in (3, 2, 1) if names[2:3] == ["context"] else (2, 1, 3):
            try:
                signature.bind(*(None,) * count)
                return count
            except TypeError:
                pass
    raise Unfit("fn in fn.py cannot be called as %s; let it take these" % SIGNATURES)


def is_async(fn):
    """Whether a call of fn makes a coroutine or an async generator."""
    # A function, or in a functools.partial, or an object that can be called.
    for one in (fn, getattr(fn, "func", None), getattr(type(fn), "__call__", None)):
        code = getattr(one, "__code__", None)
        if code is not None:
            return code.co_flags & (CO_COROUTINE | CO_ASYNC_GENERATOR) != 0
    return False


if __name__ == "__main__":
    main()
