"""Are two blended images linearly separable in an encoder's features? i-MAE's two evaluations.

Zhang and Shen 2024 (arXiv:2210.11470). N pairs, K visible patches, D encoder width.

*Linear separability*: pairs of validation images are blended at fixed shares; each pair shares one mask. A ridge
regression, token by token, leads from the blend's features to those of either image alone; it is fitted to one half of
the pairs, its penalty chosen on a tenth of that half, and measured on the other half. Two controls bound it from below:
the same map fitted to partners that were shuffled, and the fainter map held against the stronger image.
*Degree of semantics*: how often the nearest neighbours of the fainter image's features, taken from blends, show its
class. Where the method has branches of its own for the two images, they take the map's place here, and their distance
from the teacher's latents is measured too.

Departures: the paper's formulas are published in no code and could not be read; these are working definitions.
Features are normalised without learned parameters so that encoders compare, and each place's mean is taken off: two
tokens of one place resemble each other whatever they show.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from mmengine import dist
from mmengine.device import get_device
from torch import Tensor, nn

from pipeline.cell import Cell
from pipeline.config import ConfigError
from pipeline.data.draws import uniform
from pipeline.engine.processes import connect
from pipeline.engine.sharing import gather, share_out
from pipeline.engine.teachers import PublishedRun
from pipeline.files import write_atomic, written
from pipeline.masking.uniform import keep, uniform_mask
from pipeline.methods import load_method
from pipeline.methods.base import Method
from pipeline.nn.encoders import is_transformer, load_image_encoder
from pipeline.nn.families.vit import embed_patches, encode
from pipeline.tasks.features import evaluation_set

PAIRS, MASKS = 103, 104  # streams of draws
FIT, CHOOSE = 0.45, 0.05  # of the pairs; the rest is measured
SIDES = ("fainter", "stronger")


@dataclass(frozen=True, kw_only=True)
class Branches:
    """What a run of i-MAE trained for the two images, and the teacher it followed.

    maps: from encoder to decoder width, the fainter image's first.
    teacher, embed: the frozen encoder, and what leads from it to the same width.
    """

    maps: Sequence[nn.Module]
    teacher: nn.Module
    embed: nn.Module


def evaluate(cell: Cell) -> dict[str, Any] | None:
    """Records, figure and cost of one cell."""
    connect()
    settings, started = cell.settings, time.monotonic()
    encoder = load_image_encoder(cell.encoder, settings["image_size"]).to(get_device()).eval()
    if not is_transformer(encoder):
        raise ConfigError(f"separability needs patches; leave {cell.run.name}, a {encoder.model_name}, out of its runs")
    images = evaluation_set(cell.data, "val", settings)
    num_pairs = min(settings["num_pairs"], len(images))
    pairs, noise = draw_pairs(len(images), num_pairs, encoder.patch_embed.num_patches, cell.seed)
    places = uniform_mask(noise, settings["mask_ratio"]).visible
    branches = trained_branches(cell, settings["image_size"], len(images.classes))
    by_share = []
    for share in settings["shares"]:
        found = features(encoder, images, pairs, noise, share, settings, branches)
        if not dist.is_main_process():
            continue
        found = {name: without_places(value, places) for name, value in found.items()}
        blend, alone = found["blend"], [found[side] for side in SIDES]
        measures: dict[str, Any] = {"share": share}
        for side, own, other in zip(SIDES, alone, alone[::-1], strict=True):
            shuffled = own.roll(1, dims=0)
            measures[side] = separate(blend, own, settings["penalties"])
            measures[f"{side} shuffled"] = separate(blend, shuffled, settings["penalties"])
            measures[f"{side} crossed"] = separate(blend, own, settings["penalties"], measured=other)
        if branches is not None:
            for side in SIDES[: len(branches.maps)]:
                measures[f"{side} branch"] = compare(found[f"{side} branch"], found[f"{side} taught"])
        described = found.get("fainter branch", found["blend"]).mean(dim=1)
        labels = images.labels[pairs[:, 0]]
        measures["agreement"] = {k: agreement(described, labels, k) for k in settings["num_neighbours"]}
        by_share.append(measures)
    if not dist.is_main_process():
        return None
    write_atomic(cell.files / "by_share.json", json.dumps(by_share, indent=1))
    with written(cell.files / "separability.png") as path:
        plot(by_share, path)
    seconds = time.monotonic() - started
    return {
        "records": records(by_share, num_pairs),
        "pictures": [{"path": "files/separability.png", "caption": "R² of the linear map from blends to either image"}],
        "cost": {
            "seconds": round(seconds, 3),
            "samples": 3 * num_pairs * len(settings["shares"]),
            "unit": "images",
        },
    }


def draw_pairs(num_images: int, num_pairs: int, num_patches: int, seed: int) -> tuple[Tensor, Tensor]:
    """(N, 2) indices of different images, the fainter first, and (N, L) noise that both share with their blend."""
    order = uniform(seed, 0, torch.arange(num_images), 1, PAIRS)[:, 0].argsort()
    pairs = torch.stack([order, order.roll(-1)], dim=1)[:num_pairs]
    return pairs, uniform(seed, 0, pairs[:, 0], num_patches, MASKS)


@torch.no_grad()
def features(
    encoder: nn.Module,
    images: Any,
    pairs: Tensor,
    noise: Tensor,
    share: float,
    settings: Mapping[str, Any],
    branches: Branches | None,
) -> dict[str, Tensor]:
    """Features of all blends and of both images alone: (N, K, D) each, `blend`, `fainter` and `stronger`.

    All processes call it and share the work.

    Args:
        share: of the fainter image in the blend.
        branches: where given, the (N, K, W) latents of each, and of the teacher for each image, come too.
    """
    parts: dict[str, list[Tensor]] = {name: [] for name in ("blend", *SIDES)}
    if branches is not None:
        told = SIDES[: len(branches.maps)]
        parts |= {f"{side} {what}": [] for side in told for what in ("branch", "taught")}
    device = next(encoder.parameters()).device
    chunks = list(zip(pairs.split(settings["batch_size"]), noise.split(settings["batch_size"]), strict=True))
    for chunk, drawn in share_out(chunks):
        fainter, stronger = (
            images.__getitems__([(0, int(index)) for index in chunk[:, side]])["images"].to(device) for side in (0, 1)
        )
        visible = uniform_mask(drawn.to(device), settings["mask_ratio"]).visible

        def tokens(model: nn.Module, pixels: Tensor, visible: Tensor = visible) -> Tensor:
            return encode(model, keep(embed_patches(model, pixels), visible))[:, 1:]

        blend = tokens(encoder, share * fainter + (1 - share) * stronger)
        found = {"blend": blend, "fainter": tokens(encoder, fainter), "stronger": tokens(encoder, stronger)}
        found = {name: F.layer_norm(value, value.shape[-1:]) for name, value in found.items()}
        if branches is not None:
            for side, source, branch in zip(SIDES, (fainter, stronger), branches.maps, strict=False):
                found[f"{side} branch"] = branch(blend)
                found[f"{side} taught"] = branches.embed(tokens(branches.teacher, source))
        for name, value in found.items():
            parts[name].append(value.float().cpu())
    sizes = [len(chunk) for chunk, _ in chunks]
    return {name: gather(values, sizes) for name, values in parts.items()}


def without_places(tokens: Tensor, places: Tensor) -> Tensor:
    """Tokens less the mean of their place, which the pairs that maps are fitted to tell.

    Args:
        tokens: (N, K, D).
        places: (N, K), the patch that each token is of.
    """
    fit = slice(0, round(FIT * len(tokens)))
    known = places[fit].flatten()
    count = torch.bincount(known, minlength=int(places.max()) + 1).clamp(min=1)
    sums = torch.zeros(len(count), tokens.shape[2]).index_add_(0, known, tokens[fit].flatten(0, 1))
    return tokens - (sums / count[:, None])[places]


def separate(
    inputs: Tensor, outputs: Tensor, penalties: Sequence[float], measured: Tensor | None = None
) -> dict[str, float]:
    """Fit a ridge regression from tokens to tokens on half of the pairs and measure it on the other half.

    Args:
        inputs, outputs: (N, K, D).
        penalties: to choose from, in units of the inputs' mean variance.
        measured: (N, K, D) that the map is held against; by default the outputs.
    """
    first, second = round(FIT * len(inputs)), round((FIT + CHOOSE) * len(inputs))
    fit, choose, test = slice(first), slice(first, second), slice(second, None)
    x, y = (part.flatten(0, 1).double() for part in (inputs[fit], outputs[fit]))
    centre, mean = x.mean(dim=0), y.mean(dim=0)
    x, y = x - centre, y - mean
    gram, moment = x.T @ x, x.T @ y
    scale = gram.diagonal().mean()

    def mapped(penalty: float, part: slice) -> Tensor:
        weights = torch.linalg.solve(gram + penalty * scale * torch.eye(len(gram), dtype=gram.dtype), moment)
        return ((inputs[part].double() - centre) @ weights + mean).float()

    best = max(penalties, key=lambda penalty: compare(mapped(penalty, choose), outputs[choose])["r2"])
    return compare(mapped(best, test), (outputs if measured is None else measured)[test]) | {"penalty": best}


def compare(predicted: Tensor, true: Tensor) -> dict[str, float]:
    """R², mean squared error and mean cosine of tokens, (N, K, D) twice."""
    error = (predicted - true).square()
    spread = (true - true.mean(dim=(0, 1))).square()
    return {
        "r2": 1 - float(error.sum() / spread.sum()),
        "mse": float(error.mean()),
        "cosine": float(F.cosine_similarity(predicted, true, dim=-1).mean()),
    }


def agreement(described: Tensor, labels: Tensor, num_neighbours: int) -> float:
    """Share of nearest neighbours (by cosine, without oneself) that have one's class: (N, D) and (N,)."""
    unit = F.normalize(described, dim=1)
    similarity = unit @ unit.T
    similarity.fill_diagonal_(-2)
    nearest = similarity.topk(min(num_neighbours, len(unit) - 1), dim=1).indices
    return float((labels[nearest] == labels[:, None]).float().mean())


