#!/usr/bin/env python3
"""Plays a random schedule against a server of its own: run.py [--seed N] [--minutes M].

Up to two hundred uploads, deletes, lists and calls at the same time, all drawn
from the seed before they run. Each answer is judged, and the history of each
name must be one that can have happened. In the end there must be exactly what
was asked for, and no process, descriptor or file more than before; memory must
not grow. The same seed gives the same schedule; the machine's own timing cannot
be played again, so a failure may need some runs of its seed to come back.
"""

import argparse
import asyncio
import random
import resource
import shutil
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.dont_write_bytecode = True

from blackbox.server import Server, binary  # noqa: E402
from schedule import plan, remains  # noqa: E402
from schedule.judge import judge, judge_marks  # noqa: E402
from schedule.play import Player  # noqa: E402

# How long what has been asked for may take to be all done, and what was left to
# be gone.
QUIET_S = 40
QUIET_SAID_S = 5
STOP_S = 8
# A second is promised; the machine may be busy with others.
IDLE_STOP_S = 1.5
# What the third part of the schedule may add to the anonymous memory of the server
# and of its spawner. What the parts before have freed is there to be used again,
# but lies in pieces, and the part with the larger bursts has needed more at a time:
# 3 MiB was the most that was seen. In ten minutes a leak of 1 KiB or so for each
# operation is found.
SERVER_GROWTH_BYTES = 8 << 20
SPAWNER_GROWTH_BYTES = 256 << 10
COMPLAINTS_SHOWN = 8


class Wrong(Exception):
    """What the schedule has found."""


def run(seed, seconds, rate, room=None, say=print):
    """Plays the schedule of a seed; raises `Wrong` with all that is wrong."""
    room = room or plan.room_of(seed)
    say(f"seed {seed}: {seconds:g} s, a server with {room} room, {rate:g} operations a second and bursts")
    raise_open_files()
    server = Server(**plan.COMMON, **plan.SETTINGS[room]).start()
    try:
        asyncio.run(_whole(server, seed, seconds, rate, room, say))
        _stops(server, say)
        _storm(seed, room, rate, signal.SIGTERM, say)
        _storm(seed, room, rate, signal.SIGKILL, say)
    except Wrong as wrong:
        again = f"test/schedule/run.py --seed {seed} --minutes {seconds / 60:g} --rate {rate:g} --room {room}"
        raise Wrong(f"{wrong}\n\nplay it again: {again}\nthe server's output: {server.output_path}") from None
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.exit()
    shutil.rmtree(server.folder, ignore_errors=True)


async def _whole(server, seed, seconds, rate, room, say):
    """A short part that warms the server up, two that must leave it alike, and a
    short one in which the process dies that starts all handlers."""
    before = await _used_once(server)
    parts = [("a", 0.15, 0), ("b", 0.35, 0), ("c", 0.35, 0), ("d", 0.15, 2)]
    held = []
    for part, share, murders in parts:
        player = Player(server)
        try:
            began = time.monotonic()
            await player.play(plan.schedule(seed, part, seconds * share, rate, murders))
            await _ends(server, player, room)
        finally:
            player.close()
        await _quiet(server, before, say)
        await _forgotten(player)
        await _idle(player, say)
        _right(judge_marks(player.records, player.marks, server.output()))
        held.append(remains.memory(server))
        took = time.monotonic() - began
        say(
            f"part {part}: {len(player.records)} operations in {took:.1f} s, up to {player.most_in_flight} at a time;"
            f" server {held[-1][0] >> 10} KiB, spawner {held[-1][1] >> 10} KiB; {_tally(player.records)}"
        )
    for who, least, bound in (("server", 0, SERVER_GROWTH_BYTES), ("spawner", 1, SPAWNER_GROWTH_BYTES)):
        grown = held[2][least] - held[1][least]
        if grown > bound:
            raise Wrong(f"the {who}'s memory grew by {grown} bytes from the second part to the third: {held}")


async def _used_once(server):
    """What there is once the server has made the folders that it keeps."""
    player = Player(server)
    first = plan.Operation(0, 0, "upload", plan.NAMES[0], {"environment": "binary", "threads": 1, "by": "zip", "version": "v"})
    try:
        await player.perform(first)
        await player.perform(plan.Operation(1, 0, "call", plan.NAMES[0], {"kind": "print", "argument": 1}))
        await player.perform(plan.Operation(2, 0, "delete", plan.NAMES[0]))
    finally:
        player.close()
    if [record.answer.status for record in player.records] != [200, 200, 200]:
        raise Wrong("a function cannot be uploaded, called and deleted: " + "; ".join(map(str, player.records)))
    return remains.look(server)


def _tally(records):
    """How the operations were answered, in short."""
    counts = {}
    for record in records:
        answer = record.result or record.answer
        how = str(answer.status) if answer else record.instead.split(":")[0]
        counts[how] = counts.get(how, 0) + 1
    return ", ".join(f"{how} {count}" for how, count in sorted(counts.items()))


async def _ends(server, player, room):
    """When all is answered: what is there is what was asked for, and it can be
    removed."""
    number = 1_000_000

    def operation(what, name="", **details):
        nonlocal number
        number += 1
        return plan.Operation(number, 0, what, name, details)

    listed = await player.perform(operation("list"))
    there = listed.answer.text.split() if listed.answer else []
    for name in there:
        await player.perform(operation("call", name, kind="echo", argument="-"))
    # Uploads whose callers left may still be carried out: their turns come first.
    await asyncio.gather(*(player.perform(operation("delete", name)) for name in plan.NAMES))
    listed = await player.perform(operation("list"))
    complaints = judge(player.records, room)
    if not complaints and listed.answer.body:
        complaints = [f"functions are there that were all deleted: {listed.answer.text!r}"]
    _right(complaints)


