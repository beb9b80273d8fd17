"""Meters: nothing is spent that was not admitted, and nothing spent goes uncharged."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from isoflop.cost.budget import Budget
from isoflop.cost.vector import FREE, Axis, Cost

Role = Literal["generate", "judge", "verify", "train", "tune", "retry", "cancelled"]
ROLES: tuple[Role, ...] = get_args(Role)


class BudgetExhausted(Exception):  # noqa: N818 - the design's name for it: an outcome, not a fault
    """A budget would be exceeded; raised before anything is spent.

    Args:
        axis: the axis that ran out.
        limit: its limit (in the axis' unit).
        spent: what is charged or reserved already (same unit).
        asked: what was asked on top (same unit; NaN if nobody knows).
    """

    def __init__(self, axis: Axis, limit: float, spent: float, asked: float) -> None:
        self.axis: Axis = axis
        self.limit, self.spent, self.asked = limit, spent, asked
        why = "of unknown cost" if math.isnan(asked) else f"for {asked:g} more"
        super().__init__(
            f"budget {axis}={limit:g} has {max(limit - spent, 0):g} left; refused a call {why}, nothing was spent"
        )


@dataclass(slots=True, eq=False)
class Hold:
    """A reservation: counts against the budget until it is settled with what was really spent."""

    meter: Meter
    estimate: Cost
    shared: bool = False

    def settle(self, actual: Cost, role: Role) -> None:
        """Turn the reservation into a charge of `actual`."""
        self.release()
        self.meter.charge(actual, role, shared=self.shared)

    def release(self) -> None:
        """Give the reservation back; nothing was spent."""
        for meter in self.meter.charged(self.shared):
            meter.reserve(self.estimate, -1)
        self.estimate = FREE


@dataclass(slots=True, eq=False)
class Meter:
    """Counts what is spent under budgets; meters nest.

    `admit` reserves an estimate here and in every meter around this one, or refuses before anything is spent; `charge`
    books what was really spent under its role. With an estimate that is an upper bound a budget is never exceeded; else
    it is exceeded by no more than what was in flight, and `overshoot` says by how much.

    Args:
        budgets: limits of this meter; the meters around it have their own.
        parent: the meter around this one.
        clock: seconds since this meter started; when given, it and not the sum of charges is what `wall_s` budgets see
            (calls in parallel take the time of the longest, not of all).
    """

    budgets: Sequence[Budget] = ()
    parent: Meter | None = None
    clock: Callable[[], float] | None = None
    by_role: dict[Role, Cost] = field(default_factory=dict[Role, Cost])
    _total: Cost = FREE
    _reserved: dict[Axis, float] = field(default_factory=dict[Axis, float])

    @property
    def spent(self) -> Cost:
        """All charges so far; `wall_s` is the clock's where there is one."""
        return self._total if self.clock is None else replace(self._total, wall_s=self.clock())

    def admit(self, estimate: Cost, *, shared: bool = False) -> Hold:
        """Reserve `estimate`, here and in all meters around.

        Args:
            estimate: an upper bound of what the call will spend, as well as one can tell; NaN on an axis that a budget
                limits is refused, since an unknown cost cannot be kept within a limit.
            shared: another meter inside the same parent has paid for this already, so the parent is not asked again.

        Raises:
            BudgetExhausted: it would not fit; nothing was reserved anywhere.
        """
        meters = self.charged(shared)
        for meter in meters:
            meter.refuse_if_over(estimate)
        for meter in meters:
            meter.reserve(estimate)
        return Hold(self, estimate, shared)

    def charge(self, actual: Cost, role: Role, *, shared: bool = False) -> None:
        """Book `actual` under `role`, here and (unless `shared`) in all meters around."""
        for meter in self.charged(shared):
            meter.by_role[role] = meter.by_role.get(role, FREE).then(actual)
            meter._total = meter._total.then(actual)

    def reserve(self, estimate: Cost, sign: int = 1) -> None:
        """Add `estimate` to this meter's own reservations (`sign` -1: take it out), on the axes that it limits."""
        for b in self.budgets:
            self._reserved[b.axis] = self._reserved.get(b.axis, 0.0) + sign * estimate[b.axis]

    def left(self, axis: Axis) -> float:
        """How much may still be admitted on `axis`, here and in all meters around; infinite without a budget."""
        here = min((b.limit - self._used(axis) for b in self.budgets if b.axis == axis), default=math.inf)
        return here if self.parent is None else min(here, self.parent.left(axis))

    def overshoot(self) -> dict[Axis, float]:
        """By how much each budget was exceeded; 0 where it was kept, NaN where nobody knows."""
        spent = self.spent
        over: dict[Axis, float] = {b.axis: spent[b.axis] - b.limit for b in self.budgets}
        return {axis: x if math.isnan(x) else max(x, 0.0) for axis, x in over.items()}

    def refuse_if_over(self, estimate: Cost) -> None:
        """Raise `BudgetExhausted` if `estimate` does not fit this meter's own budgets."""
        for b in self.budgets:
            used = self._used(b.axis)
            if not used + estimate[b.axis] <= b.limit:
                raise BudgetExhausted(b.axis, b.limit, used, estimate[b.axis])

    def _used(self, axis: Axis) -> float:
        if axis == "peak_bytes":
            return 0.0  # memory is given back: only a single call can be too large
        if axis == "wall_s" and self.clock is not None:
            return self.clock()
        return self._total[axis] + self._reserved.get(axis, 0.0)

    def charged(self, shared: bool) -> list[Meter]:
        """The meters a charge reaches: this one and, unless `shared`, all around it."""
        meters: list[Meter] = []
        meter: Meter | None = self
        while meter is not None:
            meters.append(meter)
            meter = None if shared else meter.parent
        return meters
