"""Grades answers beside the run, off the meter."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from isoflop.method.base import Task


class Grades:
    """Scores by task, problem and words, each distinct answer graded once.

    Args:
        workers: answers graded at the same time (count); a grader that runs programs does so in processes of its own.
    """

    def __init__(self, workers: int) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="grade")
        self._scores: dict[tuple[str, str, str], float | Exception] = {}
        self._wanted: dict[tuple[str, str, str], tuple[Task[Any, Any], str, Any]] = {}

    def want(self, task: Task[Any, Any], key: str, answer: Any) -> None:
        """Have `answer` graded by the next `settle`."""
        name = (task.digest, key, task.describe(answer)[0])
        if name not in self._scores:
            self._wanted[name] = (task, key, answer)

    def settle(self) -> None:
        """Grade all that is wanted; blocks."""
        wanted, self._wanted = self._wanted, {}
        for name, score in zip(wanted, self._pool.map(_score, wanted.values()), strict=True):
            self._scores[name] = score

    def of(self, task: Task[Any, Any], key: str, words: str) -> float | Exception:
        """The score of an answer by its words, or what went wrong in grading it."""
        return self._scores[task.digest, key, words]

    def close(self) -> None:
        """End the workers."""
        self._pool.shutdown()


def _score(wanted: tuple[Task[Any, Any], str, Any]) -> float | Exception:
    task, key, answer = wanted
    try:
        return task.score(key, answer)
    except Exception as error:  # a grader's fault is a verdict of its own: neither right nor wrong
        return error


def right(scores: Iterable[float | Exception]) -> tuple[int, int]:
    """How many were graded, and how many of them were right (a score of 1); faults of the grader do not count."""
    graded = [s for s in scores if not isinstance(s, Exception)]
    return len(graded), sum(s >= 1.0 for s in graded)
