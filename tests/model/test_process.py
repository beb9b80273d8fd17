"""A value head as a judge: what it tells, what it costs, and who pays."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import torch

from isoflop.cost import AXES, Budget, BudgetExhausted, Meter
from isoflop.method.search.asked import Asked
from isoflop.method.search.best_of_n import BestOfN
from isoflop.method.search.value.process import Process as Steps
from isoflop.model.base import ModelError, Request, Sampling, ask_directly
from isoflop.model.load import load
from isoflop.model.process import Process
from isoflop.model.tiny.train import Recipe, train
from isoflop.model.tiny.value import open_values, ship_values, valued
from isoflop.model.tiny.weights import names, write
from isoflop.task import Questions
from isoflop.task.generate import generator

torch.set_num_threads(1)
TEXT = "20 30>50:20+30=50 "


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    task, folder = generator("countdown"), tmp_path_factory.mktemp("mine")
    decoder = train(task, 9e3, 3e9, 0, tmp_path_factory.mktemp("t"), Recipe(rows=16)).decoder
    name = write(decoder, task.name, folder)
    (folder / f"{name}.md").write_text("# the card\n")
    ship_values(name, task, folder, problems=20)
    return folder


def test_it_tells_what_the_head_tells_for_what_the_head_costs(folder):
    judge = load(f"process:{folder}")
    (name,) = names(folder)
    (values,), cost = open_values(name, folder).of("20 30>50:", ["20+30=50 20+30=50 "])
    (sample,) = judge.sample(Request(TEXT + "20+30=50 ", (7,)))
    assert sample.text == " ".join(f"{v:.4f}" for v in values)
    assert len(values) == 2
    assert (sample.cost.flops, sample.cost.tokens_in, sample.cost.tokens_out) == (cost.flops, 27, 0)
    assert sample.cost.wall_s > 0
    assert sample.cost.joules > 0
    estimate = judge.estimate(Request(TEXT + "20+30=50 ", (7, 8)))
    assert estimate.tokens_in == 2 * cost.tokens_in
    assert 2 * cost.flops < estimate.flops < 3 * cost.flops
    assert not np.isnan([cost[axis] for axis in AXES]).any()


def test_every_seed_and_every_caller_gets_the_same(folder):
    judge = load(f"process:{folder}")
    found = []

    async def calls():
        await asyncio.gather(
            *(judge.generate(Request(TEXT, (i, i + 9)), lambda _, s: found.append(s.text)) for i in range(3))
        )

    asyncio.run(calls())
    assert len(found) == 6
    assert len(set(found)) == 1


def test_a_search_pays_for_it_under_the_role_judge(folder):
    (name,) = names(folder)
    lm, judge = load(f"tiny:{folder}/{name}"), load(f"process:{folder}")
    task = Asked(Questions.load("countdown"), lm, judge, Sampling(64))
    meter = Meter()
    problem = task.open(task.keys("test")[0], meter, ask_directly, 0)
    pool = []

    def extract(text):  # also what is no solution has a value
        pool.append(text)
        return text

    problem.extract = extract
    *_, answer = BestOfN(n=8, batch=4, value=Steps()).run(problem, meter, np.random.default_rng(0))
    asked = len(problem.prompt)
    assert len(pool) == 8  # all finished
    batches = set(pool[:4]), set(pool[4:])
    assert meter.by_role["judge"].tokens_in == sum(asked + len(text) for batch in batches for text in batch)
    assert meter.by_role["judge"].tokens_out == 0
    assert meter.by_role["judge"].flops > 0
    values = open_values(name, folder).of(problem.prompt, pool)[0]
    best = max(range(8), key=lambda i: round(values[i][-1], 4) if values[i] else 0.0)
    assert answer.text == pool[best]


def test_a_judgement_that_does_not_fit_the_budget_is_not_made(folder):
    meter = Meter([Budget("flops", 1e3)])
    with pytest.raises(BudgetExhausted):
        ask_directly(load(f"process:{folder}"), Request(TEXT, (0,)), "judge", meter)
    assert meter.spent.flops == 0


@pytest.mark.parametrize("prompt", ["no question", "1" * 40 + ":", "20 30>50:" + "2" * 400, "20 xy>50:"])
def test_what_it_cannot_read_is_refused_before_anything_is_spent(folder, prompt):
    judge = load(f"process:{folder}")
    with pytest.raises(ModelError, match="judges at most 18 characters|cannot read"):
        judge.estimate(Request(prompt, (0,)))


def test_names_are_those_that_have_a_head(folder):
    assert set(Process.known()) == set(valued()) <= set(names())
    assert valued(folder) == names(folder)
    with pytest.raises(ValueError, match="there is no tiny model 'chain-1k'"):
        load("process:chain-1k")
