"""Two laws one after the other: task metric from loss, loss from compute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from isoflop.law.fitted import Fit, Prediction


@dataclass(frozen=True)
class TwoStep:
    """Task metric from the inputs of a loss law (Gadre et al. 2024; Bhagia et al. 2024).

    The interval carries both steps: each draw of the loss goes through its own draw of the second law. It takes the
    errors of the steps as independent, which they are not where the same runs fitted both.

    Args:
        loss: first step.
        metric: second step, a law of one input, the loss.
    """

    loss: Fit
    metric: Fit

    def predict(self, inputs: Mapping[str, ArrayLike] | ArrayLike, level: float = 0.9) -> Prediction:
        """The metric expected at the inputs of the first law."""
        x, shape = self.loss.inputs(inputs)
        value = self.metric.predict(self.loss.predict(x).value[None]).value
        # In another order, as the same normal draws made both.
        losses, thetas = self.loss.outputs(x), self.metric.draws_of()[::-1]
        count = min(len(losses), len(thetas))
        spread = np.stack([self.metric.law.model(loss[None], t[None])[0][0] for loss, t in zip(losses, thetas[:count])])
        low, high = self.metric.ends(spread, value, level)
        parts = (value, low, high, self.loss.beyond(x))
        return Prediction(*(v.reshape(shape) for v in parts))
