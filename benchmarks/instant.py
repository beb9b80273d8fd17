"""A completions server that costs next to nothing: a raw asyncio protocol with a constant answer, for timing clients.

python -m benchmarks.instant [latency_s]     # prints its port, serves until its standard input closes
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

_REPLY = json.dumps(
    {
        "id": "instant",
        "object": "chat.completion",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "The answer is 42"}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 24, "completion_tokens": 6, "total_tokens": 30},
    }
).encode()
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(_REPLY) + _REPLY
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Instant(asyncio.Protocol):
    def __init__(self, latency_s: float) -> None:
        self.latency_s, self.buffer = latency_s, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self.buffer, 0, end + 2)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self.buffer) < whole:
                return
            self.buffer = self.buffer[whole:]
            if self.latency_s:
                asyncio.get_running_loop().call_later(self.latency_s, self.transport.write, _ANSWER)
            else:
                self.transport.write(_ANSWER)


async def serve(latency_s: float) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Instant(latency_s), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


@contextmanager
def instant(latency_s: float = 0.0) -> Generator[str]:
    """The address up to and with `/v1` of such a server in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.instant", str(latency_s)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        process.communicate("")


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1]) if len(sys.argv) > 1 else 0.0))
