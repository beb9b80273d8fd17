"""Workers in processes of their own on this machine."""

from __future__ import annotations

import asyncio
import pickle
import struct
import sys
from collections.abc import AsyncIterator
from typing import Any, final

from isoflop.model.base import ModelError, Request, Sample
from isoflop.run.fanout.crew import Crew, Worker, WorkerLostError

LENGTH = struct.Struct("<Q")


def frame(message: object) -> bytes:
    """A message as the pipe carries it: its length, then its pickle."""
    body = pickle.dumps(message)
    return LENGTH.pack(len(body)) + body


async def read_frame(stream: asyncio.StreamReader) -> Any:
    """The next message.

    Raises:
        EOFError: the other side is gone.
    """
    try:
        (length,) = LENGTH.unpack(await stream.readexactly(LENGTH.size))
        return pickle.loads(await stream.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise EOFError from error


@final
class ProcessWorker(Worker):
    """A worker at the other end of two pipes, running `isoflop.run.fanout.worker`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process, self._to, self._from = process, process.stdin, process.stdout
        self._calls: dict[int, asyncio.Queue[tuple[str, Any]]] = {}
        self._last = 0
        self._listening = asyncio.create_task(self._listen())

    async def generate(self, request: Request) -> AsyncIterator[tuple[int, Sample]]:
        """Send the request and yield what comes back for it."""
        if self._listening.done():
            raise WorkerLostError
        self._last += 1
        call, answers = self._last, asyncio.Queue[tuple[str, Any]]()
        self._calls[call] = answers
        try:
            self._to.write(frame((call, request)))
            while True:
                what, value = await answers.get()
                if what == "sample":
                    yield value
                elif what == "error":
                    raise value
                elif what == "lost":
                    raise WorkerLostError
                else:
                    return
        finally:
            del self._calls[call]

    async def close(self) -> None:
        """Close its pipe, at which it ends; kill it if it does not."""
        self._to.close()
        try:
            await asyncio.wait_for(self.process.wait(), 5)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
        await self._listening

    async def _listen(self) -> None:
        try:
            while True:
                call, what, value = await read_frame(self._from)
                if call in self._calls:
                    self._calls[call].put_nowait((what, value))
        except EOFError:
            for answers in self._calls.values():
                answers.put_nowait(("lost", None))


@final
class Processes(Crew):
    """So many processes, each with the whole model in its memory.

    Args:
        size: how many (count).
    """

    def __init__(self, size: int) -> None:
        self.size = size

    async def hire(self, recipe: bytes) -> Worker:
        """Start a process and wait until it has its model."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "isoflop.run.fanout.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is the run's to handle: it lets the workers finish what is under way
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(LENGTH.pack(len(recipe)) + recipe)
        try:
            failed = await read_frame(process.stdout)
        except EOFError:
            raise ModelError(f"a worker ended with code {await process.wait()} before it had its model") from None
        if failed:
            await process.wait()
            raise failed
        return ProcessWorker(process)


def open_crew(rest: str) -> Processes:
    """The crew that the words after `processes:` name.

    Raises:
        ValueError: they are no number of processes.
    """
    if not (rest.isdigit() and int(rest) > 0):
        raise ValueError(f"cannot run on processes:{rest}; write how many, as processes:4")
    return Processes(int(rest))
