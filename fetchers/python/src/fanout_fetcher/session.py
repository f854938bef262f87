"""The fetcher's side of the two pipes, and what all slots share."""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from typing import Optional

from . import wire
from .completion import Completion, Response, batch, outcome_of, response_of

#: Completions leave at the latest this long after the first of a batch.
FLUSH_AFTER_S = 0.02
#: Most completions in one batch.
BATCH_MAX = 4096
#: Exit codes, as docs/fetcher-protocol.md has them.
EXIT_SETUP, EXIT_INPUT_ENDED, EXIT_OUTPUT_CLOSED, EXIT_PROTOCOL = 10, 11, 12, 13
_READ_BYTES = 64 * 1024

now_ns = time.perf_counter_ns


class Gauge:
    """URLs in flight: the integral over time, and the peak. Kept by itself, not from durations, so
    that the two can be held against each other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since_ns = 0
        self._now = 0
        self.peak = 0
        self.integral_ns = 0

    def add(self, change: int, at_ns: int) -> None:
        """So many more, or fewer, from now on."""
        with self._lock:
            self.integral_ns += (at_ns - self._since_ns) * self._now
            self._since_ns = at_ns
            self._now += change
            if self._now > self.peak:
                self.peak = self._now


class Session:
    """Reads instructions and keeps completions until they are sent. One thread reads and writes;
    slots in others only take leases and hand completions in."""

    def __init__(self, stdin: int, stdout: int) -> None:
        self.stdin, self.stdout = stdin, stdout
        self._buffer = bytearray()
        self.leases: deque[tuple[int, str]] = deque()
        self.done: list[Completion] = []
        self.starts: list[tuple[int, int]] = []
        self.report_starts = False
        self.go_ns = 0
        self.held = False
        self.exited = False
        #: URLs leased and not yet sent back.
        self.outstanding = 0
        self.requests = 0
        self.gauge = Gauge()
        self.first_start_ns = 0
        self.last_end_ns = 0

    def send(self, data: bytes) -> None:
        """Writes everything, however long the worker takes to read it."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self.stdout, view) :]
        except OSError:
            os._exit(EXIT_OUTPUT_CLOSED)

    def setup(self) -> wire.Setup:
        """The first message."""
        while True:
            frame = wire.take_frame(self._buffer)
            if frame is not None:
                break
            self._read()
        kind, message = wire.read_to_fetcher(frame)
        if kind != "setup":
            raise wire.ProtocolError(f"the first message is {kind}, not setup")
        setup = wire.read_setup(message)
        self.report_starts = setup.report_starts
        # More may have come with it.
        self._heed()
        return setup

    def _read(self) -> None:
        data = os.read(self.stdin, _READ_BYTES)
        if not data:
            os._exit(EXIT_INPUT_ENDED)
        self._buffer += data

    def wait(self, timeout_s: Optional[float], wake: Optional[int] = None) -> None:
        """Waits until there is something to read, or ``wake`` is readable, and heeds it."""
        readable = [self.stdin] if wake is None else [self.stdin, wake]
        found, _, _ = select.select(readable, (), (), timeout_s)
        if wake is not None and wake in found:
            os.read(wake, _READ_BYTES)
        if self.stdin in found:
            self.receive()

    def receive(self) -> None:
        """Reads what there is and heeds it."""
        self._read()
        self._heed()

    def _heed(self) -> None:
        while (frame := wire.take_frame(self._buffer)) is not None:
            kind, message = wire.read_to_fetcher(frame)
            if kind == "leases":
                new = wire.read_leases(message)
                self.outstanding += len(new)
                self.leases.extend(new)
            elif kind == "go":
                self.go_ns = now_ns()
            elif kind == "hold":
                if self.outstanding:
                    raise wire.ProtocolError("Hold came while URLs were still out")
                self.held = True
                self.send(self._report())
            elif kind == "exit":
                self.exited = True
            else:
                raise wire.ProtocolError(f"{kind} came twice")

    def begin(self, id_: int) -> int:
        """A URL is taken up now."""
        at_ns = now_ns()
        if not self.first_start_ns:
            self.first_start_ns = at_ns
        self.gauge.add(1, at_ns)
        if self.report_starts:
            self.starts.append((id_, (at_ns - self.go_ns) // 1000))
        return at_ns

    def end(self, id_: int, slot: int, start_ns: int, answer: object) -> None:
        """A URL's response is whole, or it failed: ``answer`` is what came or what was raised."""
        end_ns = now_ns()
        self.gauge.add(-1, end_ns)
        self.requests += 1
        self.last_end_ns = max(self.last_end_ns, end_ns)
        completion = Completion(id_, slot, start_ns, end_ns)
        if not isinstance(answer, BaseException):
            try:
                response: Response = response_of(answer)
                completion.status = response.status
                completion.body_bytes = response.body_bytes
                if response.first_byte_s is not None:
                    completion.first_byte_ns = int(response.first_byte_s * 1e9)
            except TypeError as error:
                answer = error
        if isinstance(answer, BaseException):
            completion.outcome, completion.detail = outcome_of(answer)
        self.done.append(completion)

    def flush(self) -> None:
        """Sends what was handed in."""
        if self.starts:
            starts, self.starts = self.starts, []
            self.send(wire.started(starts))
        while self.done:
            done = self.done[:BATCH_MAX]
            # Others append meanwhile; what was copied is the beginning.
            del self.done[: len(done)]
            self.outstanding -= len(done)
            self.send(batch(done, self.go_ns))

    def _report(self) -> bytes:
        since_go = lambda ns: max(ns - self.go_ns, 0) // 1000 if ns else 0  # noqa: E731
        return wire.report(
            {
                2: self.requests,
                6: self.gauge.integral_ns // 1000,
                7: self.gauge.peak,
                8: since_go(self.first_start_ns),
                9: since_go(self.last_end_ns),
            }
        )