def _right(complaints):
    if complaints:
        more = len(complaints) - COMPLAINTS_SHOWN
        more = f"\n\nand {more} more" if more > 0 else ""
        raise Wrong("\n\n".join(complaints[:COMPLAINTS_SHOWN]) + more)


async def _quiet(server, before, say):
    """Waits until there is what was there before, and nothing else."""
    began, now = time.monotonic(), before
    ends = began + QUIET_S
    while True:
        last = now
        if server.process.poll() is not None:
            raise Wrong(f"the server ended with {server.process.returncode}")
        now = remains.look(server)
        if now == before:
            if time.monotonic() - began > QUIET_SAID_S:
                say(f"quiet only after {time.monotonic() - began:.1f} s; the last to go: {last.less(before)}")
            return
        if time.monotonic() > ends:
            raise Wrong(f"left after {QUIET_S} s: {now.less(before)}")
        await asyncio.sleep(0.05)


async def _forgotten(player):
    """Waits until no result of an asynchronous call is kept any more."""
    ends = time.monotonic() + plan.KEEP_S + QUIET_S
    while player.accepted:
        if await player.is_forgotten(player.accepted[-1]):
            player.accepted.pop()
        elif time.monotonic() > ends:
            raise Wrong(f"not forgotten after {plan.KEEP_S + QUIET_S} s: {player.accepted[-1]}")
        else:
            await asyncio.sleep(0.1)


async def _idle(player, say):
    """Nothing is held or waited for any more, by the server's own count."""
    ends = time.monotonic() + QUIET_S
    while True:
        load = await player.load()
        if load is None:
            say("not checked: the server does not tell how busy it is")
            return
        busy = {what: load[what] for what in ("waiting", "accepted_waiting", "held_bytes", "result_bytes") if load[what]["taken"]}
        if not busy:
            return
        if time.monotonic() > ends:
            raise Wrong(f"the server says that it is busy still: {busy}")
        await asyncio.sleep(0.05)


def _stops(server, say):
    began = time.monotonic()
    code = server.stop(signal.SIGTERM)
    took = time.monotonic() - began
    left = server.left_over()
    if code != 0 or left:
        raise Wrong(f"SIGTERM: the server ended with {code} and left {left}")
    if took > IDLE_STOP_S:
        raise Wrong(f"SIGTERM: the server took {took:.2f} s to stop though nothing was in flight\n{server.output()[-2000:]}")
    say(f"stopped in {took:.2f} s")


def _storm(seed, room, rate, number, say):
    """A signal in the midst of it all: nothing may be left."""
    dice = random.Random(f"{seed} {number.name}")
    after = dice.uniform(1, 4)
    server = Server(**plan.COMMON, **plan.SETTINGS[room]).start()
    before = remains.strays(server)

    def new_strays():
        return [pid for pid in remains.strays(server) if pid not in before]

    async def play():
        player = Player(server)
        playing = asyncio.ensure_future(player.play(plan.schedule(seed, number.name, 12, rate)))
        try:
            await asyncio.sleep(after)
            server.send(number)
            began = time.monotonic()
            while server.process.poll() is None:
                if time.monotonic() - began > STOP_S + 20:
                    raise Wrong(f"{number.name} in the midst of it: the server does not end")
                await asyncio.sleep(0.01)
            took = time.monotonic() - began
            if number == signal.SIGTERM:
                _right(judge_marks(player.records, player.marks, server.output()))
            return took
        finally:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            player.close()

    try:
        took = asyncio.run(play())
        code = server.exit()
        expected = 0 if number == signal.SIGTERM else -number
        if code != expected or took > STOP_S:
            raise Wrong(f"{number.name} in the midst of it: ended with {code} after {took:.1f} s\n{server.output()[-3000:]}")
        ends = time.monotonic() + 5
        while number == signal.SIGKILL and (server.processes() or new_strays()) and time.monotonic() < ends:
            time.sleep(0.01)
        if number == signal.SIGKILL:
            if server.processes():
                raise Wrong(f"SIGKILL in the midst of it left {server.left_over()}")
            server.start()
            if server.stop(signal.SIGTERM) != 0:
                raise Wrong("a server does not start and stop again after SIGKILL in the midst of it")
        left = server.left_over() + [f"guard {pid}" for pid in new_strays()]
        if left:
            raise Wrong(f"{number.name} in the midst of it left {left}\n{server.output()[-3000:]}")
        say(f"{number.name} after {after:.1f} s in the midst of it: ended in {took:.2f} s, nothing left")
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.exit()
    shutil.rmtree(server.folder, ignore_errors=True)


def raise_open_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=None, help="play this schedule; else a fresh one")
    parser.add_argument("--minutes", type=float, default=10, help="how long (10)")
    parser.add_argument("--rate", type=float, default=40, help="operations a second beside the bursts (40)")
    parser.add_argument("--room", choices=sorted(plan.SETTINGS), help="the server's room; else the seed says")
    options = parser.parse_args()
    if not binary().exists():
        sys.exit(f"there is no {binary()}; build it first: make build")
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    try:
        run(seed, options.minutes * 60, options.rate, options.room, lambda text: print(text, flush=True))
    except Wrong as wrong:
        sys.exit(f"seed {seed}: wrong\n{wrong}")
    print(f"seed {seed}: all as it should be")


if __name__ == "__main__":
    main()
