"""Which models there are, what they answer, and what is said where torch is missing."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
import torch

from isoflop.claim import tiny_models
from isoflop.claim.base import CouldNotRunError
from isoflop.model.tiny.weights import names
from isoflop.task.generate import generator

torch.set_num_threads(1)


def test_every_shipped_model_is_found_by_its_task_and_variants_are_others():
    found = [name for task in {n.rpartition("-")[0] for n in names()} for name in tiny_models.shipped(task)]
    assert sorted(found) == sorted(names())
    assert tiny_models.shipped("chain") == [n for n in names() if n.startswith("chain-") and n.count("-") == 1]
    assert tiny_models.shipped("nothing") == []


def test_a_share_is_that_of_the_answers():
    task = generator("automata")
    asked = [task.problem("test", i, 4) for i in range(20)]
    right = [
        task.grade(e, text) for e, text in zip(asked, tiny_models.answers("automata-33k", [e.prompt for e in asked]))
    ]
    assert tiny_models.share_right("automata-33k", task, asked) == sum(right) / 20 > 0.8


def test_where_torch_is_missing_a_claim_says_what_to_install(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(CouldNotRunError, match=r"needs torch: pip install 'isoflop\[tiny\]'"):
        tiny_models.answers("automata-33k", ["0ab:"])


def test_claims_are_listed_without_torch():
    code = "import sys; sys.modules['torch'] = None; from isoflop.claim import claims; print(len(claims()))"
    listed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(listed.stdout) >= 5
