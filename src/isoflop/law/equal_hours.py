"""Equal accelerator hours: how many steps two designs get for the same time on the same device."""

from __future__ import annotations


def steps_in(hours: float, tokens_per_s: float, batch: int, sequence: int) -> int:
    """Training steps that fit into some accelerator hours at a measured throughput, rounded to the nearest.

    Comparing designs at equal hours instead of equal steps or FLOPs charges each for how well it uses the device
    (Stanic et al. 2023, The Languini Kitchen, arXiv 2309.11197).

    >>> steps_in(6, 55416, 128, 512)
    18265
    """
    if min(hours, tokens_per_s, batch, sequence) <= 0:
        raise ValueError("hours, throughput, batch and sequence length must be positive")
    return round(tokens_per_s * 3600 * hours / (batch * sequence))
