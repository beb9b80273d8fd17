"""Laws: the figures that issue 4 asks for, in one run: `python -m benchmarks.laws [--quick]`.

Each row says what was asked, what was measured and whether the target was met. Public tables are read from
../shared/data/law beside the repository; rows that need them are left out where they are not there.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from isoflop.law.base import Law
from isoflop.law.chinchilla import Chinchilla
from isoflop.law.engine import KINDS, Objective, Problem, minimise
from isoflop.law.find import law, names
from isoflop.law.fit import Uncertainty, fit_arrays
from isoflop.law.iso_flop import Profile, approach_2
from isoflop.law.multi_power import MultiPower, warm_up
from isoflop.law.published import published

DATA = Path(__file__).parents[1].parent / "shared" / "data" / "law"
Runs = tuple[str, np.ndarray, np.ndarray]


def table(name: str) -> list[dict[str, str]]:
    path = DATA / name
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def columns(rows: list[dict[str, str]], *wanted: str) -> np.ndarray:
    return np.array([[float(r[c]) for r in rows] for c in wanted])


def chinchilla_sets() -> Iterator[Runs]:
    """The public tables of (N, D, loss) with runs that see each token once."""
    rows = table("kyo_takano_chinchilla_df.csv")
    if rows:
        yield "Chinchilla points (kyo-takano)", columns(rows, "N", "D"), columns(rows, "loss")[0]
    rows = table("gadre_openlm_runs.csv")
    for corpus in sorted({r["dataset"] for r in rows}):
        part = [r for r in rows if r["dataset"] == corpus]
        yield f"open_lm {corpus}", columns(part, "params", "tokens"), columns(part, "loss_c4_val")[0]
    rows = [r for r in table("datablations_c4_runs.csv") if float(r["epochs"]) <= 1]
    if rows:
        yield "datablations, one epoch", columns(rows, "N", "D_total"), columns(rows, "val_loss")[0]
    rows = table("porian_isoflop_points.csv")
    keys = ("dataset", "hparams", "warmup", "decay", "param_count", "val")
    for key in sorted({tuple(r[k] for k in keys) for r in rows}):
        part = [r for r in rows if tuple(r[k] for k in keys) == key]
        yield "Porian " + "/".join(key), columns(part, "n", "tokens"), columns(part, "loss")[0]


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
        begun = time.perf_counter()
        ours = minimise(problem, chosen.starts(x, y, ones), ones).objective
        our_s = time.perf_counter() - begun
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
        begun = time.perf_counter()
        theirs = np.array([minimize(value, s, jac=True, method="L-BFGS-B").fun for s in some])
        their_s = time.perf_counter() - begun
        best = min(ours.min(), theirs.min())
        # SciPy's own stopping rule ends above 1e-9; 1e-4 is generous to it.
        our_n, their_n = int(np.sum(ours <= best * (1 + 1e-9))), int(np.sum(theirs <= best * (1 + 1e-4)))
        each = (1e3 * our_s / max(our_n, 1), 1e3 * their_s / max(their_n, 1))
        lower = "yes" if theirs.min() < ours.min() * (1 - 1e-9) else "no"
        print(
            f"| {name} | {len(ours)}, {our_n} (1e-9), {each[0]:.2f} | {grid_starts}, {their_n} (1e-4), {each[1]:.0f} | "
            f"{each[1] / each[0]:.0f}x | {lower} |"
        )


def bootstraps() -> None:
    print(
        "\n## Full Huber fit + 1000 bootstraps; target: less time than simple-scaling-laws' least squares + 1000 draws"
    )
    name, x, y = next(chinchilla_sets())
    begun = time.perf_counter()
    found = fit_arrays(Chinchilla(), x, y, uncertainty=Uncertainty(draws=1000))
    ours = time.perf_counter() - begun
    print(f"{name}, {len(y)} runs: {ours:.2f} s; alpha SD of the draws {found.draws[:, 3].std():.4f}")
    try:
        importlib.import_module("simple_scaling_laws")
        print("simple-scaling-laws is installed, but no adapter for it is written: not compared")
    except ModuleNotFoundError:
        print("simple-scaling-laws is not installed (it needs Python 3.12): not compared in this run; NOT SHOWN")
    objective = Objective("least_squares")
    chosen, problem, ones = problem_of(x, y, objective)
    weights = np.random.default_rng(0).standard_exponential((1000, len(y)))
    best = minimise(problem, chosen.starts(x, y, ones), ones).theta[:1]
    begun = time.perf_counter()
    minimise(problem, np.repeat(best, 1000, axis=0), weights, tolerance=1e-8)
    print(f"the same 1000 by our least squares: {time.perf_counter() - begun:.2f} s")


def reproduced() -> None:
    print("\n## Published results\n| result | published | ours | difference |\n|---|---|---|---|")

    def row(what: str, theirs: float, ours: float) -> None:
        print(f"| {what} | {theirs:.6g} | {ours:.6g} | {ours - theirs:+.1e} |")

    rows = [r for r in table("gadre_openlm_runs.csv") if r["dataset"] == "rpj"]
    for params, ratio, error in ((1.4e9, 640, 0.007103), (6.9e9, 20, 0.007320)) if rows else ():
        wanted = np.log([params, params * ratio])
        run = min(rows, key=lambda r: float(np.abs(np.log([float(r["params"]), float(r["tokens"])]) - wanted).sum()))
        value = float(published("gadre2024_rpj").value(float(run["params"]), float(run["tokens"])))
        row(f"Gadre: relative error at {params:.2g}, M = {ratio}", error, abs(value / float(run["loss_c4_val"]) - 1))
    optima, keys = table("porian_optima.csv"), ("dataset", "hparams", "warmup", "decay", "param_count", "val")
    for want in (f for f in table("porian_published_fits.csv") if f["fit"] == "weighted"):
        part = [r for r in optima if r["n_star"] and all(r[k] == want[k] for k in keys)]
        c, n, spread = columns(part, "flops", "n_star", "n_star_std")
        profiles = [Profile(float(a), float(b), float(a / 6 / b), 0.0, True) for a, b in zip(c, n)]
        found = approach_2(profiles, spread**-2.0).size_exponent
        row("Porian: exponent, " + "/".join(want[k] for k in keys), float(want["n_exponent"]), found)
    for size, mean in ((25, 0.00376), (100, 0.00435), (400, 0.00484)):
        misses: list[np.ndarray] = []
        rows = table(f"multipowerlaw_curves_{size}M.csv")
        for curve in sorted({r["curve"] for r in rows}):
            part = sorted((int(r["step"]), float(r["lr"]), float(r["loss"])) for r in rows if r["curve"] == curve)
            step, rate, loss = (np.array(v)[::6] for v in zip(*part))
            every, rates = (np.array(v) for v in list(zip(*part))[:2])
            schedule = warm_up(3e-4, 2160, np.interp(np.arange(2161, every.max() + 1), every, rates))
            model = MultiPower((schedule,), stride=10)
            misses.append(
                np.abs(model.value(np.ones(len(step)), step, **published(f"multipower2025_{size}M").values) - loss)
            )
            del rate
        if misses:
            row(
                f"MultiPowerLaw {size}M: mean absolute error, all curves",
                mean,
                float(np.concatenate(misses).mean()),
            )
    one = published("muennighoff2023")
    row("datablations: L(6.34e9, 242e9, U 25e9)", 2.2256440889984477, float(one.value(6.34e9, 242e9, 25e9)))
    row("datablations: L(8.67e9, 178e9, U 25e9)", 2.2269634075087867, float(one.value(8.67e9, 178e9, 25e9)))
    row("Kaplan: L(N = 1e8)", 2.830, float(published("kaplan2020_size").value(1e8)))
    rows = [r for r in table("routed_lm_final.csv") if r["router_type"] in {"Dense", "S-Base"} and r["k"] == "1"]
    if rows:
        x = columns(rows, "dense_parameter_count", "num_experts")
        found = fit_arrays(law("routed"), x, columns(rows, "loss_validation")[0], uncertainty=Uncertainty(draws=0))
        for name, value in zip("abcd", found.theta[:4]):
            row(
                f"routed LMs, S-BASE: {name} (published from memory)",
                published("clark2022_sbase").values[name],
                float(value),
            )
    print("Not reproduced here: R_D* and R_N* from the 182 runs (which those are is not in the table), the OLMo")
    print("ladder's per-task predictions, and the 240 Chinchilla points (no licence, so not in the data).")


def coverage(simulations: int) -> None:
    print(f"\n## 90 % intervals in {simulations} simulated data sets (noise 0.5 %); target: 87-93 %")
    print("| law | runs | least, most of its parameters | prediction |\n|---|---|---|---|")
    missed: list[str] = []
    for name in names():
        if name == "multi_power":
            print("| multi_power | - | not simulated: a schedule makes each fit slow | - |")
            continue
        chosen = law(name)
        x, truth = chosen.example()
        clean, aim = chosen.value(*x, **truth), chosen.objective
        middle = np.exp(np.log(x + 0.01).mean(axis=1, keepdims=True))
        want = chosen.value(*middle, **truth)[0]
        rng = np.random.default_rng(11)
        inside = np.zeros(len(truth) + 1)
        for _ in range(simulations):
            y = aim.inverse(aim.transform(clean) + 0.005 * rng.standard_normal(clean.shape))
            found = fit_arrays(chosen, x, y, uncertainty=Uncertainty(draws=0))
            inside[:-1] += [e.low <= truth[e.name] <= e.high for e in found.parameters()]
            there = found.predict(middle)
            inside[-1] += there.low[0] <= want <= there.high[0]
        share = 100 * inside / simulations
        if share.min() < 87 or share.max() > 93:
            missed.append(name)
        print(
            f"| {name} | {x.shape[1]} | {share[:-1].min():.0f} %, {share[:-1].max():.0f} % | {share[-1]:.0f} % |",
            flush=True,
        )
    noise = 100 * np.sqrt(0.09 / simulations)
    print(f"One standard error of these shares is {noise:.1f} points. Outside 87-93 %: {', '.join(missed) or 'none'}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer starts and simulations")
    parser.add_argument("--only", choices=["starts", "scipy", "bootstraps", "reproduced", "coverage"])
    chosen = parser.parse_args()
    parts: dict[str, Callable[[], None]] = {
        "starts": starts,
        "scipy": lambda: against_scipy(60 if chosen.quick else 300),
        "bootstraps": bootstraps,
        "reproduced": reproduced,
        "coverage": lambda: coverage(60 if chosen.quick else 400),
    }
    for name, part in parts.items():
        if chosen.only in {None, name}:
            if not DATA.exists() and name != "coverage":
                print(f"\n## {name}: skipped, no public tables in {DATA.parent.name}/{DATA.name}")
                continue
            part()


if __name__ == "__main__":
    main()
