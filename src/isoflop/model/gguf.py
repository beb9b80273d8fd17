"""A local GGUF file, computed on this machine's CPU."""

from __future__ import annotations

import asyncio
import math
import tempfile
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, final

import numpy as np
import openvino_genai

from isoflop.cost import Cost
from isoflop.cost.energy import cpu_joules
from isoflop.model.base import LM, Message, ModelError, Prompt, Request, Sample
from isoflop.model.engine import Drawn, Engine, Job
from isoflop.model.gguf_header import GgufHeader, read_header
from isoflop.model.paged import KV_VALUE_BYTES, Graph, Ints
from isoflop.model.pull import KNOWN, absent, cache_dir, file_digest, pull

_KV_BYTES = 2 << 30  # room for keys and values; memory is taken as it is used


@final
class Gguf(LM):
    """A language model in a GGUF file, on the CPU, through OpenVINO.

    All samples of all calls run as one batch (see `engine.Engine`): a prompt is computed once, however many samples are
    drawn from it and whichever call asks; whole blocks of 32 tokens that two prompts begin with are shared as well. The
    file's chat template is applied if it has one, plain text being the user's turn; a conversation that ends in the
    assistant's turn is continued from there. A base model continues plain text.

    A sample is a function of prompt, sampling and seed. It does not depend on what else is computed at the same time
    but for rounding: sums in another order change a log-probability in the 5th decimal, and a token only where the draw
    falls that close to the edge between two (0 of 96 samples of SmolLM2-135M; the same batch gives the same bits).

    Cost: a prompt's tokens are `tokens_in` for the first sample drawn from it and `tokens_cached` for all others. FLOPs
    are those of `DecoderShape`; each step's time and reading of the weights are shared by its tokens; joules follow
    from the time by the hardware table. Dollars are unknown: nobody bills them.

    Args:
        path: the file.
        name: the specification that names it; `gguf:<path>` if not given.
        threads: to compute with (count); 0 for all cores.

    Raises:
        ModelError: no such file, not GGUF, damaged, or of an architecture that OpenVINO GenAI does not read.
    """

    concurrency = 64
    price = "unknown: local computation, nobody bills it"

    def __init__(self, path: Path, name: str | None = None, threads: int = 0) -> None:
        self._header = read_header(path)
        self._shape = self._header.shape
        self._end_tokens = self._header.end_tokens
        self.name = name or f"gguf:{path}"
        self.digest = file_digest(path)
        folder = _converted(self._header, self.digest)
        self._tokenizer: Any = openvino_genai.Tokenizer(folder)
        if self._header.chat_template:
            self._tokenizer.set_chat_template(self._header.chat_template)
        try:
            graph = Graph(folder / "openvino_model.xml", _KV_BYTES, threads)
        except RuntimeError as error:
            why = str(error).strip().rpartition("\n")[2]
            raise ModelError(f"OpenVINO cannot compute {path} on this processor: {why}", fatal=True) from error
        self._threads = graph.threads
        self._context = min(self._header.context_length, (graph.n_blocks - 2) * graph.block_tokens)
        self._engine = Engine(
            graph, self._shape, self._header.weight_bytes, self._end_tokens, self._tokenizer.decode, self.concurrency
        )
        self._tokens = lru_cache(maxsize=1024)(self._encode)

    @classmethod
    def open(cls, rest: str) -> Gguf:
        """The model that `rest` names: a known one (fetched if it is not here yet), or a path to a `.gguf` file."""
        if rest in KNOWN and KNOWN[rest].gguf:
            return cls(pull(rest)[0], f"gguf:{rest}")
        path = Path(rest).expanduser()
        if not rest.endswith(".gguf") and not path.exists():
            raise ValueError(f"gguf:{rest} names neither a .gguf file nor a known model ({', '.join(cls.known())})")
        return cls(path)

    @classmethod
    def known(cls) -> Mapping[str, str]:
        """What `isoflop pull` knows."""
        return {
            name: f"{k.download_bytes / 1e6:.0f} MB, {k.licence}{'' if absent(name) else ', fetched'}"
            for name, k in KNOWN.items()
            if k.gguf
        }

    async def generate(self, request: Request, arrived: Callable[[int, Sample], None]) -> None:
        """See `LM.generate`; slots of a cancelled call leave the batch before its next step."""
        tokens, limit = self._fit(request)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        left = len(request.seeds)

        def hand_over(place: int, sample: Sample) -> None:
            nonlocal left
            left -= 1
            try:
                arrived(place, sample)
            except Exception as error:
                _end(done, error)
            if not left:
                _end(done, None)

        def to_loop(callback: Callable[..., None], *args: object) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(callback, *args)

        def drawn(place: int, one: Drawn) -> None:
            to_loop(hand_over, place, self._sample(request, one))

        def failed(error: Exception) -> None:
            to_loop(_end, done, ModelError(f"{self.name} failed: {error}", fatal=True))

        s = request.sampling
        job = Job(tokens, request.seeds, limit, s.temperature, s.top_p, s.stop, drawn, failed)
        if not request.seeds:
            return
        self._engine.submit(job)
        try:
            await done
        finally:
            job.cancelled = True  # nothing of it is left, or nobody waits for it

    def estimate(self, request: Request) -> Cost:
        """An upper bound on tokens and FLOPs; time and energy at the speed of late, as if nothing else ran."""
        tokens, limit = self._fit(request)
        n, slots = len(tokens), len(request.seeds)
        flops = self._shape.flops(n) + slots * self._shape.flops(limit - 1, n, limit - 1)
        steps = math.ceil(n / self._engine.prefill_tokens) + math.ceil(slots / self.concurrency) * (limit - 1)
        token = self._shape.kv_traffic(1, n + limit, KV_VALUE_BYTES)
        traffic = self._shape.kv_traffic(n, 0, KV_VALUE_BYTES) + slots * (limit - 1) * token
        seconds = flops / self._engine.flops_per_s
        return Cost(
            flops=flops,
            bytes_moved=steps * self._header.weight_bytes + traffic,
            peak_bytes=self._header.weight_bytes + self._shape.kv_bytes(slots * (limit + n), KV_VALUE_BYTES),
            tokens_in=n,
            tokens_cached=n * slots,
            tokens_out=limit * slots,
            wall_s=seconds,
            joules=self._joules(seconds),
            usd=math.nan,
        )

    async def close(self) -> None:
        """Stop computing and forget prompts; the weights stay until the model itself goes."""
        await asyncio.to_thread(self._engine.stop)

    def _sample(self, request: Request, one: Drawn) -> Sample:
        text = str(self._tokenizer.decode(list(one.token_ids)))
        cuts = [at for at in (text.find(s) for s in request.sampling.stop) if at >= 0]
        cost = Cost(
            flops=one.flops,
            bytes_moved=one.bytes_moved,
            peak_bytes=one.kv_bytes + self._header.weight_bytes / len(request.seeds),
            tokens_in=one.tokens_in,
            tokens_cached=one.tokens_cached,
            tokens_out=len(one.token_ids),
            wall_s=one.wall_s,
            joules=self._joules(one.busy_s),
            usd=math.nan,
        )
        return Sample(text[: min(cuts)] if cuts else text, one.token_ids, one.logprobs, one.finish, cost)

    def _joules(self, seconds: float) -> float:
        return cpu_joules(seconds * self._threads).mid if math.isfinite(seconds) else math.nan

    def _fit(self, request: Request) -> tuple[Ints, int]:
        """The prompt's tokens, and how many may follow.

        Raises:
            ModelError: the prompt fills the context.
        """
        tokens = self._tokens(request.prompt)
        room = self._context - len(tokens)
        if room < 1:
            raise ModelError(
                f"{self.name}: a prompt of {len(tokens)} tokens leaves no room in a context of {self._context}; "
                "nothing was spent"
            )
        return tokens, min(request.sampling.max_tokens, room)

    def _encode(self, prompt: Prompt) -> Ints:
        if self._header.chat_template:
            turns = (Message("user", prompt),) if isinstance(prompt, str) else prompt
            begun = turns[-1].content if turns[-1].role == "assistant" else ""
            said = [{"role": m.role, "content": m.content} for m in (turns[:-1] if begun else turns)]
            text = str(self._tokenizer.apply_chat_template(said, add_generation_prompt=True)) + begun
        elif isinstance(prompt, str):
            text = prompt
        else:
            raise ModelError(f"{self.name} is a base model without a chat template; give it plain text", fatal=True)
        encoded = self._tokenizer.encode(text, add_special_tokens=not self._header.chat_template)
        return np.array(encoded.input_ids.data[0], np.int64)


def _end(done: asyncio.Future[None], error: Exception | None) -> None:
    if not done.done():
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)


def _converted(header: GgufHeader, digest: str) -> Path:
    """The folder with the model as OpenVINO keeps it, converted at first use.

    GenAI writes beside the file it reads; so it reads a link in a folder of ours, which is moved into place when all
    is there.
    """
    folder = cache_dir() / "openvino" / f"{digest[:16]}-{openvino_genai.get_version().split('-')[0]}"
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".convert-", dir=folder.parent) as fresh:
        link = Path(fresh) / "converted" / "model.gguf"
        link.parent.mkdir()
        link.symlink_to(header.path.resolve())
        try:
            openvino_genai.LLMPipeline(link, "CPU", enable_save_ov_model=True)
        except RuntimeError as error:
            raise ModelError(
                f"{header.path}: OpenVINO GenAI {openvino_genai.get_version()} cannot read this model "
                f"(architecture {header.architecture}): {error}",
                fatal=True,
            ) from error
        link.unlink()
        try:
            link.parent.rename(folder)
        except OSError:
            if not folder.exists():  # else another process was first
                raise
    return folder
