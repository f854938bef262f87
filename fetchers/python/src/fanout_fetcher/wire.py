"""The messages of fanout.proto that a fetcher needs, as bytes.

Written by hand: importing a protobuf library takes longer than everything else at the start.
Only what stands in the messages below is read; unknown fields are passed over, as proto3 asks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Iterable, Iterator, Optional, Sequence, Union

#: Largest frame, in bytes; see docs/fetcher-protocol.md.
FRAME_MAX_BYTES = 1024 * 1024
#: The version of docs/fetcher-protocol.md that this speaks.
FETCHER_PROTOCOL = 1

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class ProtocolError(Exception):
    """What came is not this protocol, or not in its order."""


def varint(number: int) -> bytes:
    """A number that is not negative, seven bits a byte, the lowest first."""
    if number < 0x80:
        return bytes((number,))
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def zigzag(number: int) -> int:
    """A signed number as one that is small where the distance from 0 is."""
    return number << 1 if number >= 0 else (-number << 1) - 1


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins at ``at``, and where it ends."""
    number = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ProtocolError("a number does not end")
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def take_frame(buffer: bytearray) -> Optional[bytes]:
    """Takes the next whole message out of what was read; ``None`` until it is there."""
    try:
        length, start = read_varint(bytes(buffer[:10]), 0)
    except ProtocolError:
        if len(buffer) < 10:
            return None
        raise
    if length > FRAME_MAX_BYTES:
        raise ProtocolError(f"a frame of {length} bytes is longer than the {FRAME_MAX_BYTES} allowed")
    if len(buffer) < start + length:
        return None
    frame = bytes(buffer[start : start + length])
    del buffer[: start + length]
    return frame


def fields(message: bytes) -> Iterator[tuple[int, Union[int, bytes]]]:
    """Every field's number and value, in their order."""
    at = 0
    while at < len(message):
        key, at = read_varint(message, at)
        number, kind = key >> 3, key & 7
        value: Union[int, bytes]
        if kind == _VARINT:
            value, at = read_varint(message, at)
        else:
            if kind == _BYTES:
                length, at = read_varint(message, at)
            elif kind in (_FIXED64, _FIXED32):
                length = 8 if kind == _FIXED64 else 4
            else:
                raise ProtocolError(f"field {number} is of an unknown kind, {kind}")
            if at + length > len(message):
                raise ProtocolError(f"field {number} is longer than its message")
            value, at = message[at : at + length], at + length
        yield number, value


def packed(column: bytes) -> list[int]:
    """The numbers of a packed column."""
    numbers, at = [], 0
    while at < len(column):
        number, at = read_varint(column, at)
        numbers.append(number)
    return numbers


def number_field(number: int, value: int) -> bytes:
    """A field that holds a number; nothing where it is 0, as proto3 has it."""
    return varint(number << 3 | _VARINT) + varint(value) if value else b""


def bytes_field(number: int, value: bytes) -> bytes:
    """A field that holds bytes, a text or a message, also where that is empty."""
    return varint(number << 3 | _BYTES) + varint(len(value)) + value


def packed_field(number: int, column: Sequence[int]) -> bytes:
    """A column of numbers."""
    if not column:
        return b""
    if max(column) < 0x80:
        return bytes_field(number, bytes(column))
    return bytes_field(number, b"".join(map(varint, column)))


@dataclass
class Setup:
    """What a fetcher is told before its first URL. Times are in seconds."""

    model: str = ""
    concurrency: int = 1
    client: str = ""
    method: str = "GET"
    timeout_s: float = 30.0
    connect_timeout_s: float = 10.0
    max_body_bytes: int = 0
    redirects: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    user_agent: str = ""
    insecure: bool = False
    ca_certificates: bytes = b""
    decompress: bool = False
    no_keepalive: bool = False
    report_starts: bool = False
    cpu_work_s: float = 0.0
    cpu_lock: bool = False
    start_interval_ns: int = 0
    https: bool = False


