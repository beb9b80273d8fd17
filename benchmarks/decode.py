"""SmolLM2 at 15 % more perplexity: the model that decodes fastest, found by `shrink`.

    python -m benchmarks.decode [--budget SECONDS]

A use is one token here, as when text is written (weights dominate there; our network keeps no cache of keys and values,
which at short contexts costs little), and perplexity is that of windows of 128 tokens of plays. Which layers int8 must
leave out, and which bear int4, is for `shrink` to find, with `cast` and `weight_only`. There are 12 windows a split; 4
of them tell the layers apart, so that the budget goes to models rather than to their order.

The file's weights, but for the embedding that is the head too, lie on grids of 16 levels in groups of 32, so that int4
in such groups loses nothing here: the speed is true of this file, and nothing is said about 4 bits of another model.
The best without int4 is therefore looked for apart.

The figure to reach was found by hand on another implementation: 53.1 against 46.2 perplexity (1.149x) at 1.8x speed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from isoflop.example import prose
from isoflop.run.shrink import shrink

FLOOR, TARGET_SPEED = f"{1 / 1.149:.4f}x", 1.8
FOLDER = Path(".isoflop") / "bench-decode"
WHERE = {"": ["cast(examples=4)", "weight_only(examples=4)"], " without int4": ["cast(examples=4)"]}


def main() -> None:
    """Search, print."""
    torch.set_num_threads(1)
    budget = float(sys.argv[sys.argv.index("--budget") + 1]) if "--budget" in sys.argv else 540.0
    model, task = prose.build(), prose.workload(decode=True)
    for (which, only), share in zip(WHERE.items(), (1, 1.25), strict=True):  # the second finds the first one's work
        study = shrink(model, task, FLOOR, 1e6, f"wall_s={share * budget}", only=only, folder=FOLDER)
        print(study)
        chosen, whole = study.chosen, study.original
        if chosen.test is None or whole.test is None:
            print(f"nothing{which} was verified; give it a larger --budget\n")
            continue
        before, after = (1 / study.quality(c.test).value for c in (whole, chosen))
        took = study.share(chosen, "wall_s")
        reached = "reached" if took.value * TARGET_SPEED <= 1 else "not reached"
        speed = f"{1 / took.value:.2f}x [{1 / took.high:.2f}, {1 / took.low:.2f}] decode speed"
        print(
            f"\nSmolLM2{which}: {after:.1f} against {before:.1f} perplexity on test ({after / before:.3f}x) at "
            f"{speed}; {TARGET_SPEED}x is {reached}: {chosen.name}: {chosen.note}\n"
        )


if __name__ == "__main__":
    main()
