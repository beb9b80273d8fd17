"""Counting votes."""

from __future__ import annotations

from collections.abc import Sequence

from isoflop.method.search.problem import Candidate, Problem


def tally(problem: Problem, pool: Sequence[Candidate], weights: Sequence[float]) -> list[tuple[str, float]]:
    """The distinct answers with the weight behind each, heaviest first, ties to the one seen first.

    Answers that mean the same share a count under the wording seen first; candidates without an answer do not vote.
    """
    voters = [(c.answer, weight) for c, weight in zip(pool, weights, strict=True) if c.answer is not None]
    totals: dict[int, float] = {}
    for first, (_, weight) in zip(problem.groups([answer for answer, _ in voters]), voters, strict=True):
        totals[first] = totals.get(first, 0.0) + weight
    return sorted(((voters[first][0], total) for first, total in totals.items()), key=lambda entry: -entry[1])
