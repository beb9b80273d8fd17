"""The contract that every model keeps; third parties check theirs with it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace

from isoflop.cost import AXES
from isoflop.model.base import LM, Prompt, Request, Sample, Sampling


def check_model(lm: LM, prompt: Prompt = "Say a word.", *, reproducible: bool = True) -> None:
    """Check that a model keeps the contract of all models, with a few dozen short samples.

    Each slot gets one sample; slots differ; the same seed gives the same sample whatever else is drawn at the same
    time; token counts and log-probabilities fit each other; nothing costs less than nothing, more than its
    estimate, or an unknown amount of what the estimate knew; stop strings end a sample; concurrent calls and a call
    after `close` work; name and digest are set.

    Args:
        lm: the model to check, which must be able to give different samples of `prompt`.
        prompt: what to ask it.
        reproducible: whether it promises the same sample for the same seed.

    Raises:
        AssertionError: it does not keep the contract; the message says where.
    """
    _check(bool(lm.name) and bool(lm.digest), lm, "has no name or no digest")
    sampling = Sampling(max_tokens=12)
    request = Request(prompt, tuple(range(8)), sampling)
    together = lm.sample(request)
    _check(len({s.text for s in together}) > 1, lm, f"gave the same text in all {len(together)} slots")
    for sample in together:
        _check_sample(lm, sample, sampling)
    _check_cost(lm, request, together)
    if reproducible:
        alone = lm.sample(replace(request, seeds=(5,)))
        _check(alone[0].text == together[5].text, lm, "gave another text to the same seed when it was drawn alone")
    _check_concurrent(lm, request, together if reproducible else None)
    _check_stop(lm, request, together)


def _check_sample(lm: LM, sample: Sample, sampling: Sampling) -> None:
    out = sample.cost.tokens_out
    _check(not out > sampling.max_tokens, lm, f"charged {out:g} tokens of at most {sampling.max_tokens}")
    if sample.token_ids is not None and sample.finish_reason == "length":
        _check(len(sample.token_ids) == out, lm, f"gave {len(sample.token_ids)} token ids and charged {out:g}")
    if sample.logprobs is not None:
        _check(all(p <= 1e-6 for p in sample.logprobs), lm, "gave a log-probability above 0")
        if sample.token_ids is not None:
            _check(len(sample.logprobs) == len(sample.token_ids), lm, "gave a log-probability to some tokens only")
    _check(sample.attempts >= 1, lm, "made no attempt")


def _check_cost(lm: LM, request: Request, samples: Sequence[Sample]) -> None:
    estimate = lm.estimate(request)
    for axis in AXES:
        costs = [s.cost[axis] for s in samples]
        _check(not any(c < 0 for c in costs), lm, f"charged less than nothing in {axis}")
        if axis in ("tokens_in", "tokens_cached", "tokens_out", "flops", "usd") and not math.isnan(estimate[axis]):
            total = sum(costs)
            bound = estimate.tokens_in + estimate.tokens_cached if axis == "tokens_cached" else estimate[axis]
            _check(not math.isnan(total), lm, f"estimated its {axis} and then did not tell them")
            _check(total <= bound * (1 + 1e-9), lm, f"charged {axis}={total:g} after an estimate of {bound:g}")


def _check_concurrent(lm: LM, request: Request, expected: Sequence[Sample] | None) -> None:
    found: dict[tuple[int, int], Sample] = {}

    async def call(i: int, seeds: tuple[int, ...]) -> None:
        await lm.generate(replace(request, seeds=seeds), lambda slot, s: found.__setitem__((i, slot), s))

    async def calls() -> None:
        try:
            await asyncio.gather(*(call(i, (i, i + 4)) for i in range(4)))
        finally:
            await lm.close()

    asyncio.run(calls())
    _check(len(found) == 8, lm, f"gave {len(found)} samples to 4 concurrent calls of 2 slots")
    if expected is not None:
        same = all(found[i, slot].text == expected[i + 4 * slot].text for i in range(4) for slot in range(2))
        _check(same, lm, "gave other texts to the same seeds when calls came at the same time")


def _check_stop(lm: LM, request: Request, samples: Sequence[Sample]) -> None:
    mark = next((s.text.strip()[1:3] for s in samples if len(s.text.strip()) > 3), None)
    if mark is None:
        return
    for sample in lm.sample(replace(request, sampling=replace(request.sampling, stop=(mark,)))):
        _check(mark not in sample.text, lm, f"went on after the stop string {mark!r}: {sample.text!r}")


def _check(holds: bool, lm: LM, what: str) -> None:
    if not holds:
        raise AssertionError(f"{lm.name} {what}")
