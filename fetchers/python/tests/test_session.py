"""The whole program, spoken to over pipes."""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src"
sys.path.insert(0, str(SOURCE))

from fanout_fetcher import wire  # noqa: E402


def frame(number: int, message: bytes = b"") -> bytes:
    body = wire.bytes_field(number, message)
    return wire.varint(len(body)) + body


def setup(model: str = "", client: str = "", concurrency: int = 1) -> bytes:
    return frame(
        1,
        wire.bytes_field(1, model.encode()) + wire.number_field(2, concurrency) + wire.bytes_field(3, client.encode()),
    )


def leases(first: int, count: int) -> bytes:
    urls = [f"http://h/{i}".encode() for i in range(first, first + count)]
    return frame(
        2,
        wire.number_field(1, first)
        + wire.packed_field(3, [len(url) for url in urls])
        + wire.bytes_field(4, b"".join(urls)),
    )


GO, HOLD, EXIT = frame(3), frame(4), frame(5)


class Fetcher:
    """The program, under way."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-B", "-m", "fanout_fetcher", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
        )
        self.buffer = bytearray()

    def say(self, data: bytes) -> None:
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def hear(self) -> tuple:
        while (frame := wire.take_frame(self.buffer)) is None:
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                raise EOFError(self.process.stderr.read().decode())
            self.buffer += data
        (number, message), = wire.fields(frame)
        return number, message

    def end(self) -> int:
        self.process.stdin.close()
        code = self.process.wait(20)
        self.process.stdout.close()
        self.process.stderr.close()
        return code


class Sessions(unittest.TestCase):
    def trial(self, model: str, client: str, concurrency: int, *arguments: str) -> None:
        fetcher = Fetcher(*arguments)
        fetcher.say(setup(model, client, concurrency) + leases(0, 50))
        self.assertEqual(fetcher.hear()[0], 1)
        fetcher.say(GO + leases(50, 150))
        ids, outcomes = [], b""
        while len(ids) < 200:
            number, message = fetcher.hear()
            self.assertEqual(number, 2)
            columns = dict(wire.fields(message))
            id_ = 0
            for delta in wire.packed(columns[1]):
                id_ += (delta >> 1) ^ -(delta & 1)
                ids.append(id_)
            outcomes += columns[2]
        self.assertEqual(sorted(ids), list(range(200)))
        self.assertEqual(set(outcomes), {1})
        fetcher.say(HOLD)
        number, report = fetcher.hear()
        counts = dict(wire.fields(report))
        self.assertEqual((number, counts[2]), (4, 200))
        self.assertLessEqual(counts[7], concurrency)
        fetcher.say(EXIT)
        self.assertEqual(fetcher.end(), 0)

    def test_every_model_completes_each_lease_once(self):
        for model, concurrency in [("sequential", 1), ("threads", 7), ("async", 7)]:
            with self.subTest(model):
                self.trial(model, "null-python", concurrency)

    def test_a_function_of_ones_own(self):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "my_own.py"
            path.write_text("def fetch(url):\n    print(url)\n    return 204\n")
            self.trial("threads", "my-own", 5, str(path))
            path.write_text("async def fetch(url, setup):\n    return setup.concurrency\n")
            self.trial("async", "my-own", 300, str(path))

    def test_it_says_what_it_has(self):
        fetcher = Fetcher()
        fetcher.say(setup() + EXIT)
        number, message = fetcher.hear()
        declaration = dict(wire.fields(message))[1]
        self.assertEqual(number, 1)
        self.assertIn(b"urllib", declaration)
        self.assertEqual(fetcher.end(), 0)

    def test_what_cannot_be_met_is_said(self):
        for model, client, said in [
            ("async", "urllib", b"does not run under async"),
            ("threads", "nope", b"no client 'nope'"),
        ]:
            fetcher = Fetcher()
            fetcher.say(setup(model, client))
            number, message = fetcher.hear()
            self.assertEqual(number, 5)
            self.assertIn(said, message)
            self.assertEqual(fetcher.end(), 10)

    def test_it_ends_with_its_input_and_refuses_what_is_out_of_order(self):
        for model in ["sequential", "threads", "async"]:
            fetcher = Fetcher()
            fetcher.say(setup(model, "null-python"))
            fetcher.hear()
            self.assertEqual(fetcher.end(), 11, model)
        fetcher = Fetcher()
        fetcher.say(GO)
        self.assertEqual(fetcher.end(), 13)


if __name__ == "__main__":
    unittest.main()
