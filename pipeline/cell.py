"""A cell: one node of the study's graph, with what it reads, where it works and where it publishes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline import manifest
from pipeline.config import Run
from pipeline.files import drop, sha256, sweep, write_atomic
from pipeline.graph import Graph, Node
from pipeline.local import nearest
from pipeline.manifest import ManifestError


class Cell:
    """One stage applied to one run at one seed, or the preparation of one data set.

    A cell works in `work/…-<key>/`, which no workflow tool knows of, so that a job that fails keeps what it has;
    the key covers seed, inputs and the settings that decide the result, so that only the same work is ever resumed.
    What stands in `files` when `publish` is called moves to the cell's folder, and the manifest is written last.

    Args:
        node: of the study's graph.
    """

    def __init__(self, node: Node) -> None:
        self.node, self.study, self.stage, self.seed = node, node.study, node.stage, node.seed
        self.settings, self.folder = node.settings, node.folder
        self.started = datetime.now(UTC)

    @property
    def run(self) -> Run:
        """The run that this cell trains or measures."""
        return self.study.runs[self.node.run]

    @cached_property
    def data(self) -> Path:
        """Folder of the data set this cell reads, or its copy on this node's own disk."""
        return nearest(self.node.inputs["data"])

    @property
    def encoder(self) -> Path:
        """The pretrained encoder a task measures."""
        return self.node.inputs["encoder"] / "files" / "encoder.safetensors"

    @property
    def teacher(self) -> Path | None:
        """The encoder of the run this pretraining learns from, if any."""
        folder = self.node.inputs.get("teacher")
        return folder and folder / "files" / "encoder.safetensors"

    @property
    def encoder_teacher(self) -> Path | None:
        """The encoder of the run that the measured one learned from, if any.

        Raises:
            ManifestError: it is not what its manifest says, or was trained again since.
        """
        if self.run.teacher is None:
            return None
        node = Graph(self.study).node("pretrain", self.run.teacher, self.seed)
        if node.manifest.exists():
            learned = manifest.read(self.node.inputs["encoder"] / manifest.NAME)["inputs"]["teacher"]["digest"]
            if manifest.verify(node.manifest)["digest"] != learned:
                raise ManifestError(f"{node.folder} is not the teacher that {self.run.name} learned from: it was "
                                    f"trained again since; run the pretraining of {self.run.name} again")  # fmt: skip
        return node.folder / "files" / "encoder.safetensors"

    @cached_property
    def inputs(self) -> dict[str, dict[str, str]]:
        """What this cell reads, each with the digest of its content, against which every file of it was verified.

        Raises:
            ManifestError: a file is missing or is not what its manifest says.
        """
        paths = {part: folder / "manifest.json" for part, folder in self.node.inputs.items()}
        found = {part: manifest.verify(path) for part, path in paths.items()}
        return {part: {"manifest": str(paths[part]), "digest": whole["digest"]} for part, whole in found.items()}

    @cached_property
    def key(self) -> str:
        """What tells this work from any other."""
        digests = {part: entry["digest"] for part, entry in self.inputs.items()}
        told = [self.stage, self.node.identity, self.seed, digests]
        weights = Path(self.settings.get("weights") or "")
        return manifest.digest([*told, *([sha256(weights)] if weights.is_file() else [])])[:12]

    @cached_property
    def work(self) -> Path:
        """The work directory, made if need be."""
        path = self.node.scratch.with_name(f"{self.node.scratch.name}-{self.key}")
        path.mkdir(parents=True, exist_ok=True)
        return path

    @property
    def lock(self) -> Path:
        """What is held while a process works on this cell, whatever its settings are."""
        return self.node.scratch.with_name(f"{self.node.scratch.name}.lock")

    @cached_property
    def files(self) -> Path:
        """Folder for everything that is to be published."""
        path = self.work / "files"
        path.mkdir(exist_ok=True)
        return path

    def finished(self) -> bool:
        """Whether this very work is done and whole; where it is, it is all in its place afterwards.

        A publication that was cut off is finished first, and a manifest that a workflow tool removed comes back. Only
        who holds the cell calls this.
        """
        self.work.mkdir(parents=True, exist_ok=True)  # who held the cell before may have dropped it
        sweep(self.work)
        for path in self.work.parent.glob(f".{self.failure.stem}.*"):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.work.with_name(f".{self.work.name}.tmp"), ignore_errors=True)
        if (self.work / manifest.NAME).exists() and not manifest.finish(self.folder, self.work):
            print(f"what {self.work} published was replaced meanwhile; it is made again", flush=True)
            drop(self.work)
            self.work.mkdir()
        if not manifest.restore(self.folder, self.key):
            return False
        self._tidy()
        return True

    def publish(
        self,
        *,
        records: Sequence[Mapping[str, Any]] = (),
        pictures: Sequence[Mapping[str, str]] = (),
        cost: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        """Move `files` into place, write the manifest and drop the work directory.

        Args:
            records: measured numbers: metric, value, unit, higher_is_better, count, interval.
            pictures: `path` (from `files/…` on) and `caption` of what the report shows.
            cost: seconds, device, samples per second and the like.
            more: further entries of the manifest.
        """
        names: dict[str, Any] = {"stage": self.stage}
        if self.stage != "prepare":
            names |= {"study": self.study.name, "run": self.run.name, "method": self.run.method, "seed": self.seed}
        whole = manifest.publish(
            self.folder,
            self.files,
            {
                **names,
                "key": self.key,
                "command": self.node.command,
                "settings": self.settings,
                "inputs": self.inputs,
                "records": list(records),
                "pictures": list(pictures),
                "cost": {**(cost or {}), "peak_memory_gib": round(manifest.peak_memory_gib(), 3)},
                **more,
                "provenance": manifest.provenance(self.started),
            },
        )
        self._tidy()
        return whole

    def _tidy(self) -> None:
        drop(self.work)
        self.failure.unlink(missing_ok=True)

    @property
    def failure(self) -> Path:
        """Where a failure is told to the report."""
        return failure(self.node)

    def fail(self, error: BaseException) -> None:
        """Leave word that this cell failed, and why."""
        told = {"error": str(error) or type(error).__name__, "when": datetime.now(UTC).isoformat(timespec="seconds")}
        with suppress(OSError):  # a disk too full for these words is often the error they are about
            self.failure.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.failure, json.dumps({**told, "command": self.node.command}))


def failure(node: Node) -> Path:
    """Where a node's failure is told to the report."""
    return node.scratch.with_name(f"{node.scratch.name}.failure.json")
