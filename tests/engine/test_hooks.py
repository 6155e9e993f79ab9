"""Rates and pictures during training."""

from types import SimpleNamespace

import pytest

from pipeline.engine.hooks import ScheduleHook, SnapshotHook


def drawn(num, steps, start=0):
    taken = []
    hook, runner = SnapshotHook(num, taken.append), SimpleNamespace(max_iters=steps, iter=start)
    hook.before_train(runner)
    for runner.iter in range(start + 1, steps + 1):
        hook.after_train_iter(runner, 0)
    return taken


@pytest.mark.parametrize(
    ("num", "steps", "start", "expected"),
    [(4, 100, 0, [0, 25, 50, 75]), (3, 10, 0, [0, 3, 6]), (4, 100, 50, [75]), (0, 10, 0, []), (4, 2, 0, [0, 1])],
)
def test_snapshots_are_taken_at_equal_distances_once(num, steps, start, expected):
    assert drawn(num, steps, start) == expected


def test_constant_rates_stay_while_others_follow_the_schedule():
    groups = [{"initial_lr": 0.4, "lr": 0.4}, {"initial_lr": 0.2, "lr": 0.2, "constant": True}]
    optimizer = SimpleNamespace(optimizer=SimpleNamespace(param_groups=groups))
    ScheduleHook(lambda step: 0.5**step).before_train_iter(SimpleNamespace(iter=2, optim_wrapper=optimizer), 0)
    assert [group["lr"] for group in groups] == [0.1, 0.2]
