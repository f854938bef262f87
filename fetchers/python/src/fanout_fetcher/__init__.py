"""Your own Python function as an arm of a fanout study.

Write one function, ``def fetch(url)`` or ``async def fetch(url)``, and run::

    coordinator study --fetcher 'mine=python3 -m fanout_fetcher mine.py' \\
        --arm threads:32@mine --arm async:32

README.md tells what the function may answer; docs/fetcher-protocol.md what is spoken.
"""

from .completion import Response

__all__ = ["Response", "__version__"]
__version__ = "0.1.0"
