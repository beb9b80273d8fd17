"""Digits that become noisy at the edge: which uploads does the cloud need to follow?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from isoflop.claim.base import Finding, Size
from isoflop.claim.early.cbnet import noisy
from isoflop.claim.early.compare import digit_reader, point, smaller_reader
from isoflop.cost import Meter
from isoflop.example import digits
from isoflop.method.conditional.cema import Cema
from isoflop.method.shrink import Data, Original, Workload

_EQUAL = 0.01  # of accuracy
_UPLOADS = 0.4  # of the stream: 60 % fewer
_WIDTH = 0.5  # of the edge's channels


def findings(size: Size) -> list[Finding]:
    """Compare selected uploads with all, as many drawn by lot, no adaptation, and a network trained anew."""
    _, clean = digit_reader()
    shifted = noisy(clean, 0.35)
    epochs = 2 if size == "quick" else 8
    both = Data(
        (torch.cat([clean.calibration.inputs[0], shifted.calibration.inputs[0]]),),
        torch.cat([_labels(clean.calibration), _labels(shifted.calibration)]),
    )
    cloud = digits.trained(digits.network(), both, epochs)
    edge = smaller_reader(_WIDTH, clean.calibration, epochs * 1e12)
    images = shifted.calibration.inputs[0][: 1000 if size == "quick" else 3000]
    work = replace(shifted, calibration=Data((images,)), batch=50)
    chosen = _adapted(Cema(), edge, cloud, work)
    everything = _adapted(Cema(low=0.0, high=1.0, shrinking=False), edge, cloud, work)
    share = chosen[1]
    rows = np.random.default_rng(1).permutation(len(images))[: max(50, round(share * len(images)))]
    lot_work = replace(work, calibration=Data((images[torch.as_tensor(rows)],)))
    lot = _adapted(Cema(low=0.0, high=1.0, shrinking=False), edge, cloud, lot_work)
    before = point(edge, work, work.test, 2).quality
    with torch.no_grad():
        sent = lot_work.calibration
        told = replace(sent, targets=torch.cat([cloud(*part.inputs).argmax(1) for part in sent.batches(50)]))
    anew = point(smaller_reader(_WIDTH, told, chosen[2]), work, work.test, 2).quality
    return [
        Finding(
            f"at accuracy within {_EQUAL} of uploading everything, uploads fall by 60 %",
            share <= _UPLOADS and chosen[0] >= everything[0] - _EQUAL,
            {
                "accuracy before": before,
                "selected": chosen[0],
                "everything": everything[0],
                "cloud": point(cloud, work, work.test, 2).quality,
                "share uploaded": round(share, 3),
                "FLOPs once, selected and everything": [chosen[2], everything[2]],
                "bytes once, selected and everything": [chosen[3], everything[3]],
            },
        ),
        Finding(
            "forward passes at the edge and a teacher recover from the shift",
            chosen[0] > before,
            {"accuracy before": before, "accuracy after": chosen[0]},
        ),
        Finding(
            "selection is better than as many uploads drawn by lot",
            chosen[0] > lot[0],
            {"selected": chosen[0], "by lot": lot[0]},
        ),
        Finding(
            "it is better than the edge's network trained anew on as many uploads for the same FLOPs",
            chosen[0] > anew,
            {"selected": chosen[0], "anew": anew},
        ),
    ]


def _labels(data: Data) -> torch.Tensor:
    assert data.targets is not None
    return data.targets


def _adapted(method: Cema, edge: nn.Module, cloud: nn.Module, work: Workload) -> tuple[float, float, float, float]:
    """Accuracy on test images, the share uploaded, and FLOPs and bytes spent once."""
    meter = Meter()
    *_, last = method.run(Original(edge, work, meter, cloud), meter, np.random.default_rng(0))
    share = float(last.note.split("%")[0].split()[-1]) / 100
    quality = point(last.module, work, work.test, 1).quality
    return quality, share, meter.spent.flops, meter.spent.bytes_moved
