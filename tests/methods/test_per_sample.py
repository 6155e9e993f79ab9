"""Recipes that say `per_sample`: a step is that of its micro-batches, and of no other recipe is this known."""

import pytest

from pipeline.config import available_methods, recipe_head
from pipeline.engine.objective import Objective
from tests.methods.conftest import batch, build  # noqa: F401  (a fixture)

PER_SAMPLE = [name for name in available_methods() if recipe_head(name).per_sample]


def gradients(objective, batches):
    objective.zero_grad()
    for part in batches:
        (objective(**part, mode="loss")["loss"] / len(batches)).backward()
    return {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}


def differ(objective, batch):  # noqa: F811
    parts = [{key: value.split(2)[part] for key, value in batch.items()} for part in range(4)]
    whole, cut = gradients(objective, [batch]), gradients(objective, parts)
    return max(float((whole[name] - cut[name]).abs().max() / whole[name].abs().max().clamp(min=1e-3)) for name in whole)


@pytest.mark.parametrize("name", PER_SAMPLE)
def test_micro_batches_leave_the_gradients_as_they_are(name, batch):  # noqa: F811
    assert differ(Objective(build(name), seed=0).train(), batch) < 1e-5


def test_where_a_batch_is_drawn_for_or_pooled_they_do_not(batch):  # noqa: F811
    assert "mae" in PER_SAMPLE and not {"clmae", "imae", "mixmask"} & set(PER_SAMPLE)
    assert differ(Objective(build("clmae"), seed=0).train(), batch) > 1e-5
