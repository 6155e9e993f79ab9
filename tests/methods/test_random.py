import torch

from tests.methods.conftest import build


def test_random_is_mae_before_its_first_step():
    random, mae = build("random").exported(), build("mae").exported()
    assert all(torch.equal(value, mae.state_dict()[key]) for key, value in random.state_dict().items())
