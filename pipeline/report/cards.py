"""A model card for each trained encoder, with its weights beside it: a folder as the Hugging Face hub holds it.

The head of a card follows the hub's metadata (model-index of Papers with Code). Nothing is sent anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.config import flatten
from pipeline.config.models import models
from pipeline.report.comparison import SCALE
from pipeline.report.costs import duration
from pipeline.report.grid import Grid, Outcome
from pipeline.report.references import Reference, load_references
from pipeline.report.table import Column, Table, number, to_markdown, word
from pipeline.report.untrained import is_untrained

_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # libyaml's, five times as fast, where PyYAML has it
ENCODER = "files/encoder.safetensors"
# The hub's names of what a kind of sample is used for.
TASKS = {
    "images": "image-classification",
    "detection": "object-detection",
    "segmentation": "image-segmentation",
    "video": "video-classification",
    "text": "text-classification",
}


def trained(grid: Grid) -> dict[str, Outcome]:
    """The cells that left a trained encoder, by the name of its card's folder."""
    return {
        f"{outcome.run}-{outcome.seed}": outcome
        for outcome in grid.select("pretrain", status="done")
        if ENCODER in outcome.manifest["artefacts"] and not is_untrained(grid, outcome.run)
    }


def write_cards(grid: Grid, folder: Path) -> None:
    """Write `<run>-<seed>/README.md` for each trained encoder, and link its weights as `model.safetensors`."""
    references = load_references()
    for name, outcome in trained(grid).items():
        own = folder / name
        own.mkdir(parents=True)
        (own / "README.md").write_text(model_card(grid, outcome, references), encoding="utf-8")
        weights = outcome.folder / ENCODER
        if weights.is_file():
            _link(weights, own / "model.safetensors")


