"""Words filled in: how often the hidden words of a caption are told right, and how surely, with its image and without.

The captions of the validation split are masked once, and their hidden words told from the visible ones beside the
image, beside the image of another caption, and alone. Of images as many patches are hidden as in training: beside a
whole one, which the decoder never saw, it takes words for others that it tells well otherwise. What the image adds is
the distance between its own image and another's (Elliott, "Adversarial Evaluation of Multimodal Machine Translation",
EMNLP 2018): both are pairs, while texts alone are strange to a run that was shown nothing but pairs.
N captions, T tokens of one, M hidden words of all.

Departures: the paper shows reconstructions and no numbers of text; this protocol is ours.
"""

import json
import time
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from mmengine import dist
from mmengine.device import get_device
from torch import Tensor

from pipeline.cell import Cell
from pipeline.config import ConfigError
from pipeline.data.draws import uniform
from pipeline.data.kinds.image_text import Pairs, open_eval
from pipeline.engine.processes import connect
from pipeline.engine.sharing import gather_objects, share_out
from pipeline.engine.teachers import PublishedRun
from pipeline.files import write_atomic, written
from pipeline.masking.uniform import Masking, uniform_mask
from pipeline.methods.m3ae import M3AE
from pipeline.tasks.filled import draw_filled

WORDS, PATCHES = 105, 106  # the streams of draws that hide words and patches
CONDITIONS = ("with_image", "with_another_image", "without_image")
BOOTSTRAPS = 1000


def evaluate(cell: Cell) -> dict[str, Any] | None:
    """Records, pictures and cost of one cell."""
    connect()
    settings, started = cell.settings, time.monotonic()
    method = load(cell).to(get_device())
    pairs = open_eval(cell.data, "val", settings, method.options.vocabulary_size)
    captioned = [index for index in range(len(pairs)) if pairs.spoken(index)]
    if len(captioned) < 2:
        raise ConfigError(f"the validation split of {cell.data} has {len(captioned)} captions; expected two at least")
    told = measure(method, pairs, captioned, settings, cell.seed)
    if not dist.is_main_process():
        return None
    records = summarise(told, cell.seed)
    write_atomic(cell.files / "words.json", json.dumps(by_word(told, pairs.words.vocabulary), indent=1))
    order = torch.randperm(len(captioned), generator=torch.Generator().manual_seed(cell.seed))
    shown = [captioned[place] for place in order[: settings["num_pictures"]].tolist()]
    with written(cell.files / "filled.png") as path:
        draw_filled(method, pairs, shown, cell.seed).save(path, format="PNG", optimize=True)
    seconds = time.monotonic() - started
    caption = "image, visible part, reconstruction; words that were visible (grey), told right (green) and wrong (red)"
    return {
        "records": records,
        "pictures": [{"path": "files/filled.png", "caption": f"{caption}; from the validation split"}],
        "cost": {"seconds": round(seconds, 3), "samples": len(CONDITIONS) * len(captioned), "unit": "captions"},
    }


def load(cell: Cell) -> M3AE:
    """The measured run, whole.

    Raises:
        ConfigError: it fills in no words, or was built for images of another size.
    """
    run = PublishedRun(cell.encoder, num_classes=1)
    method, size = run.settings["method"], cell.settings["image_size"]
    if method != "m3ae":
        raise ConfigError(f"{cell.run.name} was trained by {method}, which fills in no words; expected a run of m3ae: "
                          f"name them in tasks.{cell.stage}.runs")  # fmt: skip
    whole = run.whole()
    assert isinstance(whole, M3AE)
    if whole.encoder.image_size != (size, size):
        raise ConfigError(f"image_size is {size}, and {cell.run.name} was trained on {whole.encoder.image_size}; its "
                          "decoder knows no other; set image_size to that")  # fmt: skip
    return whole


