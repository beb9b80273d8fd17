"""kill -9 loses nothing that was kept, pays for nothing twice, and changes no record."""

from __future__ import annotations

import random

from benchmarks.crash import survive


def test_a_run_survives_being_killed(tmp_path):
    outcome = survive(4, tmp_path, random.Random(1))
    assert outcome.drawn_again_though_kept == 0
    assert outcome.same_records
    assert outcome.paid_in_ledger == outcome.kept
    assert outcome.most_lost_at_once <= 16  # no more than was in flight