def model_card(grid: Grid, outcome: Outcome, references: list[Reference]) -> str:
    """The card of one encoder: metadata, what it is, what it reached, how it is read, made and cited."""
    run, settings = grid.study.runs[outcome.run], outcome.manifest["settings"]
    method, sha256 = run.head.title, outcome.manifest["artefacts"][ENCODER]["sha256"]
    name, source = f"{grid.study.name}-{outcome.run}-{outcome.seed}", run.data.source
    paper = [one for one in references if run.method in one.ours]
    teacher = f" Its teacher is the run `{run.teacher}`." if run.teacher else ""
    cost, made = outcome.manifest.get("cost", {}), outcome.manifest.get("provenance", {})
    spent = f" It took {duration(cost['seconds'] / 3600)} on {cost.get('device')}." if cost.get("seconds") else ""
    blocks = [
        f"---\n{yaml.dump(_metadata(grid, outcome, name), Dumper=_DUMPER, sort_keys=False, allow_unicode=True)}---",
        f"# {name}",
        f"Encoder `{settings.get('model')}`, trained by {method} on `{run.data.name}` (source `{source}`), seed "
        f"{outcome.seed}.{teacher}{spent}",
        ""
        if grid.study.scale == SCALE
        else "**Not comparable with the paper’s weights**: trained and measured on "
        f"embedded data at {grid.study.scale} scale.",
        to_markdown(_results(grid, outcome)).strip(),
        "## Use",
        _usage(outcome, run.method),
        "## Training",
        "Made by the following command, in the settings below"
        + (f", at commit `{made['commit']}`" if made.get("commit") else "")
        + f". SHA-256 of the weights: `{sha256}`.",
        f"```sh\n{outcome.manifest['command']}\n```",
        f"```yaml\n{yaml.dump(flatten(settings), Dumper=_DUMPER, sort_keys=False).strip()}\n```",
        "## Limits and licence",
        "Nothing was tested beyond the tasks above. No licence is stated here: that of the training data and of who "
        "trained it decide; add `license:` to the head before you publish it.",
        *(["## Citation", *(f"```bibtex\n{one.text.strip()}\n```" for one in paper)] if paper else []),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _metadata(grid: Grid, outcome: Outcome, name: str) -> dict[str, Any]:
    run, results = grid.study.runs[outcome.run], []
    for task, each, records in _measured(grid, outcome):
        scores = [
            {"type": r["metric"], "name": grid.study.metric(task, r["metric"]), "value": r["value"]} for r in records
        ]
        results.append(
            {
                "task": {"type": TASKS.get(each.data.kind, "other"), "name": grid.study.title(task)},
                "dataset": {"type": each.data.source, "name": each.data.name},
                "metrics": scores,
            }
        )
    return {
        **({"library_name": "timm"} if _size(outcome) else {}),
        **({"pipeline_tag": "image-feature-extraction"} if run.data.kind == "images" else {}),
        "tags": ["self-supervised-learning", run.method, run.data.kind, "unmask"],
        "model-index": [{"name": name, "results": results}],
    }


def _measured(grid: Grid, outcome: Outcome) -> list[tuple[str, Any, list[Mapping[str, Any]]]]:
    """Each task that this very encoder was measured on, with its headline records."""
    found = []
    for name, task in grid.study.tasks.items():
        for one in grid.select(name, outcome.run, "done"):
            records = [record for metric in grid.headline(name) if (record := one.record(metric)) is not None]
            if one.seed == outcome.seed and records:
                found.append((name, task, records))
    return found


def _results(grid: Grid, outcome: Outcome) -> Table:
    rows = []
    for task, each, records in _measured(grid, outcome):
        for record in records:
            low, high = record.get("interval") or (None, None)
            places = "{:." + str(grid.digits(task, record["metric"])) + "f}"
            span = "" if low is None else f"[{places.format(low)}, {places.format(high)}]"
            metric = f"{grid.study.metric(task, record['metric'])} {record.get('unit') or ''}".strip()
            rows.append(
                (
                    word(grid.study.title(task)),
                    word(each.data.name),
                    word(metric),
                    number(record["value"], places),
                    word(span),
                )
            )
    columns = ("Task", "Data", "Metric", "Value", "95 % interval")
    return Table(
        name="results",
        title="Results",
        caption="Of this encoder alone; intervals are over the items tested and say nothing about another seed.",
        columns=tuple(Column(key=title.lower(), title=title, numeric=title == "Value") for title in columns),
        rows=tuple(rows),
    )  # fmt: skip


def _usage(outcome: Outcome, method: str) -> str:
    """Code that reads the weights: timm's where it is a plain Vision Transformer of timm's, else the tensors."""
    size, read = _size(outcome), 'safetensors.torch.load_file("model.safetensors")'
    if size:
        sizes = f"img_size={outcome.manifest['settings']['augment']['image_size']}, patch_size={size['patch_size']}, " \
                f"embed_dim={size['width']}, depth={size['num_blocks']}, num_heads={size['num_heads']}"  # fmt: skip
        code = f'model = timm.create_model("vit_base_patch16_224", {sizes}, num_classes=0)\n' \
               f"model.load_state_dict({read})"  # fmt: skip
        code = f"import safetensors.torch\nimport timm\n\n{code}"
    else:
        code = f"import safetensors.torch\n\nstate = {read}"
    model = outcome.manifest["settings"].get("model")
    study = f"mine: {{method: {method}, weights: model.safetensors, set: {{model: {model}}}}}"
    return f"```python\n{code}\n```\n\nAs a run of a study of Unmask: `{study}`."


def _size(outcome: Outcome) -> Mapping[str, Any] | None:
    """Sizes of a plain Vision Transformer on images, which timm builds by its own function; None for other encoders."""
    settings, head = outcome.manifest["settings"], outcome.study.runs[outcome.run].head
    size = models().get(settings.get("model"), {})
    plain = size.get("family") == "vit" and head.kind == "images" and "patch_size" in size
    return size if plain and isinstance(settings.get("augment", {}).get("image_size"), int) else None


def _link(source: Path, target: Path) -> None:
    """The same file under a second name, by a symbolic link where file systems differ."""
    try:
        os.link(source, target)
    except OSError:
        target.symlink_to(os.path.relpath(source, target.parent))
