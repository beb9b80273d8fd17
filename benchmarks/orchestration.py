"""How many completions a second, and how much of them is ours: isoflop beside bare aiohttp, one interleaved run.

    python -m benchmarks.orchestration [rounds]

The server is a raw asyncio protocol in a process of its own that answers at once (or after 50 ms), so what is measured
is the client. Every round times all clients one after the other; printed are medians over rounds, and ratios to bare
aiohttp, which hold on a busy machine where absolute figures do not (those of CPU time better than those of rates; more
is better in both). its-hub's async path measured 0.65x on the same kind of server (anchors, 3a), the openai SDK 0.10x.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from benchmarks.instant import instant
from benchmarks.sums import Last
from isoflop.method.search.best_of_n import BestOfN
from isoflop.method.search.self_consistency import SelfConsistency
from isoflop.model.base import Request, Sampling
from isoflop.model.endpoint import Endpoint, Options
from isoflop.run import Bench
from isoflop.task import Question, Questions

PROBLEMS, SAMPLES, CONCURRENCY, LATENCY_S = 100, 20, 32, 0.05
TOTAL = PROBLEMS * SAMPLES
_PROMPT = "What is six times seven? Think about it, and then give the answer in one short sentence. Problem {}."


def bare_aiohttp(url: str) -> None:
    """What anyone would write: a session, a semaphore, JSON in and out."""

    async def run() -> None:
        limit = asyncio.Semaphore(CONCURRENCY)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONCURRENCY)) as session:

            async def one(i: int) -> str:
                messages = [{"role": "user", "content": _PROMPT.format(i // SAMPLES)}]
                asked = {"model": "m", "messages": messages, "max_tokens": 256, "temperature": 1.0, "seed": i}
                async with limit, session.post(f"{url}/chat/completions", json=asked) as response:
                    return (await response.json())["choices"][0]["message"]["content"]

            await asyncio.gather(*(one(i) for i in range(TOTAL)))

    asyncio.run(run())


def endpoint_one_problem(url: str) -> None:
    """`Endpoint.generate` on one prompt with all slots."""
    lm = Endpoint(url, "m", Options(concurrency=CONCURRENCY))
    assert len(lm.sample(Request(_PROMPT.format(0), tuple(range(TOTAL))))) == TOTAL


def endpoint_many_problems(url: str) -> None:
    """`Endpoint.generate` on all problems at once."""
    lm = Endpoint(url, "m", Options(concurrency=CONCURRENCY))
    arrived: list[object] = []

    async def run() -> None:
        requests = (Request(_PROMPT.format(i), tuple(range(SAMPLES))) for i in range(PROBLEMS))
        await asyncio.gather(*(lm.generate(r, lambda slot, sample: arrived.append(sample)) for r in requests))
        await lm.close()

    asyncio.run(run())
    assert len(arrived) == TOTAL


def whole_run(url: str) -> None:
    """A run: scheduler, meter, journal, grading, records; self-consistency and best-of-n share all samples."""
    questions = [Question(f"q{i}", _PROMPT.format(i), "42", Last()) for i in range(PROBLEMS)]
    methods = [SelfConsistency(n=SAMPLES, batch=SAMPLES), BestOfN(n=SAMPLES, batch=SAMPLES)]
    lm = Endpoint(url, "m", Options(concurrency=CONCURRENCY))
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Questions("sums", questions), [lm], methods, ["tokens_out=10M"], sampling=Sampling())
        study = bench.run(Path(folder) / "store.db")
        paid = sum(row.samples - row.shared - row.replayed for row in study.ledger)
        assert paid == TOTAL, f"{paid} samples paid, {TOTAL} wanted"


CLIENTS: dict[str, Callable[[str], None]] = {
    "bare aiohttp": bare_aiohttp,
    "Endpoint, one problem": endpoint_one_problem,
    "Endpoint, 100 problems": endpoint_many_problems,
    "whole run, journalled": whole_run,
}


@dataclass(frozen=True)
class Timed:
    """A client's rounds.

    Args:
        per_s: completions a second, by round.
        cpu_ms: CPU of the client a completion (milliseconds), by round.
    """

    per_s: list[float]
    cpu_ms: list[float]


def time_clients(url: str, rounds: int, clients: Sequence[str]) -> dict[str, Timed]:
    """All clients, one after the other, round by round."""
    timed = {name: Timed([], []) for name in clients}
    for name in clients:
        CLIENTS[name](url)  # imports, caches, the first connections
    for _ in range(rounds):
        for name in clients:
            wall, cpu = time.perf_counter(), time.process_time()
            CLIENTS[name](url)
            timed[name].per_s.append(TOTAL / (time.perf_counter() - wall))
            timed[name].cpu_ms.append(1e3 * (time.process_time() - cpu) / TOTAL)
    return timed


def ratio(timed: dict[str, Timed], name: str, to: str = "bare aiohttp") -> tuple[float, float]:
    """Medians over rounds of a client's rate over another's, and of the other's CPU over the client's."""
    rate = statistics.median(a / b for a, b in zip(timed[name].per_s, timed[to].per_s, strict=True))
    return rate, statistics.median(b / a for a, b in zip(timed[name].cpu_ms, timed[to].cpu_ms, strict=True))


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with instant() as url:
        timed = time_clients(url, rounds, list(CLIENTS))
    print(f"{TOTAL} completions, concurrency {CONCURRENCY}, instant server, median of {rounds} interleaved rounds")
    print(f"{'client':26}{'completions/s':>15}{'vs aiohttp':>12}{'CPU ms each':>13}{'vs aiohttp':>12}")
    for name, t in timed.items():
        rate, cpu = ratio(timed, name)
        print(
            f"{name:26}{statistics.median(t.per_s):15.0f}{rate:11.2f}x{statistics.median(t.cpu_ms):13.2f}{cpu:11.2f}x"
        )
    ideal = CONCURRENCY / LATENCY_S
    with instant(LATENCY_S) as url:
        slow = time_clients(url, 1 + rounds // 3, list(CLIENTS))
    print(
        f"\n{PROBLEMS} problems x {SAMPLES} samples, {1e3 * LATENCY_S:.0f} ms latency: share of ideal ({ideal:.0f}/s)"
    )
    for name, t in slow.items():
        print(f"{name:26}{statistics.median(t.per_s) / ideal:15.2f}")


if __name__ == "__main__":
    main()
