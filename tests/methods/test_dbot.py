"""dBOT against a slow rewrite, image by image and token by token, and the order in which a stage is built."""

import math

import pytest
import torch

from pipeline.config import ConfigError, Duration
from pipeline.engine.pretrain import BEGINNING
from pipeline.engine.runner import seed_everything
from pipeline.engine.schedules import warmup_cosine
from pipeline.engine.teachers import PublishedRun
from pipeline.masking.blockwise import blockwise_mask, num_draws
from pipeline.methods import build_method
from pipeline.nn.encoders import save_encoder
from pipeline.nn.families.beit import STD
from tests.methods import recipe, slow
from tests.methods.conftest import build, context

SYMMETRIC = {"model": "beit_micro", "symmetric": True, "loss": "cosine", "norm_target": "none", "mask_ratio": 0.4,
             "predict_class_token": False, "teacher_output": "normed"}  # fmt: skip


def teacher_tokens(method, image):
    """(1 + L, T), as the teacher's last block leaves them."""
    state = method.teacher.encoder.state_dict()
    return slow.blocks(slow.with_class_token(slow.embedded(image, state, ""), state, ""), state, "", 4)


def slow_dbot(method, images, noise):
    """Loss and prediction of the released code's description, one image at a time."""
    state, options = method.state_dict(), method.options
    predictions, total, count = [], 0.0, 0
    for image, draws in zip(images, noise, strict=True):
        target = [slow.standardised(token) for token in teacher_tokens(method, image)]
        visible = slow.smallest(draws, int(16 * (1 - options.mask_ratio)))
        x = slow.encoded(slow.embedded(image, state)[visible], state, 4)
        x = slow.decoded(slow.linear(x, state, "decoder.embed"), visible, 16, state, options.decoder_heads)
        predictions.append(x[1:])
        for place in range(17):
            if (place == 0 and options.predict_class_token) or (place > 0 and place - 1 not in visible):
                total += slow.smooth_l1(x[place], target[place], options.beta)
                count += 1
    return total / count, torch.stack(predictions)


@pytest.mark.parametrize("predict_class_token", [True, False])
@pytest.mark.parametrize("beta", [2.0, 0.5])
def test_loss_and_prediction_equal_a_slow_rewrite(predict_class_token, beta):
    method = build("dbot", predict_class_token=predict_class_token, beta=beta, decoder_depth=2).eval()
    slow.shake(method)
    images, noise = torch.randn(2, 3, 16, 16), torch.rand(2, 16)
    with torch.no_grad():
        step = method(images, noise)
        loss, prediction = slow_dbot(method, images, noise)
    assert step.loss.item() == pytest.approx(loss, rel=1e-5)
    assert torch.allclose(step.prediction, prediction, atol=1e-5)


def test_the_symmetric_variant_equals_a_slow_rewrite():
    method = slow.shake(build("dbot", **SYMMETRIC).eval())
    grid, state = (4, 4), method.state_dict()
    images, noise = torch.randn(2, 3, 16, 16), torch.rand(2, num_draws((4, 4)))
    with torch.no_grad():
        step = method(images, noise)
    assert torch.equal(step.mask, blockwise_mask(noise, grid, 6, 2))  # int(0.4 · 16)
    errors = []
    for image, mask, prediction in zip(images, step.mask, step.prediction, strict=True):
        x = slow.linear(slow.beit(image, state, grid, 4, mask, state["mask_token"]), state, "head")[1:]
        assert torch.allclose(prediction, x, atol=1e-5)
        target = slow.norm(teacher_tokens(method, image), method.teacher.encoder.state_dict(), "norm")[1:]
        for patch in mask.nonzero()[:, 0]:
            errors.append(1 - (x[patch] @ target[patch]) / (x[patch].norm() * target[patch].norm()))
    assert step.loss.item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-5)


@pytest.mark.parametrize(
    "model, num_patches", [("beit_base", 14 * 14), ("beit_large", 14 * 14), ("beit_huge", 16 * 16)]
)
def test_the_symmetric_variant_hides_78_patches_of_any_number(model, num_patches):
    options = recipe("dbot", "paper")["by_model"][model]["options"]
    assert options["symmetric"] and int(options["mask_ratio"] * num_patches) == 78


def test_the_symmetric_variant_begins_as_its_encoder_does():
    method = build("dbot", **SYMMETRIC)
    for weight in (method.mask_token, method.head.weight):
        assert 0.8 * STD < weight.abs().max() <= STD
    assert method.head.bias.abs().max() == 0


def test_the_loss_looks_at_hidden_patches_and_the_class_token():
    method, images, noise = build("dbot"), torch.randn(2, 3, 16, 16), torch.rand(2, 16)
    prediction, mask = method.predict(images, noise)
    prediction = prediction.detach().requires_grad_()
    method.predict = lambda images, noise: (prediction, mask)
    (gradient,) = torch.autograd.grad(method(images, noise).loss, prediction)
    assert gradient[:, 1:][~mask].abs().max() == 0
    assert (gradient[:, 1:][mask].abs().amax(dim=1) > 0).all() and (gradient[:, 0].abs().amax(dim=1) > 0).all()