@torch.no_grad()
def measure(
    method: M3AE, pairs: Pairs, captioned: list[int], settings: Mapping[str, Any], seed: int
) -> dict[str, Tensor]:
    """What is made of every hidden word; all processes call it and share the work.

    Args:
        captioned: (N,) places in the set of images that have a caption.

    Returns:
        caption (M,), the place among the N; word (M,), its token; and by condition right and surprise (M,), whether
        it is told, and the negative logarithm of its probability.
    """
    batches = torch.arange(len(captioned)).split(settings["batch_size"])
    own = []
    for places in share_out(batches):
        batch, masking = _batch(pairs, captioned, places, settings["text_mask_ratio"], seed)
        others = [captioned[(place + 1) % len(captioned)] for place in places.tolist()]
        another = pairs.images.__getitems__([(0, index) for index in others])["images"].to(batch["images"].device)
        words = method.read(batch["ids"], batch["padding"], masking)
        patches = uniform(seed, 0, batch["index"], method.encoder.patch_embed.num_patches, PATCHES)
        covered = uniform_mask(patches, method.options.image_mask_ratio)
        hidden = masking.mask & ~batch["padding"]
        entries = {"caption": places[:, None].to(hidden.device).expand_as(hidden), "word": batch["ids"]}
        for condition, images in zip(CONDITIONS, (batch["images"], another, None), strict=True):
            seen = {} if images is None else {"image": method.see(images, covered)}
            scores = method.fill({**seen, "text": words})["text"].float()
            surprise = F.cross_entropy(scores.flatten(0, 1), batch["ids"].flatten(), reduction="none")
            entries[f"right_{condition}"] = scores.argmax(dim=2) == batch["ids"]
            entries[f"surprise_{condition}"] = surprise.view_as(batch["ids"])
        own.append({name: value[hidden].cpu() for name, value in entries.items()})
    found = gather_objects(own, len(batches))
    return {name: torch.cat([part[name] for part in found]) for name in found[0]}


def summarise(told: Mapping[str, Tensor], seed: int) -> list[dict[str, Any]]:
    """Accuracy and perplexity of each condition, and what its own image adds to the accuracy; intervals over captions.

    Words of one caption are told together, so captions are what is drawn again (Efron 1979).
    """
    count = len(told["word"])
    sums = {name: _by_caption(told["caption"], values) for name, values in told.items() if "_" in name}
    sizes = _by_caption(told["caption"], torch.ones(count))
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(len(sizes), (BOOTSTRAPS, len(sizes)), generator=generator)

    def means(name: str) -> tuple[Tensor, Tensor]:
        return sums[name].sum() / sizes.sum(), sums[name][draws].sum(dim=1) / sizes[draws].sum(dim=1)

    def record(metric: str, value: Tensor, again: Tensor, unit: str, higher: bool) -> dict[str, Any]:
        low, high = again.quantile(torch.tensor([0.025, 0.975], dtype=again.dtype)).tolist()
        return {"metric": metric, "value": round(float(value), 4), "unit": unit, "higher_is_better": higher,
                "count": count, "interval": [round(low, 4), round(high, 4)]}  # fmt: skip

    records, rights = [], {}
    for condition in CONDITIONS:
        rights[condition] = tuple(100 * part for part in means(f"right_{condition}"))
        records.append(record(f"accuracy_{condition}", *rights[condition], "%", higher=True))
    gain = [own - other for own, other in zip(rights[CONDITIONS[0]], rights[CONDITIONS[1]], strict=True)]
    records.append(record("image_gain", gain[0], gain[1], "%", higher=True))
    for condition in CONDITIONS:
        value, again = means(f"surprise_{condition}")
        records.append(record(f"perplexity_{condition}", value.exp(), again.exp(), "", higher=False))
    return records


def by_word(told: Mapping[str, Tensor], vocabulary: list[str]) -> list[dict[str, Any]]:
    """For each word that was hidden, how often, and the share told right in each condition; the frequent ones first."""
    words, counts = told["word"].unique(return_counts=True)
    rows = []
    for word, count in sorted(zip(words.tolist(), counts.tolist(), strict=True), key=lambda row: (-row[1], row[0])):
        shares = {c: round(float(told[f"right_{c}"][told["word"] == word].float().mean()), 4) for c in CONDITIONS}
        rows.append({"word": vocabulary[word], "count": count, **shares})
    return rows


def _by_caption(captions: Tensor, values: Tensor) -> Tensor:
    """Sums over the words of each caption that has any hidden."""
    _, places = captions.unique(return_inverse=True)
    return torch.zeros(int(places.max()) + 1, dtype=torch.float64).index_add_(0, places, values.double())


def _batch(
    pairs: Pairs, captioned: list[int], places: Tensor, mask_ratio: float, seed: int
) -> tuple[dict[str, Tensor], Masking]:
    """Some samples on the device, and which of their words are hidden, always the same ones."""
    batch = pairs.__getitems__([(0, captioned[place]) for place in places.tolist()])
    batch = {name: value.to(get_device()) for name, value in batch.items()}
    return batch, uniform_mask(uniform(seed, 0, batch["index"], batch["ids"].shape[1], WORDS), mask_ratio)
