"""Pictures during training."""

from types import SimpleNamespace

import pytest

from pipeline.engine.hooks import SnapshotHook


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
