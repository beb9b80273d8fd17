"""A worker process: reads requests from its standard input, writes samples to what was its standard output."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from typing import cast

from isoflop.model.base import LM, ModelError, Request
from isoflop.model.load import load
from isoflop.run.fanout.processes import frame, read_frame


def open_recipe(recipe: LM | str) -> LM:
    """The model that a recipe stands for."""
    return load(recipe) if isinstance(recipe, str) else recipe


async def serve(reader: asyncio.StreamReader, send: Callable[[object], None]) -> None:
    """Make the model, then answer requests, many at a time, until the input ends."""
    try:
        recipe = await read_frame(reader)
    except EOFError:
        return
    try:
        lm = open_recipe(recipe)
    except (ModelError, ValueError) as error:
        send(ModelError(str(error), fatal=True))
        return
    send(None)
    calls: set[asyncio.Task[None]] = set()
    try:
        while True:
            call, request = cast("tuple[int, Request]", await read_frame(reader))
            task = asyncio.create_task(_answer(lm, call, request, send))
            calls.add(task)
            task.add_done_callback(calls.discard)
    except EOFError:
        for task in calls:
            task.cancel()
    await lm.close()


async def _answer(lm: LM, call: int, request: Request, send: Callable[[object], None]) -> None:
    try:
        await lm.generate(request, lambda slot, sample: send((call, "sample", (slot, sample))))
    except ModelError as error:
        send((call, "error", ModelError(str(error), fatal=error.fatal)))
    else:
        send((call, "done", None))


async def main() -> None:
    """Serve on the pipes of this process; whatever prints goes to standard error."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    reader = asyncio.StreamReader(limit=2**30)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    def send(message: object) -> None:
        rest = memoryview(frame(message))
        while rest:
            rest = rest[out.write(rest) :]

    await serve(reader, send)


if __name__ == "__main__":
    asyncio.run(main())
