"""What became of a URL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional, Sequence

from . import wire

#: The outcomes of fanout.proto that a fetcher may send, by name.
OUTCOMES = {
    "ok": 1,
    "dns": 2,
    "connect": 3,
    "tls": 4,
    "timeout": 5,
    "closed": 6,
    "protocol": 7,
    "too_large": 8,
    "redirect_limit": 9,
    "bad_redirect": 10,
    "decode": 11,
    "resource": 12,
}
#: Most failure details in one batch, and most bytes of one.
DETAILS_MAX = 64
DETAIL_MAX_BYTES = 240


@dataclass
class Response:
    """A whole response. ``first_byte_s`` is ``time.perf_counter()`` at its first byte, if known."""

    status: int = 200
    body_bytes: int = 0
    first_byte_s: Optional[float] = None


class Failure(Exception):
    """A failure of a known kind, for clients that know better than the exception tells."""

    def __init__(self, outcome: str, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome


def response_of(answer: Any) -> Response:
    """What a user's function answered: nothing, a status, a body, or something like a response."""
    if isinstance(answer, Response):
        return answer
    if answer is None:
        return Response()
    if isinstance(answer, int) and not isinstance(answer, bool):
        return Response(status=answer)
    if isinstance(answer, (bytes, bytearray, memoryview)):
        return Response(body_bytes=len(answer))
    if isinstance(answer, str):
        return Response(body_bytes=len(answer.encode("utf-8", "surrogatepass")))
    status = getattr(answer, "status_code", getattr(answer, "status", None))
    if isinstance(status, int):
        content = getattr(answer, "content", b"")
        return Response(status, len(content) if isinstance(content, (bytes, bytearray)) else 0)
    raise TypeError(
        f"fetch answered a {type(answer).__name__}; answer nothing, a status (200), a body (bytes or "
        "str), a fanout_fetcher.Response, or an object with a status"
    )


def outcome_of(error: BaseException) -> tuple[str, str]:
    """The kind of a failure, and a detail for people."""
    chain: list[BaseException] = []
    at: Optional[BaseException] = error
    while at is not None and at not in chain:
        chain.append(at)
        reason = getattr(at, "reason", None)
        at = at.__cause__ or (reason if isinstance(reason, BaseException) else None) or at.__context__
    for one in chain:
        if isinstance(one, Failure):
            return one.outcome, str(one)
        for kinds, outcome in _kinds():
            if isinstance(one, kinds):
                return outcome, _detail(one)
    if isinstance(error, OSError) and error.errno in (23, 24):  # ENFILE, EMFILE
        return "resource", _detail(error)
    return "protocol", _detail(error)


def _kinds() -> list[tuple[tuple[type, ...], str]]:
    # Imported where something failed: who fetches without them must not pay for them.
    import http.client
    import socket
    import ssl

    return [
        ((socket.gaierror,), "dns"),
        ((ssl.SSLError,), "tls"),
        ((TimeoutError, socket.timeout), "timeout"),
        ((ConnectionRefusedError,), "connect"),
        ((ConnectionResetError, BrokenPipeError, ConnectionAbortedError), "closed"),
        ((http.client.RemoteDisconnected, http.client.IncompleteRead), "closed"),
        ((http.client.HTTPException,), "protocol"),
        ((MemoryError,), "resource"),
    ]


def _detail(error: BaseException) -> str:
    """The error with the line where it was raised last."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


@dataclass
class Completion:
    """One URL's end. Times are in nanoseconds of ``time.perf_counter_ns``."""

    id: int
    slot: int
    start_ns: int
    end_ns: int
    outcome: str = "ok"
    status: int = 0
    body_bytes: int = 0
    first_byte_ns: int = 0
    detail: str = ""


def batch(completions: Sequence[Completion], go_ns: int) -> bytes:
    """A CompletionBatch, as a frame."""
    micros = lambda ns: max(ns, 0) // 1000  # noqa: E731
    details = b""
    told = 0
    for index, one in enumerate(completions):
        if one.detail and told < DETAILS_MAX:
            told += 1
            text = one.detail.encode("utf-8", "replace")[:DETAIL_MAX_BYTES].decode("utf-8", "ignore")
            details += wire.bytes_field(10, wire.number_field(1, index) + wire.bytes_field(2, text.encode()))
    return wire.frame(
        2,
        wire.packed_field(1, wire.deltas([one.id for one in completions]))
        + wire.bytes_field(2, bytes(OUTCOMES[one.outcome] for one in completions))
        + wire.packed_field(3, [one.status for one in completions])
        + wire.packed_field(4, [one.body_bytes for one in completions])
        + wire.packed_field(5, [micros(one.start_ns - go_ns) for one in completions])
        + wire.packed_field(6, [0] * len(completions))
        + wire.packed_field(
            7, [micros(one.first_byte_ns - one.start_ns) if one.first_byte_ns else 0 for one in completions]
        )
        + wire.packed_field(8, [micros(one.end_ns - one.start_ns) for one in completions])
        + wire.packed_field(9, [one.slot for one in completions])
        + details,
    )