def records(by_share: Sequence[Mapping[str, Any]], count: int) -> list[dict[str, Any]]:
    """Means over the shares."""

    def record(metric: str, values: Sequence[float], unit: str, higher: bool) -> dict[str, Any]:
        value = round(sum(values) / len(values), 4)
        return {"metric": metric, "value": value, "unit": unit, "higher_is_better": higher, "count": count,
                "interval": None}  # fmt: skip

    found = []
    for name in [key for key in by_share[0] if key not in ("share", "agreement")]:
        higher = not name.endswith(("shuffled", "crossed"))
        for metric in ("r2", "cosine"):
            values = [measures[name][metric] for measures in by_share]
            found.append(record(f"{metric}_{name.replace(' ', '_')}", values, "", higher))
    for k in by_share[0]["agreement"]:
        values = [100 * measures["agreement"][k] for measures in by_share]
        found.append(record(f"agreement_k{k}", values, "%", True))
    return found


def plot(by_share: Sequence[Mapping[str, Any]], path: Path) -> None:
    """R² over the fainter image's share, one line per map and control."""
    figure = Figure(figsize=(5, 3.4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    styles = {"": "-o", " branch": "-s", " shuffled": ":", " crossed": "--"}
    for side, colour in zip(SIDES, ("#0b6e99", "#b5500c"), strict=True):
        for suffix, style in styles.items():
            if side + suffix in by_share[0]:
                shares = [measures["share"] for measures in by_share]
                heights = [max(-1.0, measures[side + suffix]["r2"]) for measures in by_share]
                axes.plot(shares, heights, style, color=colour, label=side + suffix, markersize=4, linewidth=1.2)
    axes.set(xlabel="share of the fainter image", ylabel="R² (cut at -1)")
    axes.legend(fontsize=7, frameon=False)
    figure.savefig(path)


def trained_branches(cell: Cell, image_size: int, num_classes: int) -> Branches | None:
    """The branches of the cell's run and their teacher; None where its method has none, or it had no teacher.

    Raises:
        ConfigError: what was published does not fit the method.
    """
    if cell.encoder_teacher is None:
        return None
    teacher = PublishedRun(cell.encoder_teacher, num_classes)
    run = PublishedRun(cell.encoder, num_classes, teacher)
    if load_method(run.settings["method"]).separation is Method.separation:
        return None
    found = run.whole().separation()
    assert found is not None and found.taught is not None
    device = get_device()
    return Branches(
        maps=[branch.to(device) for branch in found.branches],
        teacher=load_image_encoder(teacher.path, image_size).to(device).eval(),
        embed=found.taught.to(device),
    )
