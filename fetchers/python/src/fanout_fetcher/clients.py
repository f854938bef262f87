"""What fetches: the clients that come with this package, and a function of one's own."""

from __future__ import annotations

import functools
import importlib.util
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Awaitable, Callable, Optional, Sequence

from . import wire
from .completion import Failure, Response
from .models import AsyncFetch, Fetch

if TYPE_CHECKING:
    import ssl

BLOCKING = ("sequential", "threads")
ASYNC = ("async",)


@dataclass(frozen=True)
class Client:
    """A client and how it is made: once for every slot where it blocks, once for all tasks of the
    loop where it does not."""

    name: str
    label: str
    make: Optional[Callable[[wire.Setup], Callable[[], Fetch]]] = None
    make_async: Optional[Callable[[wire.Setup], Callable[[], Awaitable[AsyncFetch]]]] = None
    needs: str = ""
    fetches_nothing: bool = False
    closes_connections: bool = False

    @property
    def models(self) -> Sequence[str]:
        """The models under which it runs."""
        return (BLOCKING if self.make else ()) + (ASYNC if self.make_async else ())

    @property
    def is_there(self) -> bool:
        """Whether what it needs is installed."""
        return not self.needs or importlib.util.find_spec(self.needs) is not None


def tls(setup: wire.Setup) -> ssl.SSLContext:
    """The context that the settings ask for. Reads the system's certificates."""
    import ssl

    if setup.insecure:
        return ssl._create_unverified_context()
    if setup.ca_certificates:
        return ssl.create_default_context(cadata=setup.ca_certificates.decode())
    return ssl.create_default_context()


def tls_when_needed(setup: wire.Setup) -> Callable[[], ssl.SSLContext]:
    """The same, made beforehand where the list has an https URL, else when a redirect leads to one:
    reading certificates would be most of the start of a list without."""
    context = functools.lru_cache(maxsize=None)(lambda: tls(setup))
    if setup.https:
        context()
    return context


def request_headers(setup: wire.Setup) -> dict[str, str]:
    """What every request says of itself."""
    headers = {"User-Agent": setup.user_agent} if setup.user_agent else {}
    headers.update(setup.headers)
    return headers


def _null(setup: wire.Setup) -> Callable[[], Fetch]:
    answer = Response()
    return lambda: lambda url: answer


def _null_async(setup: wire.Setup) -> Callable[[], Awaitable[AsyncFetch]]:
    answer = Response()

    async def fetch(url: str) -> Response:
        return answer

    async def make() -> AsyncFetch:
        return fetch

    return make


def _urllib(setup: wire.Setup) -> Callable[[], Fetch]:
    """As people write it first: urlopen, which asks for a connection of its own every time."""
    import http.client
    import urllib.error
    import urllib.request

    context = tls_when_needed(setup)

    class Https(urllib.request.HTTPSHandler):
        def __init__(self) -> None:
            # Its own makes a context at once.
            urllib.request.AbstractHTTPHandler.__init__(self)

        def https_open(self, request: urllib.request.Request) -> Any:
            return self.do_open(http.client.HTTPSConnection, request, context=context())

    class Redirects(urllib.request.HTTPRedirectHandler):
        max_redirections = setup.redirects

        def redirect_request(self, *args: Any, **kwargs: Any) -> Any:
            if setup.redirects == 0:
                return None  # the redirect itself is the answer
            return super().redirect_request(*args, **kwargs)

    opener = urllib.request.build_opener(Https(), Redirects())
    headers = request_headers(setup)

    def fetch(url: str) -> Response:
        request = urllib.request.Request(url, headers=headers, method=setup.method)
        try:
            with opener.open(request, timeout=setup.timeout_s) as response:
                return Response(response.status, len(response.read()))
        except urllib.error.HTTPError as error:
            with error:
                return Response(error.code, len(error.read()))

    return lambda: fetch


def _urllib_keepalive(setup: wire.Setup) -> Callable[[], Fetch]:
    """http.client with a connection to each host, kept for as long as the slot lives."""
    import http.client
    from urllib.parse import urljoin, urlsplit

    context = tls_when_needed(setup)
    headers = request_headers(setup)
    if setup.no_keepalive:
        headers["Connection"] = "close"

    def make() -> Fetch:
        kept: dict[str, http.client.HTTPConnection] = {}

        def once(url: str) -> tuple[int, bytes, Optional[str]]:
            parts = urlsplit(url)
            host = f"{parts.scheme}://{parts.netloc}"
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            for fresh in (False, True):
                connection = kept.pop(host, None)
                is_kept = connection is not None and not fresh
                if not is_kept:
                    if parts.scheme == "https":
                        connection = http.client.HTTPSConnection(
                            parts.netloc, timeout=setup.timeout_s, context=context()
                        )
                    else:
                        connection = http.client.HTTPConnection(parts.netloc, timeout=setup.timeout_s)
                assert connection is not None
                try:
                    connection.request(setup.method, path, headers=headers)
                    response = connection.getresponse()
                except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                    connection.close()
                    if not is_kept:
                        raise
                    continue  # the server closed what was kept: once more on a fresh one
                body = response.read()
                if response.will_close:
                    connection.close()
                else:
                    kept[host] = connection
                return response.status, body, response.headers.get("Location")
            raise AssertionError("a fresh connection answers or raises")

        def fetch(url: str) -> Response:
            for _ in range(setup.redirects + 1):
                status, body, location = once(url)
                if status not in (301, 302, 303, 307, 308) or not location or setup.redirects == 0:
                    return Response(status, len(body))
                url = urljoin(url, location)
            raise Failure("redirect_limit", f"more than {setup.redirects} redirects")

        return fetch

    return make


