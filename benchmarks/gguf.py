"""32 samples of one prompt: our batch beside the llama.cpp server, same weights, prompt and length, on this machine.

    python -m benchmarks.gguf [rounds [threads]]

Both are loaded in one process and take turns. On a busy machine use one thread: the server's threads wait for each
other by spinning, so with as many as cores it nearly stops when other programs want those cores, and the ratio flatters
us. The server (package
`xllamacpp`) has a slot for each sample, one cache of keys and values for all, and as many threads as we; it answers 32
concurrent calls to its chat endpoint. Two lengths: stories of up to 64 tokens, where decoding is what counts, and short
answers, where the prompt is. Ours reports log-probabilities as well; the server is not asked for them.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from dataclasses import dataclass
from statistics import median

import aiohttp
import xllamacpp

from isoflop.model.base import Request, Sample, Sampling
from isoflop.model.gguf import Gguf
from isoflop.model.pull import pull

SAMPLES = 32
TARGET = 2.5


@dataclass(frozen=True)
class Case:
    name: str
    prompts: tuple[str, ...]
    sampling: Sampling


CASES = (
    Case("stories, 64 tokens", ("Write a long story about a dog and a cat.",), Sampling(max_tokens=64)),
    Case(
        "answers, 8 tokens",
        tuple(f"What is the capital of {land}? Answer with one word." for land in ("France", "Peru", "Japan", "Kenya")),
        Sampling(max_tokens=8, temperature=0.8),
    ),
)


def serve(threads: int) -> xllamacpp.Server:
    """The peer: a llama.cpp server on a free port of this machine."""
    params = xllamacpp.CommonParams()
    params.model.path = str(pull("smollm2-135m")[0])
    params.n_parallel = SAMPLES
    params.n_ctx = 8192
    params.kv_unified = True
    params.cont_batching = True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.verbosity = -1
    return xllamacpp.Server(params)


async def theirs(server: xllamacpp.Server, case: Case, offset: int) -> int:
    """Tokens that the server generated."""
    s = case.sampling

    async def one(prompt: str, seed: int) -> int:
        body = {
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": s.max_tokens,
            "temperature": s.temperature,
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "seed": seed,
        }
        async with client.post(f"{server.listening_address}/v1/chat/completions", json=body) as answer:
            return (await answer.json())["usage"]["completion_tokens"]

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(None)) as client:
        calls = [one(prompt, offset + i) for prompt in case.prompts for i in range(SAMPLES)]
        return sum(await asyncio.gather(*calls))


async def ours(model: Gguf, case: Case, offset: int) -> int:
    """Tokens that we generated."""
    samples: list[Sample] = []
    seeds = tuple(range(offset, offset + SAMPLES))
    calls = [
        model.generate(Request(prompt, seeds, case.sampling), lambda _, sample: samples.append(sample))
        for prompt in case.prompts
    ]
    await asyncio.gather(*calls)
    await model.close()  # forgets the prompts, so that each round computes them
    return sum(int(sample.cost.tokens_out) for sample in samples)


def speed(run: object, *args: object) -> float:
    gc.collect()
    start = time.perf_counter()
    tokens = asyncio.run(run(*args))  # type: ignore[operator]
    return tokens / (time.perf_counter() - start)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    threads = int(sys.argv[2]) if len(sys.argv) > 2 else os.cpu_count() or 1
    model, server = Gguf(pull("smollm2-135m")[0], threads=threads), serve(threads)
    for case in CASES:
        speed(theirs, server, case, 10_000), speed(ours, model, case, 10_000)
        pairs = [(speed(theirs, server, case, 100 * i), speed(ours, model, case, 100 * i)) for i in range(rounds)]
        ratios = sorted(b / a for a, b in pairs)
        print(
            f"{case.name}, {threads} thread(s): {SAMPLES} samples of {len(case.prompts)} prompt(s): llama.cpp server "
            f"{median(a for a, _ in pairs):.0f} tok/s, isoflop {median(b for _, b in pairs):.0f} tok/s, "
            f"ratio {median(ratios):.2f} [{ratios[0]:.2f}-{ratios[-1]:.2f}] (target {TARGET})",
            flush=True,
        )


if __name__ == "__main__":
    main()
