"""A lean HTTP/1.1 client: POSTs of JSON to one address over kept connections, and nothing else.

General clients spend several times as long on a call as the call itself needs, and at a model server's rates that is
the client's whole time. Here a connection that has read an answer writes the next request at once, before anyone looks
at the answer; so the server's slots stay full however long the answers take to digest.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

_IDLE_S = 2.0  # less than servers' usual 5 s, so that none closes a connection just as it is used again
_CROSSING_S = 0.02  # a connection idle for `_LULL_S` and lost this soon after a request was written: see `_crossed`
_LULL_S = 0.5
_CONNECT_S = 15.0
_MOST_HEAD = 1 << 16


class HttpError(Exception):
    """A request was not answered.

    Args:
        message: why.
        sent: whether it had gone out, so that the server may have worked on it.
        hopeless: whether trying again is no use.
    """

    def __init__(self, message: str, *, sent: bool, hopeless: bool = False) -> None:
        super().__init__(message)
        self.sent, self.hopeless = sent, hopeless


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    Args:
        status: its status code.
        headers: by name in small letters; of repeated ones the last.
        body: without transfer coding.
        wall_s: time since the request was written (seconds).
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    wall_s: float = 0.0


@dataclass(slots=True, eq=False)
class Job:
    """A request on its way."""

    body: bytes = field(repr=False)
    reply: asyncio.Future[Reply]
    sent_at: float | None = None
    timer: asyncio.TimerHandle | None = None

    @property
    def sent(self) -> bool:
        """Whether it has gone out."""
        return self.sent_at is not None

    def finish(self, outcome: Reply | HttpError) -> None:
        """Hand over the outcome, unless nobody waits for it any more."""
        if self.timer:
            self.timer.cancel()
        if self.reply.done():
            return
        if isinstance(outcome, Reply):
            self.reply.set_result(outcome)
        else:
            self.reply.set_exception(outcome)


class Poster:
    """Sends requests to one address over at most `most` connections, in the order they came.

    Redirects are not followed, no cookie is kept, no encoding is offered. A proxy named by the environment
    (`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`) is used except for this machine itself. It belongs to one event loop.

    Args:
        url: where to post.
        headers: sent with each request; they may hold a secret, which shows in no representation.
        most: connections (count).
        timeout_s: how long an answer may take from when its request is sent (seconds).

    Raises:
        ValueError: the address or a header cannot be sent.
    """

    def __init__(self, url: str, headers: Mapping[str, str], most: int, timeout_s: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url.partition('?')[0]} is no http:// or https:// address")
        self.url, self._most, self._timeout_s = url, most, timeout_s
        self._tls = parts.scheme == "https"
        self._host = parts.hostname.encode("idna").decode() if ":" not in parts.hostname else parts.hostname
        self._port = parts.port or (443 if self._tls else 80)
        local = self._host in ("localhost", "127.0.0.1", "::1") or proxy_bypass(self._host)
        self._proxy = None if local else getproxies().get(parts.scheme)
        named = f"[{self._host}]" if ":" in self._host else self._host
        self._authority = f"{named}:{self._port}"
        target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._") + (f"?{parts.query}" if parts.query else "")
        lines = {"Host": self._authority if parts.port else named, "Accept": "application/json", **headers}
        if self._proxy and not self._tls:
            target = f"http://{lines['Host']}{target}"
            lines |= _proxy_authorization(self._proxy)
        if any(ord(c) < 32 or ord(c) > 126 for value in lines.values() for c in value):
            raise ValueError("a header, perhaps the API key, has a character that headers cannot carry")
        start = f"POST {target} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items())
        self._head = f"{start}Content-Type: application/json\r\nContent-Length: ".encode()
        self._context: ssl.SSLContext | None = None
        self._queue: deque[Job] = deque()
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._dials: set[asyncio.Task[None]] = set()
        self._resume: asyncio.TimerHandle | None = None
        self._closed = False

    def post(self, body: bytes) -> Job:
        """Queue a request; its `reply` is to be awaited, or to be given up with `give_up`.

        Raises:
            HttpError: (from `reply`) it was not answered.
        """
        job = Job(body, asyncio.get_running_loop().create_future())
        if self._closed:
            job.finish(HttpError(f"{self.url} was closed while in use", sent=False, hopeless=True))
            return job
        self._queue.append(job)
        self.pump()
        return job

    def give_up(self, job: Job) -> None:
        """Forget a request; if it was sent, its connection is closed, which tells most servers to stop."""
        job.reply.cancel()
        for connection in [c for c in self._open if c.job is job]:
            connection.abort()

    def pause(self, seconds: float) -> None:
        """Send nothing for so long."""
        loop = asyncio.get_running_loop()
        if self._resume is None or self._resume.when() < loop.time() + seconds:
            if self._resume:
                self._resume.cancel()
            self._resume = loop.call_later(seconds, self._go_on)

    async def close(self) -> None:
        """Close all connections; what was under way fails."""
        self._closed = True
        for job in self._queue:
            job.finish(HttpError(f"{self.url} was closed while in use", sent=False, hopeless=True))
        self._queue.clear()
        for task in self._dials:
            task.cancel()
        if self._resume:
            self._resume.cancel()
        for connection in list(self._open):
            connection.abort()
        if self._dials:
            await asyncio.wait(self._dials)
        await asyncio.sleep(0)  # the transports' own closing

    # Dispatching

    def pump(self) -> None:
        """Send as many of the waiting requests as connections allow."""
        while (self._idle or len(self._open) + len(self._dials) < self._most) and (job := self.next()):
            if self._idle:
                self._idle.pop().send(job)
            else:
                task = asyncio.get_running_loop().create_task(self._dial(job))
                self._dials.add(task)
                task.add_done_callback(self._dialled)

    def next(self) -> Job | None:
        """The next request to send, None if there is none or a pause."""
        while self._queue and self._resume is None:
            job = self._queue.popleft()
            if not job.reply.done():
                return job
        return None

    def begin(self, job: Job, connection: Connection) -> bytes:
        """Start a request's clock; what to write for it."""
        job.sent_at = connection.loop.time()
        job.timer = connection.loop.call_later(self._timeout_s, connection.expire, self._timeout_s)
        return b"%s%d\r\n\r\n%s" % (self._head, len(job.body), job.body)

    def rest(self, connection: Connection) -> None:
        """Keep a connection that has nothing to do, for a while."""
        self._idle.append(connection)
        connection.idle_since = connection.loop.time()
        connection.loop.call_later(_IDLE_S, self._retire, connection, connection.uses)

    def forget(self, connection: Connection) -> None:
        """A connection was lost."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if not self._closed:
            self.pump()

    def _retire(self, connection: Connection, uses: int) -> None:
        if connection in self._idle and connection.uses == uses:
            self._idle.remove(connection)
            connection.abort()

    def _go_on(self) -> None:
        self._resume = None
        self.pump()

    def _dialled(self, task: asyncio.Task[None]) -> None:
        self._dials.discard(task)
        if not self._closed:
            self.pump()

    async def _dial(self, job: Job) -> None:
        connection = Connection(self)
        try:
            async with asyncio.timeout(min(_CONNECT_S, self._timeout_s)):
                await self._connect(connection)
        except (OSError, HttpError) as error:  # a time-out is an OSError
            why = f"cannot connect to {self._authority}: {_reason(error)}"
            job.finish(HttpError(why, sent=False, hopeless=isinstance(error, ssl.SSLCertVerificationError)))
            return
        except asyncio.CancelledError:
            job.finish(HttpError(f"{self.url} was closed while in use", sent=False, hopeless=True))
            raise
        self._open.add(connection)
        if job.reply.done():
            self.rest(connection)
        else:
            connection.send(job)

    async def _connect(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        if self._tls and self._context is None:
            self._context = ssl.create_default_context()
        if self._proxy is None:
            await loop.create_connection(lambda: connection, self._host, self._port, ssl=self._context)
            return
        proxy = urlsplit(self._proxy)
        where = proxy.hostname or "", proxy.port or 80
        if self._context is None:
            await loop.create_connection(lambda: connection, *where)
            return
        reader, writer = await asyncio.open_connection(*where)
        lines = {"Host": self._authority, **_proxy_authorization(self._proxy)}
        asked = "".join(f"{k}: {v}\r\n" for k, v in lines.items())
        writer.write(f"CONNECT {self._authority} HTTP/1.1\r\n{asked}\r\n".encode())
        try:
            answer = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n", 1)[0].decode("latin-1")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            answer = "nothing"
        if answer.split(" ")[1:2] != ["200"]:
            writer.close()
            raise HttpError(f"the proxy {where[0]}:{where[1]} answered {answer}", sent=False)
        transport = await loop.start_tls(writer.transport, connection, self._context, server_hostname=self._host)
        assert transport is not None
        connection.tunnel = writer  # which closes the connection when it is collected
        connection.connection_made(transport)


class Connection(asyncio.Protocol):
    """One connection: writes a request, reads its answer, and writes the next."""

    def __init__(self, poster: Poster) -> None:
        self.job: Job | None = None
        self.uses = 0
        self.idle_since: float | None = None
        """When it was last left without work (the loop's clock); None if it went from one request to the next."""
        self.tunnel: asyncio.StreamWriter | None = None
        self.loop = asyncio.get_running_loop()
        self._poster = poster
        self._transport: asyncio.Transport | None = None
        self._reading = Reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of asyncio's protocol."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def send(self, job: Job) -> None:
        """Write a request."""
        self.job, self._reading = job, Reading()
        self.uses += 1
        if self._transport is None or self._transport.is_closing():
            self.connection_lost(None)
            return
        self._transport.write(self._poster.begin(job, self))

    def data_received(self, data: bytes) -> None:
        """Part of asyncio's protocol: read on, and as soon as the answer is whole send the next request."""
        try:
            reply = self._reading.feed(data) if self.job else None
        except (ValueError, LookupError):
            self._end(HttpError(f"{self._poster.url} does not speak HTTP/1.1", sent=True))
            return
        if reply:
            self._answered(reply)
        elif not self.job:
            self.abort()  # nobody asked

    def eof_received(self) -> None:
        """Part of asyncio's protocol: the end of an answer without a length."""
        if self.job and (reply := self._reading.at_end()):
            self._answered(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        """Part of asyncio's protocol."""
        if self.job:
            why = f"{self._poster.url} closed the connection without an answer"
            sent = self.job.sent_at is not None and not self._crossed(self.job.sent_at)
            self.job.finish(HttpError(why, sent=sent))
        self.job = None
        self._poster.forget(self)

    def _crossed(self, sent_at: float) -> bool:
        """Whether the request and the server's closing of an idle connection met half-way: then nobody read it."""
        idle_s = 0.0 if self.idle_since is None else sent_at - self.idle_since
        return idle_s > _LULL_S and not self._reading.begun and self.loop.time() - sent_at < _CROSSING_S

    def expire(self, timeout_s: float) -> None:
        """The answer took too long."""
        self._end(HttpError(f"{self._poster.url} did not answer within timeout_s={timeout_s:g}", sent=True))

    def abort(self) -> None:
        """Close at once."""
        if self._transport:
            self._transport.abort()

    def _end(self, error: HttpError) -> None:
        if self.job:
            self.job.finish(error)
            self.job = None
        self.abort()

    def _answered(self, reply: Reply) -> None:
        job, self.job = self.job, None
        self.idle_since = None
        now = self.loop.time()
        if not self._reading.keep:
            self.abort()
        elif reply.status != 200:  # whoever asked may want a pause before anything else is sent
            self._poster.rest(self)
            self.loop.call_soon(self.loop.call_soon, self._poster.pump)
        elif following := self._poster.next():
            self.send(following)
        else:
            self._poster.rest(self)
        if job and job.sent_at is not None:
            job.finish(replace(reply, wall_s=now - job.sent_at))


class Reading:
    """An answer as it comes in."""

    def __init__(self) -> None:
        self.keep = True
        """Whether the connection may be used again after it."""
        self._got = bytearray()
        self._status = 0
        self._headers: dict[str, str] = {}
        self._whole: int | None = None
        self._chunked = False
        self._body = bytearray()

    @property
    def begun(self) -> bool:
        """Whether anything has come in."""
        return bool(self._got or self._status)

    def feed(self, data: bytes) -> Reply | None:
        """Take in what has arrived; the answer once it is whole.

        Raises:
            ValueError: it is not HTTP/1.1.
        """
        self._got += data
        if not self._status and not self._read_head():
            return None
        if self._chunked:
            return self._read_chunks()
        if self._whole is None or len(self._got) < self._whole:
            return None
        if len(self._got) > self._whole:
            self.keep = False  # more than the answer: the rest belongs to nobody
        return Reply(self._status, self._headers, bytes(self._got[: self._whole]))

    def at_end(self) -> Reply | None:
        """The answer if its end was to be the connection's."""
        if not self._status or self._chunked or self._whole is not None:
            return None
        return Reply(self._status, self._headers, bytes(self._got))

    def _read_head(self) -> bool:
        end = self._got.find(b"\r\n\r\n")
        if end < 0:
            if len(self._got) > _MOST_HEAD:
                raise ValueError("the head has no end")
            return False
        first, *lines = self._got[:end].decode("latin-1").split("\r\n")
        del self._got[: end + 4]
        version, status, *_ = first.split(" ", 2)
        if not version.startswith("HTTP/1."):
            raise ValueError(version)
        if status.startswith("1"):  # an interim answer: the real one follows
            return self._read_head()
        for line in lines:
            name, _, value = line.partition(":")
            self._headers[name.strip().lower()] = value.strip()
        self._status = int(status)
        self._chunked = "chunked" in self._headers.get("transfer-encoding", "").lower()
        if "content-length" in self._headers:
            self._whole = _length(self._headers["content-length"])
        elif status in ("204", "304"):
            self._whole = 0
        ends = self._headers.get("connection", "").lower()
        self.keep = ends == "keep-alive" if version == "HTTP/1.0" else ends != "close"
        if self._whole is None and not self._chunked:
            self.keep = False
        return True

    def _read_chunks(self) -> Reply | None:
        while (end := self._got.find(b"\r\n")) >= 0:
            size = _length(self._got[:end].split(b";")[0].decode(), 16)
            if size == 0:
                if (trailers := self._got.find(b"\r\n\r\n", end)) < 0:
                    return None
                self.keep = self.keep and len(self._got) == trailers + 4
                return Reply(self._status, self._headers, bytes(self._body))
            if len(self._got) < end + 2 + size + 2:
                return None
            self._body += self._got[end + 2 : end + 2 + size]
            del self._got[: end + 2 + size + 2]
        return None


def _length(words: str, base: int = 10) -> int:
    length = int(words, base)
    if length < 0:
        raise ValueError(f"a length of {length}")
    return length


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no connection in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid, {error.verify_message}"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _proxy_authorization(proxy: str) -> dict[str, str]:
    parts = urlsplit(proxy)
    if not parts.username:
        return {}
    words = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(words.encode()).decode()}"}
