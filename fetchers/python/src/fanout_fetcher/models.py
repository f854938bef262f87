"""How one process waits: one URL after the other, in threads, or on an event loop."""

from __future__ import annotations

import os
import queue
import threading
import time
from typing import Any, Awaitable, Callable

from . import wire
from .session import FLUSH_AFTER_S, Session

#: Fetches one URL; what it answers is told in README.md.
Fetch = Callable[[str], Any]
AsyncFetch = Callable[[str], Awaitable[Any]]


def spin(seconds: float) -> None:
    """Uses up so much CPU time, holding the interpreter as Python code does."""
    if seconds > 0:
        until = time.thread_time() + seconds
        while time.thread_time() < until:
            pass


def _fetch_one(session: Session, fetch: Fetch, slot: int, id_: int, url: str, cpu_work_s: float) -> None:
    start_ns = session.begin(id_)
    try:
        answer = fetch(url)
        spin(cpu_work_s)
    except Exception as error:  # a failure is data
        answer = error
    session.end(id_, slot, start_ns, answer)


def sequential(session: Session, make: Callable[[], Fetch], cpu_work_s: float) -> None:
    """One thread, one URL at a time. Between two it looks for new leases."""
    fetch = make()
    session.send(wire.ready())
    flushed = time.monotonic()
    while not session.exited:
        if session.go_ns and session.leases:
            id_, url = session.leases.popleft()
            _fetch_one(session, fetch, 0, id_, url, cpu_work_s)
            idle = not session.leases
        else:
            idle = True
        now = time.monotonic()
        if idle or now - flushed >= FLUSH_AFTER_S:
            session.flush()
            flushed = now
        session.wait(None if idle else 0)


def threads(session: Session, make: Callable[[], Fetch], cpu_work_s: float, concurrency: int) -> None:
    """A thread for every URL in flight; this one reads and writes."""
    leases: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()
    went = threading.Event()
    wake, woken = os.pipe()

    def slot(number: int) -> None:
        fetch = make()
        went.wait()
        while True:
            id_, url = leases.get()
            _fetch_one(session, fetch, number, id_, url, cpu_work_s)
            if leases.empty():
                # Who finds no lease sends the completions off.
                os.write(woken, b"!")

    for number in range(concurrency):
        threading.Thread(target=slot, args=(number,), daemon=True).start()
    session.send(wire.ready())
    while not session.exited:
        while session.leases:
            leases.put(session.leases.popleft())
        if session.go_ns and not went.is_set():
            went.set()
        session.flush()
        session.wait(FLUSH_AFTER_S if session.outstanding else None, wake)


async def event_loop(
    session: Session, make: Callable[[], Awaitable[AsyncFetch]], cpu_work_s: float, concurrency: int
) -> None:
    """One thread, one event loop, a task for every URL in flight."""
    # Its memory and start are no other model's.
    import asyncio

    loop = asyncio.get_running_loop()
    leases: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
    went, exited = asyncio.Event(), asyncio.Event()
    failed: list[BaseException] = []
    fetch = await make()

    def readable() -> None:
        try:
            session.receive()
        except BaseException as error:
            failed.append(error)
            exited.set()
            return
        heed()

    def heed() -> None:
        while session.leases:
            leases.put_nowait(session.leases.popleft())
        if session.go_ns:
            went.set()
        if session.exited:
            # The end of the input is no news any more.
            loop.remove_reader(session.stdin)
            exited.set()

    def flush() -> None:
        session.flush()
        loop.call_later(FLUSH_AFTER_S, flush)

    async def slot(number: int) -> None:
        await went.wait()
        while True:
            id_, url = await leases.get()
            start_ns = session.begin(id_)
            try:
                answer = await fetch(url)
                spin(cpu_work_s)
            except Exception as error:  # a failure is data
                answer = error
            session.end(id_, number, start_ns, answer)
            if leases.empty():
                session.flush()

    slots = [loop.create_task(slot(number)) for number in range(concurrency)]
    loop.add_reader(session.stdin, readable)
    session.send(wire.ready())
    heed()
    flush()
    await exited.wait()
    for task in slots:
        task.cancel()
    if failed:
        raise failed[0]
