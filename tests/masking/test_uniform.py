import pytest
import torch

from pipeline.masking.uniform import keep, masking_of, mean_over, num_visible, uniform_mask


@pytest.mark.parametrize(
    ("ratio", "visible"),
    zip((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9), (176, 156, 137, 117, 98, 78, 58, 49, 39, 19), strict=True),
)
def test_visible_patches_of_196(ratio, visible):
    assert num_visible(196, ratio) == visible


def test_smallest_noise_stays_visible():
    noise = torch.tensor([[0.9, 0.1, 0.5, 0.3]])
    masking = uniform_mask(noise, 0.5)
    assert masking.mask.tolist() == [[True, False, True, False]]
    assert masking.visible.tolist() == [[1, 3]]


def test_restore_undoes_the_shuffle():
    noise = torch.rand(3, 20)
    masking = uniform_mask(noise, 0.7)
    tokens = torch.randn(3, 20, 2)
    hidden = noise.argsort(dim=1)[:, masking.visible.shape[1] :]
    shuffled = torch.cat([keep(tokens, masking.visible), keep(tokens, hidden)], dim=1)
    assert torch.equal(keep(shuffled, masking.restore), tokens)


def test_every_image_hides_its_own_patches_equally_often():
    mask = uniform_mask(torch.rand(4000, 16), 0.75).mask
    assert (mask.sum(dim=1) == 12).all()
    assert (mask.float().mean(dim=0) - 0.75).abs().max() < 0.03


@pytest.mark.parametrize("ratio", [0.0, 0.99])
def test_a_ratio_that_leaves_nothing_is_refused(ratio):
    with pytest.raises(ValueError, match="at least one visible and one hidden"):
        uniform_mask(torch.rand(1, 16), ratio)


def test_mean_over_counts_masked_values_only():
    values, mask = torch.tensor([[1.0, 100.0], [3.0, 5.0]]), torch.tensor([[True, False], [True, True]])
    assert mean_over(values, mask).item() == 3.0


def test_masks_made_elsewhere_are_walked_through_alike():
    torch.manual_seed(0)
    ours = uniform_mask(torch.rand(5, 16), 0.6)
    again = masking_of(ours.mask, int(ours.mask[0].sum()))
    tokens = torch.arange(16.0).expand(5, 16)[..., None]
    for masking in (ours, again):
        seen = keep(tokens, masking.visible)[..., 0].sort(dim=1).values
        for image in range(5):
            assert seen[image].tolist() == (~ours.mask[image]).nonzero()[:, 0].tolist()
        shuffled = torch.cat([masking.visible, masking.mask.nonzero()[:, 1].view(5, -1)], dim=1).float()
        restored = shuffled.gather(1, masking.restore)
        assert torch.equal(restored[~ours.mask], tokens[..., 0][~ours.mask]), "visible patches return to their places"
