"""The HTTP path against servers that answer in every way HTTP/1.1 allows, and in some it does not."""

from __future__ import annotations

import asyncio
import base64
import shutil
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoflop.model.http import HttpError, Poster, Reading, Reply

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def take(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """One request: its head and its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
    )
    return head, await reader.readexactly(length)


class Wire:
    """A server that runs a handler per connection, and counts connections."""

    def __init__(self, handler: Handler, tls: ssl.SSLContext | None = None) -> None:
        self.handler, self.tls = handler, tls
        self.connections = 0
        self.handling: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Wire:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        self.port = self.server.sockets[0].getsockname()[1]
        self.url = f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}/v1/x"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        for task in self.handling:
            task.cancel()
        await asyncio.gather(*self.handling, return_exceptions=True)

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.handling.add(asyncio.get_running_loop().create_task(self._handle(reader, writer)))

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self.handler(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def answering(*replies: bytes) -> Handler:
    """Each connection answers its requests with these, then closes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for reply in replies:
            await take(reader)
            writer.write(reply)

    return handle


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        _, body = await take(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))


def run(handler: Handler, work: Callable[[Wire, Poster], Awaitable[object]], *, most: int = 4, timeout_s: float = 5):
    async def main() -> object:
        async with Wire(handler) as wire:
            poster = Poster(wire.url, {}, most, timeout_s)
            try:
                return await work(wire, poster)
            finally:
                await poster.close()

    return asyncio.run(main())


def reply_to(handler: Handler, **kwargs: float) -> Reply:
    async def work(wire: Wire, poster: Poster) -> Reply:
        return await poster.post(b"{}").reply

    return run(handler, work, **kwargs)


