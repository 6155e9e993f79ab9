from itertools import chain

import pytest

from pipeline.engine.sampler import GlobalBatches


def steps(world=1, accumulate=1, start=0, num=64, batch=16, total=10, seed=0):
    """Samples of each step over all ranks, sorted within the step."""
    ranks = []
    for rank in range(world):
        sampler = GlobalBatches(num, batch, total, accumulate, rank, world, seed)
        sampler.start = start
        micro = list(sampler)
        assert len(micro) == len(sampler) == (total - start) * accumulate
        ranks.append([list(chain(*micro[i : i + accumulate])) for i in range(0, len(micro), accumulate)])
    return [sorted(chain(*parts)) for parts in zip(*ranks, strict=True)]


def test_an_epoch_sees_every_sample_once():
    assert sorted(index for step in steps()[:4] for _, index in step) == list(range(64))


def test_the_incomplete_batch_is_dropped():
    seen = [index for step in steps(num=70)[:4] for _, index in step]
    assert len(set(seen)) == 64


def test_epochs_and_seeds_differ_in_order():
    first, second = steps()[0], steps()[4]
    assert {index for _, index in first} != {index for _, index in second}
    assert steps() != steps(seed=1)


@pytest.mark.parametrize(("world", "accumulate"), [(2, 1), (1, 4), (2, 2), (4, 4)])
def test_ranks_and_micro_batches_share_out_the_same_steps(world, accumulate):
    assert steps(world, accumulate) == steps()


@pytest.mark.parametrize("start", [1, 4, 7])
def test_a_later_start_goes_on_in_the_same_order(start):
    assert steps(start=start) == steps()[start:]
