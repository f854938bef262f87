"""The messages, against bytes worked out by hand from fanout.proto."""

import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from fanout_fetcher import wire  # noqa: E402
from fanout_fetcher.completion import Completion, Failure, Response, batch, outcome_of, response_of  # noqa: E402


class Numbers(unittest.TestCase):
    def test_varints_survive(self):
        for number in [0, 1, 127, 128, 300, 2**32, 2**63]:
            data = wire.varint(number)
            self.assertEqual(wire.read_varint(data, 0), (number, len(data)))
        self.assertEqual(wire.varint(300), b"\xac\x02")

    def test_zigzag_is_small_near_zero(self):
        self.assertEqual([wire.zigzag(n) for n in [0, -1, 1, -2, 2]], [0, 1, 2, 3, 4])

    def test_a_number_without_end_is_refused(self):
        with self.assertRaises(wire.ProtocolError):
            wire.read_varint(b"\xff" * 11, 0)


class Frames(unittest.TestCase):
    def test_frames_survive_any_split(self):
        stream = wire.setup_failed("no") + wire.ready() + wire.setup_failed("x" * 300)
        for cut in range(1, 40):
            buffer, found = bytearray(), []
            for start in range(0, len(stream), cut):
                buffer += stream[start : start + cut]
                while (frame := wire.take_frame(buffer)) is not None:
                    found.append(next(wire.fields(frame))[0])
            self.assertEqual(found, [5, 1, 5])

    def test_a_frame_that_is_too_long_is_refused(self):
        with self.assertRaises(wire.ProtocolError):
            wire.take_frame(bytearray(wire.varint(wire.FRAME_MAX_BYTES + 1)))

    def test_a_setup_is_read_and_unknown_fields_are_passed_over(self):
        message = (
            wire.bytes_field(1, b"threads")
            + wire.number_field(2, 32)
            + wire.bytes_field(3, b"urllib")
            + wire.number_field(5, 1_500_000)
            + wire.bytes_field(9, wire.bytes_field(1, b"a") + wire.bytes_field(2, b"b"))
            + wire.number_field(11, 1)
            + wire.bytes_field(99, b"later")
            + wire.number_field(98, 7)
        )
        kind, body = wire.read_to_fetcher(wire.bytes_field(1, message))
        setup = wire.read_setup(body)
        self.assertEqual((kind, setup.model, setup.concurrency), ("setup", "threads", 32))
        self.assertEqual((setup.timeout_s, setup.headers, setup.insecure), (1.5, [("a", "b")], True))

    def test_leases_with_and_without_ids(self):
        urls = wire.packed_field(3, [3, 4]) + wire.bytes_field(4, b"abcdefg")
        self.assertEqual(wire.read_leases(wire.number_field(1, 7) + urls), [(7, "abc"), (8, "defg")])
        self.assertEqual(wire.read_leases(wire.packed_field(2, [300, 5]) + urls), [(300, "abc"), (5, "defg")])
        with self.assertRaises(wire.ProtocolError):
            wire.read_leases(wire.packed_field(3, [3]) + wire.bytes_field(4, b"ab"))


class Completions(unittest.TestCase):
    def test_a_batch_has_an_entry_in_every_column(self):
        done = [
            Completion(5, 0, 1_000_000, 3_000_000, status=200, body_bytes=64, first_byte_ns=2_000_000),
            Completion(3, 1, 2_000_000, 4_000_000, outcome="timeout", detail="slow"),
        ]
        frame = wire.take_frame(bytearray(batch(done, 0)))
        (number, message), = wire.fields(frame)
        columns = {}
        for field, value in wire.fields(message):
            columns.setdefault(field, value)
        self.assertEqual(number, 2)
        self.assertEqual(wire.packed(columns[1]), [wire.zigzag(5), wire.zigzag(-2)])
        self.assertEqual(columns[2], bytes([1, 5]))
        self.assertEqual(wire.packed(columns[5]), [1000, 2000])
        self.assertEqual(wire.packed(columns[7]), [1000, 0])
        self.assertEqual(wire.packed(columns[8]), [2000, 2000])
        self.assertEqual(columns[10], wire.number_field(1, 1) + wire.bytes_field(2, b"slow"))

    def test_answers_of_a_function(self):
        self.assertEqual(response_of(None), Response())
        self.assertEqual(response_of(404), Response(404))
        self.assertEqual(response_of(b"abc"), Response(200, 3))
        self.assertEqual(response_of("é"), Response(200, 2))
        with self.assertRaisesRegex(TypeError, "answered a dict"):
            response_of({})

    def test_failures_have_a_kind_and_a_line(self):
        try:
            raise ZeroDivisionError("division by zero")
        except ZeroDivisionError as error:
            outcome, detail = outcome_of(error)
        self.assertEqual(outcome, "protocol")
        self.assertRegex(detail, r"ZeroDivisionError: division by zero \(test_wire.py:\d+\)")
        self.assertEqual(outcome_of(ConnectionRefusedError())[0], "connect")
        self.assertEqual(outcome_of(Failure("redirect_limit", "x")), ("redirect_limit", "x"))


if __name__ == "__main__":
    unittest.main()