class TestReading:
    replies = (
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b"", True),
        (b"HTTP/1.1 500 \r\nconnection: Close\r\ncontent-length:1\r\n\r\nx", 500, b"x", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, b"x", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx", 200, b"x", True),
        (b"HTTP/1.1 204 None\r\n\r\n", 204, b"", True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, b"x", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=1\r\n0123456789\r\n0\r\n\r\n", 200, b"abc0123456789", True),  # noqa: E501
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nTrailer: t\r\n\r\n", 200, b"a", True),
    )  # fmt: skip

    @given(st.sampled_from(replies), st.data())
    def test_it_does_not_matter_in_what_pieces_an_answer_comes(
        self, case: tuple[bytes, int, bytes, bool], data: st.DataObject
    ):
        raw, status, body, keep = case
        cuts = data.draw(st.lists(st.integers(1, len(raw) - 1), max_size=6, unique=True).map(sorted))
        reading = Reading()
        pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
        for piece in pieces[:-1]:
            assert reading.feed(piece) is None
        reply = reading.feed(pieces[-1])
        assert reply is not None
        assert (reply.status, reply.body, reading.keep) == (status, body, keep)

    def test_what_comes_after_an_answer_ends_the_connection(self):
        for raw in (OK + b"more", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nmore"):
            reading = Reading()
            assert reading.feed(raw).body in (b"ok", b"")
            assert not reading.keep

    @pytest.mark.parametrize(
        "raw",
        [
            b"SSH-2.0-OpenSSH\r\n\r\n",
            b"HTTP/2 200\r\n\r\n",
            b"HTTP/1.1 ok\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-4\r\n",
            b"x" * 70_000,
        ],
    )
    def test_what_is_not_http_is_an_error(self, raw: bytes):
        with pytest.raises((ValueError, LookupError)):
            Reading().feed(raw)


class TestAnswers:
    def test_the_end_of_the_connection_may_be_the_end_of_the_answer(self):
        assert reply_to(answering(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")).body == b"until the end"

    @pytest.mark.parametrize(
        "part", [b"", b"HTTP/1.1 200", OK[:-1], b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na"]
    )
    def test_half_an_answer_is_none(self, part: bytes):
        with pytest.raises(HttpError, match="closed the connection") as caught:
            reply_to(answering(part))
        assert caught.value.sent

    def test_garbage_is_an_error(self):
        with pytest.raises(HttpError, match=r"does not speak HTTP/1\.1") as caught:
            reply_to(answering(b"220 mail.example ready\r\n\r\n"))
        assert caught.value.sent

    def test_headers_and_path_are_sent_as_given(self):
        seen: list[bytes] = []

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head, body = await take(reader)
            seen.extend((head, body))
            writer.write(OK)

        async def main() -> None:
            async with Wire(handle) as wire:
                poster = Poster(f"{wire.url}/a b/\u00e4?c=d", {"Authorization": "Bearer k"}, 1, 5)
                assert (await poster.post(b'{"a": 1}').reply).wall_s > 0
                assert "Bearer" not in repr(poster)
                await poster.close()
                expected = f"127.0.0.1:{wire.port}".encode()
            lines = seen[0].split(b"\r\n")
            assert lines[0] == b"POST /v1/x/a%20b/%C3%A4?c=d HTTP/1.1"
            assert {b"Host: " + expected, b"Authorization: Bearer k", b"Content-Type: application/json"} <= set(lines)
            assert seen[1] == b'{"a": 1}'

        asyncio.run(main())

    def test_a_header_cannot_smuggle_in_another(self):
        with pytest.raises(ValueError, match="character") as caught:
            Poster("http://h/", {"Authorization": "Bearer a\r\nX: y"}, 1, 1)
        assert "Bearer" not in str(caught.value)


class TestConnections:
    def test_they_are_kept_and_no_more_than_allowed(self):
        async def work(wire: Wire, poster: Poster) -> None:
            jobs = [poster.post(b"%d" % i) for i in range(100)]
            replies = [await job.reply for job in jobs]
            assert [r.body for r in replies] == [b"%d" % i for i in range(100)]
            assert wire.connections == 3

        run(echo, work, most=3)

    def test_a_connection_that_says_close_is_replaced(self):
        close = OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n")

        async def work(wire: Wire, poster: Poster) -> None:
            for _ in range(3):
                assert (await poster.post(b"").reply).body == b"ok"
            assert wire.connections == 3

        run(answering(close), work, most=1)

    def test_what_waits_goes_on_when_a_connection_breaks(self):
        async def work(wire: Wire, poster: Poster) -> None:
            jobs = [poster.post(b"") for _ in range(6)]
            outcomes = await asyncio.gather(*(job.reply for job in jobs), return_exceptions=True)
            assert [isinstance(o, HttpError) for o in outcomes] == [False, True] * 3
            assert wire.connections == 3

        run(answering(OK, b""), work, most=1)

    def test_a_request_that_met_an_idle_connection_s_end_half_way_was_not_read(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("isoflop.model.http._LULL_S", 0.0)

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await take(reader)
            writer.write(OK)
            await reader.read(1)  # the next request comes, and finds the connection closed

        async def work(wire: Wire, poster: Poster) -> None:
            await poster.post(b"").reply
            await asyncio.sleep(0.01)
            with pytest.raises(HttpError) as caught:
                await poster.post(b"").reply
            assert not caught.value.sent

        run(handle, work, most=1)

    def test_idle_connections_are_closed(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("isoflop.model.http._IDLE_S", 0.02)

        async def work(wire: Wire, poster: Poster) -> None:
            await poster.post(b"").reply
            await asyncio.sleep(0.1)
            await poster.post(b"").reply
            assert wire.connections == 2

        run(echo, work)

    def test_a_server_that_is_silent_is_not_waited_for(self):
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()

        with pytest.raises(HttpError, match=r"within timeout_s=0\.1") as caught:
            reply_to(silent, timeout_s=0.1)
        assert caught.value.sent

    def test_where_nobody_listens_nothing_was_sent(self):
        async def work(wire: Wire, poster: Poster) -> None:
            wire.server.close()
            await wire.server.wait_closed()
            with pytest.raises(HttpError, match=r"cannot connect to 127\.0\.0\.1") as caught:
                await poster.post(b"").reply
            assert not caught.value.sent

        run(echo, work)

    def test_a_host_that_is_none_is_an_error(self):
        async def main() -> None:
            poster = Poster("http://no-such-host.invalid/v1", {}, 1, 5)
            with pytest.raises(HttpError, match=r"cannot connect to no-such-host\.invalid"):
                await poster.post(b"").reply
            await poster.close()

        asyncio.run(main())

    def test_a_pause_holds_everything_back(self):
        async def work(wire: Wire, poster: Poster) -> None:
            loop = asyncio.get_running_loop()
            await poster.post(b"").reply
            start = loop.time()
            poster.pause(0.2)
            poster.pause(0.1)  # a shorter one does not cut the longer one short
            jobs = [poster.post(b"") for _ in range(5)]
            await asyncio.gather(*(job.reply for job in jobs))
            assert min(job.sent_at for job in jobs) >= start + 0.19

        run(echo, work)

    def test_an_error_lets_its_reader_pause_before_the_next_request(self):
        busy = b"HTTP/1.1 429 Busy\r\nContent-Length: 0\r\n\r\n"

        async def work(wire: Wire, poster: Poster) -> None:
            first, second = poster.post(b""), poster.post(b"")
            await first.reply
            poster.pause(0.2)
            await second.reply
            assert second.sent_at - first.sent_at >= 0.19

        run(answering(busy, OK), work, most=1)

    def test_what_is_given_up_is_not_sent_or_is_cut_off(self):
        cut: list[bytes] = []

        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await take(reader)
            cut.append(await reader.read())

        async def work(wire: Wire, poster: Poster) -> None:
            sent, waiting = poster.post(b""), poster.post(b"")
            while not sent.sent:
                await asyncio.sleep(0.001)
            poster.give_up(waiting)
            poster.give_up(sent)
            while not cut:
                await asyncio.sleep(0.001)
            assert not waiting.sent
            assert wire.connections == 1

        run(hang, work, most=1)

    def test_closing_fails_what_is_under_way(self):
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()

        async def work(wire: Wire, poster: Poster) -> None:
            sent, waiting = poster.post(b""), poster.post(b"")
            while not sent.sent:
                await asyncio.sleep(0.001)
            await poster.close()
            for job, was_sent in ((sent, True), (waiting, False), (poster.post(b""), False)):
                with pytest.raises(HttpError) as caught:
                    await job.reply
                assert caught.value.sent == was_sent

        run(silent, work, most=1)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1 and model.test, and a server's context with it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    names = "subjectAltName=DNS:model.test,IP:127.0.0.1"
    words = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=model.test", "-addext", names]
    subprocess.run(words, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return cert, context


class TestEncryption:
    def test_a_trusted_server_is_talked_to(
        self, certificate: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))

        async def main() -> None:
            async with Wire(echo, certificate[1]) as wire:
                poster = Poster(wire.url, {}, 2, 5)
                big = b"x" * 300_000
                replies = await asyncio.gather(*(poster.post(big).reply for _ in range(4)))
                assert [r.body for r in replies] == [big] * 4
                await poster.close()

        asyncio.run(main())

    def test_an_untrusted_one_is_not(self, certificate: tuple[Path, ssl.SSLContext]):
        async def main() -> None:
            async with Wire(echo, certificate[1]) as wire:
                poster = Poster(wire.url, {"Authorization": "Bearer k"}, 1, 5)
                with pytest.raises(HttpError, match="certificate is not valid") as caught:
                    await poster.post(b"").reply
                assert caught.value.hopeless
                assert not caught.value.sent
                await poster.close()

        asyncio.run(main())


class TestProxy:
    heads: list[bytes]

    async def proxy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers plain requests itself; for CONNECT it becomes a tunnel to `self.target`."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        if not head.startswith(b"CONNECT"):
            writer.write(OK)
            return
        if self.target is None:
            writer.write(b"HTTP/1.1 407 Who are you\r\n\r\n")
            return
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.target)
        writer.write(b"HTTP/1.1 200 Go on\r\n\r\n")

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
            sink.close()

        await asyncio.gather(copy(reader, there_writer), copy(there_reader, writer))

    def post(self, url: str, monkeypatch: pytest.MonkeyPatch, behind: Wire | None = None) -> Reply:
        self.heads, self.target = [], None
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)

        async def main() -> Reply:
            async with Wire(self.proxy) as proxy:
                for name in ("http_proxy", "https_proxy"):
                    monkeypatch.setenv(name, f"http://user:pa%20ss@127.0.0.1:{proxy.port}")
                if behind is None:
                    return await self._one(url)
                async with behind:
                    self.target = behind.port
                    return await self._one(url)

        return asyncio.run(main())

    async def _one(self, url: str) -> Reply:
        poster = Poster(url, {"Authorization": "Bearer k"}, 1, 5)
        try:
            return await poster.post(b"{}").reply
        finally:
            await poster.close()

    who = b"Proxy-Authorization: Basic " + base64.b64encode(b"user:pa ss")

    def test_plain_requests_name_the_whole_address(self, monkeypatch: pytest.MonkeyPatch):
        assert self.post("http://model.test:81/v1", monkeypatch).body == b"ok"
        lines = self.heads[0].split(b"\r\n")
        assert lines[0] == b"POST http://model.test:81/v1 HTTP/1.1"
        assert self.who in lines

    def test_encrypted_ones_go_through_a_tunnel_that_sees_no_key(
        self, certificate: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        assert self.post("https://model.test/v1", monkeypatch, Wire(echo, certificate[1])).body == b"{}"
        lines = self.heads[0].split(b"\r\n")
        assert lines[0] == b"CONNECT model.test:443 HTTP/1.1"
        assert self.who in lines
        assert b"Bearer" not in self.heads[0]

    def test_a_proxy_that_refuses_is_an_error(self, monkeypatch: pytest.MonkeyPatch):
        with pytest.raises(HttpError, match="answered HTTP/1.1 407") as caught:
            self.post("https://model.test/v1", monkeypatch)
        assert not caught.value.sent
        assert "pa" not in str(caught.value).replace("path", "")

    def test_this_machine_is_reached_without_one(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        assert reply_to(echo).body == b"{}"