def read_setup(message: bytes) -> Setup:
    """Reads a Setup."""
    setup = Setup()
    text = {1: "model", 3: "client", 10: "user_agent"}
    count = {2: "concurrency", 7: "max_body_bytes", 8: "redirects", 18: "start_interval_ns"}
    flag = {11: "insecure", 13: "decompress", 14: "no_keepalive", 15: "report_starts", 17: "cpu_lock", 20: "https"}
    span = {5: "timeout_s", 6: "connect_timeout_s", 16: "cpu_work_s"}
    for number, value in fields(message):
        if isinstance(value, int):
            if number in count:
                setattr(setup, count[number], value)
            elif number in flag:
                setattr(setup, flag[number], bool(value))
            elif number in span:
                setattr(setup, span[number], value / 1e6)
            elif number == 4:
                setup.method = "HEAD" if value == 2 else "GET"
        elif number in text:
            setattr(setup, text[number], value.decode())
        elif number == 9:
            parts = dict(fields(value))
            setup.headers.append((bytes(parts.get(1, b"")).decode(), bytes(parts.get(2, b"")).decode()))
        elif number == 12:
            setup.ca_certificates = value
    return setup


def read_leases(message: bytes) -> list[tuple[int, str]]:
    """The URLs of a LeaseBatch with their ids."""
    first, ids, lengths, text = 0, [], [], b""
    for number, value in fields(message):
        if number == 1 and isinstance(value, int):
            first = value
        elif number == 2:
            ids += [value] if isinstance(value, int) else packed(value)
        elif number == 3:
            lengths += [value] if isinstance(value, int) else packed(value)
        elif number == 4 and isinstance(value, bytes):
            text = value
    if sum(lengths) != len(text):
        raise ProtocolError("the lengths of a lease batch do not add up to its text")
    if ids and len(ids) != len(lengths):
        raise ProtocolError("a lease batch has not as many ids as URLs")
    leases, at = [], 0
    for index, length in enumerate(lengths):
        url = text[at : at + length].decode("utf-8", "surrogateescape")
        leases.append((ids[index] if ids else first + index, url))
        at += length
    return leases


def read_to_fetcher(frame: bytes) -> tuple[str, bytes]:
    """What kind of message a frame holds, and the message."""
    kinds = {1: "setup", 2: "leases", 3: "go", 4: "hold", 5: "exit"}
    found = ("", b"")
    for number, value in fields(frame):
        if number in kinds and isinstance(value, bytes):
            found = (kinds[number], value)
    if not found[0]:
        raise ProtocolError("a frame holds none of the messages of this protocol")
    return found


def frame(number: int, message: bytes) -> bytes:
    """A FromFetcher with one message, as a frame."""
    body = bytes_field(number, message)
    return varint(len(body)) + body


def ready(about: Optional[str] = None, clients: Iterable[tuple[str, Sequence[str], str, bool, bool]] = ()) -> bytes:
    """Ready; with the clients (name, models, label, fetches nothing, closes connections) where the
    Setup asked for them."""
    if about is None:
        return frame(1, b"")
    declared = b""
    for name, models, label, fetches_nothing, closes_connections in clients:
        declared += bytes_field(
            3,
            bytes_field(1, name.encode())
            + b"".join(bytes_field(2, model.encode()) for model in models)
            + bytes_field(3, label.encode())
            + number_field(4, fetches_nothing)
            + number_field(5, closes_connections),
        )
    declaration = number_field(1, FETCHER_PROTOCOL) + bytes_field(2, about.encode()) + declared
    return frame(1, bytes_field(1, declaration))


def setup_failed(reason: str) -> bytes:
    """Says why the Setup cannot be met."""
    return frame(5, bytes_field(1, reason.encode()))


def deltas(ids: Sequence[int]) -> list[int]:
    """The first id, then differences, each zigzag."""
    before, out = 0, []
    for id_ in ids:
        out.append(zigzag(id_ - before))
        before = id_
    return out


def started(starts: Sequence[tuple[int, int]]) -> bytes:
    """Ids and the microseconds since Go at which they were taken up."""
    ids, times = zip(*starts)
    return frame(3, packed_field(1, deltas(ids)) + packed_field(2, times))


def report(counts: dict[int, int]) -> bytes:
    """A FetcherReport, by field number."""
    return frame(4, b"".join(number_field(number, value) for number, value in sorted(counts.items())))