def _requests(setup: wire.Setup) -> Callable[[], Fetch]:
    """requests, with a session for every slot."""
    import requests

    def make() -> Fetch:
        session = requests.Session()
        session.headers.update(request_headers(setup))
        session.verify = not setup.insecure
        session.max_redirects = max(setup.redirects, 1)
        session.trust_env = False

        def fetch(url: str) -> Response:
            try:
                response = session.request(
                    setup.method, url, timeout=setup.timeout_s, allow_redirects=setup.redirects > 0
                )
            except requests.TooManyRedirects as error:
                raise Failure("redirect_limit", str(error)) from error
            except requests.Timeout as error:
                raise Failure("timeout", str(error)) from error
            except requests.exceptions.SSLError as error:
                raise Failure("tls", str(error)) from error
            return Response(response.status_code, len(response.content))

        return fetch

    return make


def _aiohttp(one_session: bool) -> Callable[[wire.Setup], Callable[[], Awaitable[AsyncFetch]]]:
    def of(setup: wire.Setup) -> Callable[[], Awaitable[AsyncFetch]]:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=setup.timeout_s, connect=setup.connect_timeout_s)
        headers = request_headers(setup)
        redirects: dict[str, Any] = {"allow_redirects": setup.redirects > 0}
        if setup.redirects:
            redirects["max_redirects"] = setup.redirects

        # Without a word it makes one context for all sessions, when the first https URL comes.
        verified: dict[str, Any] = {}
        if setup.insecure:
            verified["ssl"] = False
        elif setup.ca_certificates:
            verified["ssl"] = tls(setup)

        def session() -> aiohttp.ClientSession:
            connector = aiohttp.TCPConnector(
                limit=setup.concurrency, force_close=setup.no_keepalive, **verified
            )
            return aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers)

        async def ask(session: aiohttp.ClientSession, url: str) -> Response:
            async with session.request(setup.method, url, **redirects) as response:
                return Response(response.status, len(await response.read()))

        async def make() -> AsyncFetch:
            if one_session:
                kept = session()

                async def fetch(url: str) -> Response:
                    return await ask(kept, url)
            else:

                async def fetch(url: str) -> Response:
                    async with session() as own:
                        return await ask(own, url)

            return fetch

        return make

    return of


def _httpx(setup: wire.Setup) -> Callable[[], Awaitable[AsyncFetch]]:
    """httpx with one client for all tasks."""
    import httpx

    async def make() -> AsyncFetch:
        limits = httpx.Limits(
            max_connections=setup.concurrency,
            max_keepalive_connections=0 if setup.no_keepalive else setup.concurrency,
        )
        client = httpx.AsyncClient(
            verify=tls(setup),
            timeout=setup.timeout_s,
            limits=limits,
            headers=request_headers(setup),
            follow_redirects=setup.redirects > 0,
            max_redirects=setup.redirects,
            trust_env=False,
        )

        async def fetch(url: str) -> Response:
            try:
                response = await client.request(setup.method, url)
            except httpx.TimeoutException as error:
                raise Failure("timeout", str(error)) from error
            except httpx.ConnectError as error:
                raise Failure("connect", str(error)) from error
            return Response(response.status_code, len(response.content))

        return fetch

    return make


CLIENTS = (
    Client("urllib", "urllib", _urllib, closes_connections=True),
    Client("urllib-keepalive", "http.client", _urllib_keepalive),
    Client("requests", "requests", _requests, needs="requests"),
    Client(
        "aiohttp", "aiohttp, a session per URL", make_async=_aiohttp(False), needs="aiohttp", closes_connections=True
    ),
    Client("aiohttp-session", "aiohttp", make_async=_aiohttp(True), needs="aiohttp"),
    Client("httpx", "httpx", make_async=_httpx, needs="httpx"),
    Client("null-python", "Python, fetches nothing", _null, _null_async, fetches_nothing=True),
)


def own(path: str) -> Client:
    """The function ``fetch`` of a file of one's own, as a client that is called like the file."""
    import inspect

    file = os.path.basename(path)
    stem = os.path.splitext(file)[0]
    name = stem.lower().replace("_", "-")
    spec = importlib.util.spec_from_file_location(stem, path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    fetch = getattr(module, "fetch", None)
    if not callable(fetch):
        raise SystemExit(f"{path} has no function fetch: write `def fetch(url):` or `async def fetch(url):`")
    asked = len(inspect.signature(fetch).parameters)
    if asked not in (1, 2):
        raise SystemExit(f"fetch in {path} takes {asked} arguments; give it one, the URL, or two, the set-up as well")

    def bound(setup: wire.Setup) -> Fetch:
        return (lambda url: fetch(url, setup)) if asked == 2 else fetch

    if inspect.iscoroutinefunction(fetch):

        def make_async(setup: wire.Setup) -> Callable[[], Awaitable[AsyncFetch]]:
            async def make() -> AsyncFetch:
                return bound(setup)

            return make

        return Client(name, file, make_async=make_async, closes_connections=True)
    # Whether it keeps its connections only the origin can see.
    return Client(name, file, lambda setup: lambda: bound(setup), closes_connections=True)
