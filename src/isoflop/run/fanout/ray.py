"""Workers on the machines of a Ray cluster."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator
from typing import Any, final

import ray
from ray.exceptions import RayActorError, RayError

from isoflop.model.base import ModelError, Request, Sample
from isoflop.run.fanout.crew import Crew, Worker, WorkerLostError
from isoflop.run.fanout.worker import open_recipe

_ray: Any = ray  # its own types do not say what its decorators return


class Drawer:
    """What runs on the cluster: an actor with the model in its memory."""

    def __init__(self, recipe: bytes) -> None:
        self.lm = open_recipe(pickle.loads(recipe))

    def ready(self) -> bool:
        """Answers once the model is there."""
        return True

    async def generate(self, request: Request) -> AsyncIterator[tuple[int, Sample] | ModelError]:
        """Yield slot and sample as each arrives; an error of the model comes last."""
        arrived: asyncio.Queue[tuple[int, Sample] | ModelError | None] = asyncio.Queue()

        async def draw() -> None:
            try:
                await self.lm.generate(request, lambda slot, sample: arrived.put_nowait((slot, sample)))
            except ModelError as error:
                arrived.put_nowait(ModelError(str(error), fatal=error.fatal))
            arrived.put_nowait(None)

        drawing = asyncio.create_task(draw())
        while (item := await arrived.get()) is not None:
            yield item
        await drawing


@final
class RayWorker(Worker):
    """A handle on an actor."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    async def generate(self, request: Request) -> AsyncIterator[tuple[int, Sample]]:
        """Yield what the actor yields."""
        try:
            async for reference in self.actor.generate.options(num_returns="streaming").remote(request):
                item: tuple[int, Sample] | ModelError = await reference
                if isinstance(item, ModelError):
                    raise item
                yield item
        except RayActorError as error:
            raise WorkerLostError from error

    async def close(self) -> None:
        """Kill the actor: it keeps nothing that is not here already."""
        _ray.kill(self.actor)


@final
class RayCluster(Crew):
    """Actors on a Ray cluster, one CPU each.

    The machines need isoflop with the same extras as here, and any model file at the same path.

    Args:
        address: of the cluster, or None to start one on this machine.
        size: how many actors (count); None for one a CPU of the cluster.
    """

    def __init__(self, address: str | None, size: int | None) -> None:
        self._begun = not _ray.is_initialized()
        if self._begun:
            try:
                local = {"num_cpus": size, "include_dashboard": False} if address is None else {}
                _ray.init(address, log_to_driver=False, configure_logging=False, **local)
            except (RayError, ConnectionError, ValueError) as error:
                raise ModelError(f"no Ray cluster at {address}: {error}", fatal=True) from error
        self.size: int = size or max(1, int(_ray.cluster_resources().get("CPU", 1)))

    async def hire(self, recipe: bytes) -> Worker:
        """Start an actor and wait until it has its model."""
        actor: Any = _ray.remote(num_cpus=1, max_concurrency=1000)(Drawer).remote(recipe)
        try:
            await actor.ready.remote()
        except RayError as error:
            raise ModelError(f"a worker on the Ray cluster could not make its model: {error}") from error
        return RayWorker(actor)

    async def close(self) -> None:
        """Leave the cluster if this crew joined it."""
        if self._begun:
            _ray.shutdown()


def open_crew(rest: str) -> RayCluster:
    """The crew that the words after `ray:` name: `//auto`, `//host:port`, or a number of workers on this machine.

    Raises:
        ValueError: they name none.
        ModelError: the cluster cannot be reached.
    """
    if rest.isdigit() and int(rest) > 0:
        return RayCluster(None, int(rest))
    if rest.startswith("//") and len(rest) > 2:
        return RayCluster("auto" if rest == "//auto" else f"ray:{rest}", None)
    raise ValueError(f"cannot run on ray:{rest}; write ray:<how many>, ray://auto or ray://<host>:<port>")