def test_a_teacher_without_blocks_gives_the_normalised_embedding():
    method, images = build("dbot", teacher_depth=0), torch.randn(2, 3, 16, 16)
    for block in method.teacher.encoder.blocks:
        for parameter in block.parameters():
            parameter.fill_(math.nan)
    target = method(images, torch.rand(2, 16)).target
    for image, tokens in zip(images, target, strict=True):
        embedded = slow.embedded(image, method.teacher.encoder.state_dict(), "")
        assert torch.allclose(tokens, torch.stack([slow.standardised(token) for token in embedded]), atol=1e-4)
    token = method.teacher(images)[:, 0]
    assert torch.equal(token[0], token[1])  # the same for every image


def test_the_first_teacher_is_the_student_before_its_first_step(tmp_path):
    """A `random` run and a `dbot` run of one seed, each built as pretraining does."""

    def built(name, teacher=None, seed=3, **train):
        settings = recipe(name)
        settings.setdefault("train", {}).update(train)
        seed_everything(seed, BEGINNING, rank=0)
        return build_method(settings, context(teacher=teacher))

    save_encoder(built("random").exported(), tmp_path / "encoder.safetensors")
    teacher = PublishedRun(tmp_path / "encoder.safetensors", num_classes=4)
    method = built("dbot", teacher, drop_path=0.2)
    student, taught = method.encoder.state_dict(), method.teacher.encoder.state_dict()
    assert student.keys() == taught.keys()
    assert all(torch.equal(value, taught[name]) for name, value in student.items())
    other = built("dbot", teacher, seed=4).encoder.state_dict()
    assert not torch.equal(other["blocks.0.attn.qkv.weight"], taught["blocks.0.attn.qkv.weight"])


def test_the_bias_of_the_patches_is_inherited_if_wanted():
    for wanted in (True, False):
        method = build("dbot", inherit_patch_bias=wanted)
        biases = [encoder.patch_embed.proj.bias for encoder in (method.encoder, method.teacher.encoder)]
        assert torch.equal(*biases) == wanted


def test_the_teacher_stays_as_it_is():
    method = build("dbot").train()
    before = {name: value.clone() for name, value in method.teacher.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.1)
    method(torch.randn(4, 3, 16, 16), torch.rand(4, 16)).loss.backward()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in method.teacher.state_dict().items())
    assert not method.teacher.training and not any(p.requires_grad for p in method.teacher.parameters())


def test_drop_path_rises_over_the_decoder_too():
    blocks = build("dbot", decoder_drop_path=0.2, decoder_depth=3).decoder.blocks
    assert [getattr(block.drop_path1, "drop_prob", 0.0) for block in blocks] == pytest.approx([0, 0.1, 0.2])


# Of the released code: ViT-B as a whole, decoders of ViT-L and ViT-H.
@pytest.mark.parametrize(
    "model, part, count",
    [("vit_base", None, 111_907_840), ("vit_large", "decoder", 26_371_584), ("vit_huge", "decoder", 26_664_704)],
)
def test_paper_sizes(model, part, count):
    with torch.device("meta"):
        method = build_method({**recipe("dbot", "paper"), "model": model}, context())
    counted = getattr(method, part) if part else method
    assert sum(parameter.numel() for parameter in counted.parameters()) == count


def test_every_stage_warms_up_from_zero():
    train = recipe("dbot", "paper")["train"]
    steps, warmup = (
        Duration.parse(train[name], name).steps(1_281_167, train["batch_size"]) for name in ("duration", "warmup")
    )
    schedule = warmup_cosine(steps, warmup, final=0.0)
    assert schedule(0) == 0 and schedule(warmup) == 1 and warmup == steps // 20


def test_layer_scale_starts_where_the_recipe_says():
    method = build("dbot", **SYMMETRIC, layer_scale=0.25)
    for block in method.encoder.blocks:
        assert (block.gamma_1 == 0.25).all() and (block.gamma_2 == 0.25).all()
    assert (build("dbot", **SYMMETRIC).encoder.blocks[0].gamma_1 == 0.1).all()  # the model's own
    with pytest.raises(ConfigError, match=r"layer_scale is 0\.25, and vit_micro has none; set it to null"):
        build("dbot", layer_scale=0.25)


@pytest.mark.parametrize("model, layer_scale, ratio", [("base", 0.1, 0.4), ("large", 0.1, 0.4), ("huge", 0.1, 0.305)])
def test_students_of_clip_have_the_released_settings_at_every_size(model, layer_scale, ratio):
    paper = recipe("dbot", "paper")
    overlay = paper["by_model"][f"beit_{model}"]
    options, train = paper["options"] | overlay["options"], paper["train"] | overlay["train"]
    assert (options["layer_scale"], options["mask_ratio"]) == (layer_scale, ratio)
    assert (train["eps"], train["no_decay"], train["betas"]) == (1e-6, ["cls_token"], [0.9, 0.98])
    assert paper["options"]["layer_scale"] is None and paper["train"]["no_decay"] == []
