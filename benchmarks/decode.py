"""SmolLM2 at 15 % more perplexity: the fastest model that `shrink` finds, and how fast it decodes.

    python -m benchmarks.decode [--budget SECONDS]

`isoflop.shrink` looks for it on windows of 128 tokens of plays, with `cast` and `weight_only`: which layers int8 must
leave out, and which bear int4, is for it to find. There are 12 windows a split; 4 of them tell the layers apart, so
that the budget goes to models rather than to their order. Every model that holds the floor on the dev play is then
timed beside the original on single tokens, as in decoding (weights dominate there; our network keeps no cache of keys
and values, which at short contexts costs little), and the fastest that also holds it on the test play is named.

The file's weights, but for the embedding that is the head too, lie on grids of 16 levels in groups of 32, so that int4
in such groups loses nothing here: the speed is true of this file, and nothing is said about 4 bits of another model.
The best without int4 is therefore named apart.

The figure to reach was found by hand on another implementation: 53.1 against 46.2 perplexity (1.149x) at 1.8x speed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from isoflop.cost import Meter
from isoflop.example import prose
from isoflop.method.shrink import Data
from isoflop.run.shrink import shrink
from isoflop.run.shrink.latency import latencies
from isoflop.run.shrink.measure import measure

FLOOR, TARGET_SPEED, TARGET_TIMES = f"{1 / 1.149:.4f}x", 1.8, 1.149
FOLDER = Path(".isoflop") / "bench-decode"


def main() -> None:
    """Search, time, print."""
    torch.set_num_threads(1)
    budget = float(sys.argv[sys.argv.index("--budget") + 1]) if "--budget" in sys.argv else 540.0
    model, task = prose.build(), prose.workload()
    study = shrink(
        model, task, FLOOR, 1e6, f"wall_s={budget}", only=["cast(examples=4)", "weight_only(examples=4)"], folder=FOLDER
    )
    print(study)
    held = [c for c in study.candidates if study.holds(c)]
    if not held:
        print("nothing holds the floor")
        return
    tokens = Data((task.dev.inputs[0][:4, :1],))
    modules = [model, *(c.module() for c in held)]
    found = latencies(modules, tokens, rounds=15, at_most_s=40)[1:]
    base = study.quality(measure(model, task, task.test, Meter()))
    print(f"\n{'model':60} {'perplexity':>10} {'x original':>10} {'decode speed':>22}")
    within: list[tuple[float, str]] = []
    for c, latency in sorted(zip(held, found, strict=True), key=lambda pair: pair[1].ratio.value):
        ends = [1 / x for x in (latency.ratio.value, latency.ratio.high, latency.ratio.low)]
        test = c.test or measure(c.module(), task, task.test, Meter())
        times = base.value / study.quality(test).value
        speed = f"{ends[0]:.2f}x [{ends[1]:.2f}, {ends[2]:.2f}]"
        print(f"{c.name}: {c.note[:45]:45} {1 / study.quality(test).value:10.2f} {times:10.3f} {speed:>22}")
        if latency.trouble:
            print(f"  {latency.trouble}")
        if times <= TARGET_TIMES:
            within.append((ends[0], f"{c.name}: {c.note}"))
    _say("", within)
    _say(" without int4", [(speed, name) for speed, name in within if "weight_only" not in name])


def _say(which: str, within: list[tuple[float, str]]) -> None:
    best, name = max(within, default=(0.0, "nothing"))
    reached = "reached" if best >= TARGET_SPEED else "not reached"
    print(
        f"best within {TARGET_TIMES}x perplexity{which}: {best:.2f}x decode speed; {TARGET_SPEED}x is {reached}: {name}"
    )


if __name__ == "__main__":
    main()
