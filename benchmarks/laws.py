"""Laws: the figures that issue 4 asks for, in one run: `python -m benchmarks.laws [--quick | --full]`.

Some five minutes on a quiet machine; `--only PART` makes one table. Coverage is measured in 800 simulated data sets a
law, `--full` in 2000.

Each table says what was asked, what was measured and the target. Public tables are read from where
`claim.public_runs` looks; what needs them is left out where they are not. The peer is `simple-scaling-laws`, which says
that it needs Python 3.12 but runs on 3.11: `pip install --ignore-requires-python simple-scaling-laws==0.2.0`.
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize

from benchmarks.law_coverage import SIMULATED, coverage
from benchmarks.law_data import chinchilla_sets
from benchmarks.law_malformed import malformed
from benchmarks.law_published import reproduced
from isoflop.law.base import Law
from isoflop.law.chinchilla import Chinchilla
from isoflop.law.engine import KINDS, Objective, Problem, minimise
from isoflop.law.fit import Uncertainty, fit_arrays


def problem_of(x: np.ndarray, y: np.ndarray, objective: Objective) -> tuple[Law, Problem, np.ndarray]:
    chosen = Chinchilla()
    problem = Problem(lambda theta: chosen.model(x, theta), objective.transform(y), objective, *chosen.bounds())
    return chosen, problem, np.ones(len(y))


def starts() -> None:
    print("\n## Starts of the default set that reach the best objective (relative 1e-9); target: all")
    print("| objective | data sets | starts | reached | sets where all do |\n|---|---|---|---|---|")
    for kind in KINDS:
        reached, total, whole, sets = 0, 0, 0, 0
        for _, x, y in chinchilla_sets():
            chosen, problem, ones = problem_of(x, y, Objective(kind))
            found = minimise(problem, chosen.starts(x, y, ones), ones).objective
            good = int(np.sum(found <= found.min() * (1 + 1e-9)))
            reached, total, whole, sets = reached + good, total + len(found), whole + (good == len(found)), sets + 1
        print(f"| {kind} | {sets} | {total} | {reached} | {whole} of {sets} |")


def against_scipy(grid_starts: int) -> None:
    print("\n## Time per successful fit against SciPy L-BFGS-B, analytic gradient, Hoffmann's grid; target: 25x less")
    print("| data | ours: starts, reached, ms a success | SciPy: the same | ratio | SciPy lower? |")
    print("|---|---|---|---|---|")
    for name, x, y in list(chinchilla_sets())[:5]:
        objective = Objective()
        chosen, problem, ones = problem_of(x, y, objective)
        ours, our_s = fastest(lambda p=problem, c=chosen, x=x, y=y, o=ones: minimise(p, c.starts(x, y, o), o).objective)
        log_n, log_d, target = np.log(x[0]), np.log(x[1]), np.log(y)

        def value(theta: np.ndarray, n: np.ndarray = log_n, d: np.ndarray = log_d, t: np.ndarray = target):
            a, b, e, alpha, beta = theta
            terms = np.stack([a - alpha * n, b - beta * d, np.full(len(n), e)])
            top = terms.max(axis=0)
            share = np.exp(terms - top)
            total = share.sum(axis=0)
            r = top + np.log(total) - t
            share /= total
            pull = np.clip(r, -1e-3, 1e-3)
            size = np.abs(r)
            loss = np.where(size <= 1e-3, 0.5 * r * r, 1e-3 * (size - 0.5e-3)).sum()
            sums = share @ pull
            return loss, np.array([*sums, -(share[0] * pull) @ n, -(share[1] * pull) @ d])

        # Hoffmann et al.'s grid: 6 x 6 x 5 x 5 x 5 = 4500 starts.
        axes = (
            np.arange(0, 26, 5),
            np.arange(0, 26, 5),
            np.arange(-1, 1.1, 0.5),
            np.arange(0, 2.1, 0.5),
            np.arange(0, 2.1, 0.5),
        )
        every = np.stack([v.ravel() for v in np.meshgrid(*axes)], axis=1)
        some = every[np.random.default_rng(0).choice(len(every), grid_starts, replace=False)]
        theirs, their_s = fastest(
            lambda v=value, every=some: np.array([minimize(v, s, jac=True, method="L-BFGS-B").fun for s in every])
        )
        best = min(ours.min(), theirs.min())
        # SciPy's own stopping rule ends above 1e-9; 1e-4 is generous to it.
        our_n, their_n = int(np.sum(ours <= best * (1 + 1e-9))), int(np.sum(theirs <= best * (1 + 1e-4)))
        each = (1e3 * our_s / max(our_n, 1), 1e3 * their_s / max(their_n, 1))
        lower = "yes" if theirs.min() < ours.min() * (1 - 1e-9) else "no"
        print(
            f"| {name} | {len(ours)}, {our_n} (1e-9), {each[0]:.2f} | {grid_starts}, {their_n} (1e-4), {each[1]:.0f} | "
            f"{each[1] / each[0]:.0f}x | {lower} |"
        )


def fastest(run: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    """What it gives, and the least of three times (seconds): a busy machine, or a cold start, only ever adds."""
    took: list[float] = []
    found = np.empty(0)
    for _ in range(3):
        begun = time.perf_counter()
        found = run()
        took.append(time.perf_counter() - begun)
    return found, min(took)


def bootstraps() -> None:
    """Interleaved, the best of three each: a busy machine only ever adds time."""
    print("\n## Full Huber fit + 1000 bootstraps against simple-scaling-laws, least squares + 1000 draws; target: less")
    try:
        peer: Any = importlib.import_module("simple_scaling_laws")
        frames: Any = importlib.import_module("polars")
    except ModuleNotFoundError:
        print("simple-scaling-laws is not installed: not compared in this run; NOT SHOWN")
        return
    print("| data | runs | ours, Huber 1e-3 (s) | theirs, least squares (s) | ratio | alpha, SD | theirs |")
    print("|---|---|---|---|---|---|---|")
    for name, x, y in list(chinchilla_sets())[:4]:
        runs = [f"r{i}" for i in range(len(y))]
        table = {"training_run_id": runs, "model_size__n": x[0], "dataset_size__d": x[1], "test_loss__l": y}
        frame = frames.DataFrame(table)
        took: dict[str, list[float]] = {"ours": [], "theirs": []}
        ours: Any = None
        theirs: Any = None
        for _ in range(3):
            begun = time.perf_counter()
            ours = fit_arrays(Chinchilla(), x, y, uncertainty=Uncertainty(draws=1000))
            took["ours"].append(time.perf_counter() - begun)
            begun = time.perf_counter()
            theirs = peer.fit(frame, n_draws=1000)
            took["theirs"].append(time.perf_counter() - begun)
        own, other = min(took["ours"]), min(took["theirs"])
        print(
            f"| {name} | {len(y)} | {own:.2f} | {other:.2f} | {other / own:.1f}x | {ours.theta[3]:.4f}, "
            f"{ours.draws[:, 3].std():.4f} | {theirs.params('test_loss__l')['alpha']:.4f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="fewer starts of SciPy, fewer simulations")
    size.add_argument("--full", action="store_true", help="more simulations, of schedules by profile too")
    parts: dict[str, Callable[[argparse.Namespace], None]] = {
        "starts": lambda _: starts(),
        "scipy": lambda asked: against_scipy(60 if asked.quick else 300),
        "bootstraps": lambda _: bootstraps(),
        "reproduced": lambda _: reproduced(),
        "malformed": lambda _: malformed(),
        "coverage": lambda asked: coverage(SIMULATED["quick" if asked.quick else "full" if asked.full else "usual"]),
    }
    parser.add_argument("--only", choices=parts, nargs="+", default=list(parts))
    chosen = parser.parse_args()
    begun = time.perf_counter()
    for name in chosen.only:
        if name not in {"coverage", "malformed"} and not any(True for _ in chinchilla_sets()):
            print(f"\n## {name}: skipped, no public tables here")
            continue
        parts[name](chosen)
    print(f"\n{time.perf_counter() - begun:.0f} s in all")


if __name__ == "__main__":
    main()
