"""Released checkpoints in their authors' layouts: run under their own names by a slow rewrite, and after import."""

import argparse
import os
import random
from unittest import mock

import pytest
import timm
import torch
from safetensors.torch import save_file

from pipeline.config import ConfigError
from pipeline.engine.weights import import_weights, read_state
from pipeline.methods import build_method
from pipeline.nn.encoders import build_encoder
from pipeline.nn.families import clip
from pipeline.nn.families.vit import encode_masked
from tests.methods import recipe, slow
from tests.methods.conftest import build, context

WIDTH, DEPTH, PATCH, GRID, PIXELS = 96, 4, 4, (4, 4), 48  # of vit_micro at 16 pixels
DECODER = 64  # one block of four heads


def filled(shapes):
    generator = torch.Generator().manual_seed(4)
    return {name: 0.2 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def block(prefix, width):
    vectors = {f"{part}.{kind}": (width,) for part in ("norm1", "norm2") for kind in ("weight", "bias")}
    maps = {"attn.qkv": (3 * width, width), "attn.proj": (width, width), "mlp.fc1": (4 * width, width),
            "mlp.fc2": (width, 4 * width)}  # fmt: skip
    biases = {f"{name}.bias": shape[:1] for name, shape in maps.items()}
    weights = {f"{name}.weight": shape for name, shape in maps.items()}
    return {prefix + name: shape for name, shape in (vectors | weights | biases).items()}


def both(name, shape):
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def vit():
    shapes = {"cls_token": (1, 1, WIDTH), "pos_embed": (1, 17, WIDTH)}
    shapes |= both("patch_embed.proj", (WIDTH, 3, PATCH, PATCH)) | both("norm", (WIDTH,))
    for index in range(DEPTH):
        shapes |= block(f"blocks.{index}.", WIDTH)
    return shapes


def decoder(last="decoder_pred", out=PIXELS):
    shapes = {"mask_token": (1, 1, DECODER), "decoder_pos_embed": (1, 17, DECODER)}
    shapes |= both("decoder_embed", (DECODER, WIDTH)) | block("decoder_blocks.0.", DECODER)
    return shapes | both("decoder_norm", (DECODER,)) | both(last, (out, DECODER))


def beit(heads):
    shapes = {name: shape for name, shape in vit().items() if name != "pos_embed" and not name.endswith("qkv.bias")}
    shapes |= {"mask_token": (1, 1, WIDTH), "rel_pos_bias.relative_position_bias_table": (7 * 7 + 3, 4)}
    for index in range(DEPTH):
        names = ("attn.q_bias", "attn.v_bias", "gamma_1", "gamma_2")
        shapes |= {f"blocks.{index}.{name}": (WIDTH,) for name in names}
    index = {"rel_pos_bias.relative_position_index": torch.zeros(17, 17, dtype=torch.int64)}
    return filled(shapes | heads) | index


def saved(path, state, key="model", **beside):
    """As the authors' scripts do, with their arguments beside the weights."""
    arguments = argparse.Namespace(lr=1e-3, blr=None, output_dir="./out", betas=(0.9, 0.95), milestones=[0, 800])
    torch.save({key: state, "epoch": 7, "scaler": {"scale": 65536.0}, "args": arguments, **beside}, path)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "released.pth"


def painted(state, image, visible, embed="decoder_embed"):
    """(1 + L, P) of the authors' autoencoder, by their own names."""
    x = slow.encoded(slow.embedded(image, state, "")[visible], state, 4, "")
    x = slow.linear(x, state, embed)
    return slow.decoded(x, visible, 16, state, 4, "decoder_", "mask_token")


def features(state, image):
    return slow.encoded(slow.embedded(image, state, ""), state, 4, "")


def close(a, b):
    return torch.allclose(a, b, atol=1e-4, rtol=1e-4)


IMAGES, NOISE = torch.randn(2, 3, 16, 16), torch.rand(2, 16)


def test_mae_encoder_only(path):
    state, method = filled(vit()), build("mae").eval()
    told = import_weights(method, saved(path, state))
    assert told["unused"] == [] and told["file"] == str(path) and len(told["sha256"]) == 64
    assert told["missing"] == sorted(f"decoder.{name}" for name in method.decoder.state_dict())
    assert close(method.encoder.forward_features(IMAGES)[1], features(state, IMAGES[1]))


def test_mae_with_its_decoder(path, capsys):
    state, method = filled(vit() | decoder()), build("mae").eval()
    told = import_weights(method, saved(path, state, optimizer={"state": {}, "param_groups": [{"lr": 1e-3}]}))
    assert told["unused"] == told["missing"] == []
    assert "tensors read, 0 unused [], 0 missing []" in capsys.readouterr().out
    step = method(IMAGES, NOISE)
    for image, draws, prediction in zip(IMAGES, NOISE, step.prediction, strict=True):
        visible = slow.smallest(draws, 6)  # 40 % of 16
        assert close(prediction, painted(state, image, visible)[1:])


def test_mae_fine_tuned_on_the_class_token(path):
    state, method = filled(vit() | both("head", (10, WIDTH))), build("mae").eval()
    told = import_weights(method, saved(path, state))
    assert told["unused"] == ["encoder.head.bias", "encoder.head.weight"]
    assert close(method.encoder.forward_features(IMAGES)[0], features(state, IMAGES[0]))


@pytest.mark.parametrize("name", ["mae", "pretrained"])
def test_fine_tuned_on_means_the_pooled_norm_becomes_the_final_one(path, name):
    """MAE's `global_pool`, and timm's: blocks without a norm after them, `fc_norm` and `head`."""
    state = filled(vit() | both("fc_norm", (WIDTH,)) | both("head", (10, WIDTH)))
    del state["norm.weight"], state["norm.bias"]
    method = build(name).eval()
    told = import_weights(method, saved(path, state))
    assert told["unused"] == ["encoder.head.bias", "encoder.head.weight"]
    assert not [key for key in told["missing"] if key.startswith("encoder.")]
    renamed = {key.replace("fc_norm.", "norm."): value for key, value in state.items()}
    assert close(method.encoder.forward_features(IMAGES)[0], features(renamed, IMAGES[0]))
    # What fine-tuning takes, without the final norm, is the released model's own, and so are its logits.
    method.encoder.norm = torch.nn.Identity()
    pooled = method.encoder.forward_features(IMAGES)[0, 1:].mean(dim=0)
    theirs = slow.blocks(slow.with_class_token(slow.embedded(IMAGES[0], state, ""), state, ""), state, "", 4)
    assert close(pooled, theirs[1:].mean(dim=0))


def test_fine_tuned_on_the_class_token_keeps_its_own_norm(path):
    state = filled(vit() | both("fc_norm", (WIDTH,)))
    method = build("mae")
    assert "encoder.fc_norm.weight" in import_weights(method, saved(path, state))["unused"]
    assert torch.equal(method.encoder.norm.weight, state["norm.weight"])


def test_dbot(path):
    state, method = filled(vit() | decoder("decoder_predp", WIDTH)), build("dbot").eval()
    told = import_weights(method, saved(path, state))
    assert told["unused"] == told["missing"] == []
    state |= {f"decoder_pred.{kind}": state[f"decoder_predp.{kind}"] for kind in ("weight", "bias")}
    tokens = method.predict(IMAGES, NOISE)[0]
    for image, draws, prediction in zip(IMAGES, NOISE, tokens, strict=True):
        assert close(prediction, painted(state, image, slow.smallest(draws, 6)))


def beit_features(state, image):
    mask = torch.arange(16) % 3 == 0
    return slow.beit(image, state, GRID, 4, mask, state["mask_token"], prefix=""), mask


@pytest.mark.parametrize("name, changes", [("maskdistill", {}), ("dbot", {"symmetric": True})])
def test_beit_students(path, name, changes):
    """BEiT v2's names, which dBOT's branch for CLIP teachers has too."""
    state, method = beit(both("lm_head", (WIDTH, WIDTH))), build(name, model="beit_micro", **changes).eval()
    told = import_weights(method, saved(path, state))
    assert told["missing"] == [] and told["unused"] == ["encoder.rel_pos_bias.relative_position_index"]
    expected, mask = beit_features(state, IMAGES[0])
    tokens = encode_masked(method.encoder, IMAGES[:1], mask[None], method.mask_token)
    assert close(tokens[0], expected)
    assert torch.equal(method.head.weight, state["lm_head.weight"]) and torch.equal(
        method.head.bias, state["lm_head.bias"]
    )


@pytest.mark.parametrize("out", [64, 160])
@pytest.mark.parametrize("name, changes", [("maskdistill", {}), ("dbot", {"symmetric": True}), ("dbot", {})])
def test_without_a_teacher_the_head_is_as_wide_as_the_checkpoint_s(path, name, changes, out):
    """Students of CLIP, whose features are narrower than the encoder, and of larger encoders."""
    asymmetric = name == "dbot" and not changes
    settings = {**recipe(name), "model": "vit_micro" if asymmetric else "beit_micro"}
    settings["options"] |= changes
    method = build_method(settings, context()).eval()
    state = filled(vit() | decoder("decoder_predp", out)) if asymmetric else beit(both("lm_head", (out, WIDTH)))
    assert import_weights(method, saved(path, state))["missing"] == []
    if asymmetric:
        assert torch.equal(method.decoder.pred.weight, state["decoder_predp.weight"])
        assert method.predict(IMAGES, NOISE)[0].shape == (2, 17, out)
    else:
        assert torch.equal(method.head.weight, state["lm_head.weight"])


def test_a_teacher_of_another_width_is_told_and_what_helps(path):
    state, method = filled(vit() | decoder("decoder_predp", 64)), build("dbot")
    with pytest.raises(ConfigError, match=r"2 shapes differ \(decoder.pred.* is \(64.*expected \(96.*The encoder fits: "
                       r"set the run's options .*, and leave out its teacher, or name one as wide"):  # fmt: skip
        import_weights(method, saved(path, state))


def test_beit_v2_itself(path):
    """Only the head over its tokens and the layers that pretrained the class token are left over."""
    state = beit(both("lm_head", (8192, WIDTH)) | block("cls_pt_layers.0.", WIDTH))
    settings = {**recipe("pretrained"), "model": "beit_micro"}
    method = build_method(settings, context()).eval()
    told = import_weights(method, saved(path, state))
    assert told["missing"] == []
    assert {name.split(".")[1] for name in told["unused"]} == {"mask_token", "lm_head", "cls_pt_layers", "rel_pos_bias"}
    plain = {name: value for name, value in state.items() if name != "mask_token"}
    assert close(method.encoder.forward_features(IMAGES)[0], slow.beit(IMAGES[0], plain, GRID, 4, prefix=""))


def test_imae_with_two_branches(path):
    heads = both("decoder_embed1", (DECODER, WIDTH)) | both("decoder_embed2", (DECODER, WIDTH))
    state, method = filled(vit() | decoder() | heads), build("imae", distill_weight=0.0).eval()
    told = import_weights(method, saved(path, state))
    assert told["missing"] == [] and told["unused"] == ["decoder.embed.bias", "decoder.embed.weight"]
    step = method(IMAGES, IMAGES.flip(0), NOISE, torch.tensor(0.3))
    for mixture, draws, prediction in zip(step.seen, NOISE, step.prediction, strict=True):
        visible = slow.smallest(draws, 8)
        for branch, own in enumerate(prediction.split(PIXELS, dim=1), start=1):
            assert close(own, painted(state, mixture, visible, f"decoder_embed{branch}")[1:])


def test_imae_from_one_head_gives_it_to_both_branches(path):
    """MAE's own checkpoint, and that of i-MAE's first version."""
    state, method = filled(vit() | decoder()), build("imae")
    told = import_weights(method, saved(path, state))
    assert told["missing"] == told["unused"] == []
    for branch in method.branches:
        assert torch.equal(branch.weight, state["decoder_embed.weight"])
        assert torch.equal(branch.bias, state["decoder_embed.bias"])


def test_clmae(path):
    module = {"masking_net.cls_token": (1, 1, WIDTH), "masking_net.pos_embed": (1, 1, WIDTH)}
    module |= both("masking_net.mlp_head.0", (WIDTH,)) | both("masking_net.mlp_head.1", (16, WIDTH))
    for index in range(2):
        module |= block(f"masking_net.blocks.{index}.", WIDTH)
    state, method = filled(vit() | decoder() | module), build("clmae").eval()
    told = import_weights(method, saved(path, state))
    assert told["unused"] == ["module.pos_embed"] and told["missing"] == ["step"]
    step = method(IMAGES)
    for image, prediction, mask in zip(IMAGES, step.prediction, step.mask, strict=True):
        tokens = slow.embedded(image, state, "")
        x = torch.cat([state["masking_net.cls_token"][0], tokens])
        x = slow.blocks(x, state, "masking_net.", 4, eps=1e-5)[0]
        x = slow.layer_norm(x, state["masking_net.mlp_head.0.weight"], state["masking_net.mlp_head.0.bias"], 1e-5)
        visible = slow.smallest(-slow.linear(x, state, "masking_net.mlp_head.1"), 6)
        assert set(visible) == set((~mask).nonzero()[:, 0].tolist())
        assert close(prediction, painted(state, image, visible)[1:])


def test_mixmask(path):
    method = build("mixmask").eval()
    tower = build_encoder("resnet_micro", 16).state_dict() | filled(both("fc.0", (192, 192)) | both("fc.2", (64, 192)))
    tower = {name: torch.randn_like(v) if v.is_floating_point() else v + 3 for name, v in tower.items()}
    state = {f"module.encoder_q.{name}": value for name, value in tower.items()}
    state |= {f"module.encoder_k.{name}": value + 1 for name, value in tower.items()}
    state |= {"module.queue": torch.randn(64, 2048), "module.queue_ptr": torch.tensor([512])}
    told = import_weights(method, saved(path, state, key="state_dict", arch="resnet50"))
    assert told["unused"] == told["missing"] == []
    for name, value in tower.items():
        ours = f"projector.{name[3:]}" if name.startswith("fc.") else f"encoder.{name}"
        assert torch.equal(method.state_dict()[ours], value)
        assert torch.equal(method.state_dict()[f"key.{ours}"], value + 1)
    assert torch.equal(method.queue, state["module.queue"].T) and method.pointer == 512


def test_timm_vit(path):
    theirs = timm.create_model("vit_base_patch16_224", pretrained=False, img_size=16, patch_size=PATCH, embed_dim=WIDTH,
                               depth=DEPTH, num_heads=4, num_classes=10)  # fmt: skip
    method = build("pretrained").eval()
    path = path.with_suffix(".safetensors")
    save_file(slow.shake(theirs).eval().state_dict(), path)
    told = import_weights(method, path)
    assert told["unused"] == ["encoder.head.bias", "encoder.head.weight"] and told["missing"] == []
    assert close(method.encoder.forward_features(IMAGES), theirs.forward_features(IMAGES))


def test_a_bare_state_dict_of_a_resnet(path):
    method = build_method({**recipe("pretrained"), "model": "resnet_micro"}, context()).eval()
    theirs = build_encoder("resnet_micro", 16).eval()
    torch.save(theirs.state_dict() | filled(both("fc", (10, 192))), path)
    told = import_weights(method, path)
    assert told["unused"] == ["encoder.fc.bias", "encoder.fc.weight"] and told["missing"] == []
    assert torch.equal(method.encoder.forward_features(IMAGES), theirs.forward_features(IMAGES))


def test_clip_in_timms_layout(path):
    """Its pixel statistics are folded in, its projection is kept, and only a bias of zeros is left over."""
    small = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 24}
    theirs = timm.create_model("vit_base_patch16_clip_quickgelu_224", pretrained=False, **small)
    slow.shake(theirs.eval(), 0.2).head.bias.data.zero_()  # which timm adds, and CLIP has not
    torch.save(theirs.state_dict(), path)
    size = {"family": "clip", "patch_size": 4, "width": 32, "num_blocks": 2, "num_heads": 4, "projection": 24}
    with mock.patch("pipeline.nn.encoders.models", lambda: {"clip_micro": size}):
        method = build_method({**recipe("pretrained"), "model": "clip_micro"}, context()).eval()
    told = import_weights(method, path)
    assert told["unused"] == ["encoder.head.bias"] and told["missing"] == []
    pixels = torch.rand(2, 3, 16, 16)
    ours, own = ((pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
                 for mean, std in (clip.IMAGENET, clip.CLIP))  # fmt: skip
    assert close(method.encoder(ours), theirs(own))


@pytest.mark.parametrize("name", ["dbot", "maskdistill", "imae"])
def test_weights_are_read_without_a_teacher(path, name):
    """A run that reads them names none; the teacher's own weights are never missing."""
    model = "beit_micro" if name == "maskdistill" else "vit_micro"
    alone, taught = build_method({**recipe(name), "model": model}, context()), build(name, model=model)
    state = beit(both("lm_head", (WIDTH, WIDTH))) if name == "maskdistill" else filled(vit() | decoder(
        *(("decoder_predp", WIDTH) if name == "dbot" else ())))  # fmt: skip
    for method in (alone, taught):
        assert import_weights(method, saved(path, state))["missing"] == []
    assert all(torch.equal(value, taught.state_dict()[name]) for name, value in alone.state_dict().items())


def test_the_file_format_of_older_pytorch(path):
    state, method = filled(vit() | decoder()), build("mae")
    torch.save({"model": state}, path, _use_new_zipfile_serialization=False)
    assert import_weights(method, path)["missing"] == []
    assert torch.equal(method.encoder.cls_token, state["cls_token"])


def test_half_precision_is_read_as_single(path):
    state, method = {name: value.half() for name, value in filled(vit()).items()}, build("mae")
    import_weights(method, saved(path, state))
    assert method.encoder.norm.weight.dtype == torch.float32
    assert torch.equal(method.encoder.norm.weight, state["norm.weight"].float())


def test_another_size_is_one_clear_error_and_changes_nothing(path):
    method = build("mae")
    before = {name: value.clone() for name, value in method.state_dict().items()}
    large = {name: torch.cat([value, value], dim=-1) for name, value in filled(vit()).items()}
    with pytest.raises(ConfigError, match=r"does not fit MAE on vit_micro: \d+ shapes differ \(encoder.cls_token is "
                       r"\(1, 1, 192\), expected \(1, 1, 96\)\).*Choose the run's method and model"):  # fmt: skip
        import_weights(method, saved(path, large))
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


@pytest.mark.parametrize("name", ["mixmask", "maskdistill", "clmae"])
def test_another_method_is_one_clear_error(path, name):
    state = {f"module.encoder_q.{key}": value for key, value in filled(vit()).items()}
    if name == "mixmask":
        state = filled(vit())
    with pytest.raises(ConfigError, match=r"does not fit \w+ on \w+: the encoder lacks \['encoder"):
        import_weights(build(name), saved(path, state))


class Code:
    """Something that makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_pickle_with_code_in_it_is_refused_and_not_executed(path, tmp_path):
    torch.save({"model": filled(vit()), "args": Code(tmp_path / "executed")}, path)
    with pytest.raises(ConfigError, match=r"asks for \w+.mkdir, .*Nothing in it was executed") as refused:
        import_weights(build("mae"), path)
    assert "weights_only" not in str(refused.value), "PyTorch's advice would run it"
    assert not (tmp_path / "executed").exists()
    torch.load(path, weights_only=False)  # the code would have worked
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_of_something_else_are_told(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    with pytest.raises(ConfigError, match="there is no such file; download the authors' checkpoint there"):
        read_state(path)
    noise = [random.Random(seed).randbytes(2000) for seed in range(100)]
    for content in (b"", b"<html>not found</html>", *noise):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"weights\.\w+ cannot be read as (a checkpoint of tensors|safetensors)"):
            read_state(path)


def test_a_download_cut_short_is_told(path):
    saved(path, filled(vit()))
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(ConfigError, match="cannot be read as a checkpoint of tensors"):
        read_state(path)


@pytest.mark.parametrize("content", [torch.zeros(3), [torch.zeros(3)], {"epoch": 3}, {"model": {"lr": 0.1}}, 7])
def test_a_file_without_named_tensors_is_told(path, content):
    torch.save(content, path)
    with pytest.raises(ConfigError, match="holds no named tensors"):
        read_state(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_and_change_nothing(path, value):
    state, method = filled(vit()), build("mae")
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    state["blocks.1.mlp.fc1.weight"][3, 5] = value
    with pytest.raises(ConfigError, match=rf"{path}: encoder.blocks.1.mlp.fc1.weight has 1 of .* not finite"):
        import_weights(method, saved(path, state))
    assert all(torch.equal(tensor, before[name]) for name, tensor in method.state_dict().items())
