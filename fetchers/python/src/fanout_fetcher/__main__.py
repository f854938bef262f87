"""The program: ``python3 -m fanout_fetcher [FILE.py …]``."""

from __future__ import annotations

import os
import sys
from typing import Sequence

from . import __version__, wire
from .clients import CLIENTS, Client, own
from .models import event_loop, sequential, threads
from .session import EXIT_PROTOCOL, EXIT_SETUP, Session

USAGE = """\
usage: python3 -m fanout_fetcher [FILE.py ...]

A fetcher for fanout; `coordinator study` starts it:

  coordinator study --fetcher 'py=python3 -m fanout_fetcher' --arm threads:32@urllib --arm async:32
  coordinator study --fetcher 'mine=python3 -m fanout_fetcher mine.py' --arm threads:32@mine

FILE.py holds `def fetch(url)` or `async def fetch(url)`; its client is called FILE.
"""


def about() -> str:
    """Program, interpreter and versions, for people."""
    import platform

    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    lock = "with" if gil else "without"
    return f"fanout-fetcher {__version__} ({platform.python_implementation()} {platform.python_version()}, {lock} GIL)"


def _pipes() -> tuple[int, int]:
    """Takes the pipes away from prints and reads of other code."""
    stdin, stdout = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return stdin, stdout


def _run(session: Session, setup: wire.Setup, clients: Sequence[Client]) -> None:
    if not setup.client:
        there = [client for client in clients if client.is_there]
        session.send(
            wire.ready(
                about(),
                [(c.name, c.models, c.label, c.fetches_nothing, c.closes_connections) for c in there],
            )
        )
        while not session.exited:
            session.wait(None)
        return
    client = next((client for client in clients if client.name == setup.client), None)
    if client is None:
        raise LookupError(f"there is no client '{setup.client}' here")
    if not client.is_there:
        raise LookupError(f"{client.needs} is not installed: python3 -m pip install {client.needs}")
    if setup.model not in client.models:
        raise LookupError(f"{client.name} does not run under {setup.model}")
    if setup.start_interval_ns:
        raise LookupError("--rate is not kept by this fetcher; leave it out, or leave out its arms")
    if setup.model == "async":
        import asyncio

        assert client.make_async is not None
        asyncio.run(event_loop(session, client.make_async(setup), setup.cpu_work_s, setup.concurrency))
        return
    assert client.make is not None
    make = client.make(setup)
    if setup.model == "threads":
        threads(session, make, setup.cpu_work_s, setup.concurrency)
    else:
        sequential(session, make, setup.cpu_work_s)


def main(arguments: Sequence[str]) -> int:
    """The whole life of the fetcher; returns its exit code."""
    if any(argument in ("-h", "--help") for argument in arguments):
        print(USAGE, end="")
        return 0
    if sys.stdin.isatty():
        print(USAGE, end="", file=sys.stderr)
        return 2
    session = Session(*_pipes())
    try:
        setup = session.setup()
        clients = tuple(own(path) for path in arguments) + CLIENTS
        _run(session, setup, clients)
    except wire.ProtocolError as error:
        print(f"fetcher: {error}", file=sys.stderr)
        return EXIT_PROTOCOL
    except (LookupError, OSError, ImportError, SyntaxError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}" if not isinstance(error, LookupError) else str(error)
        session.send(wire.setup_failed(reason))
        print(f"fetcher: {reason}", file=sys.stderr)
        return EXIT_SETUP
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    # Slots may still be in the midst of something; nothing is left to save.
    os._exit(code)
