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
from pipeline.config import ConfigError, Study, spec_hash


class Cell:
    """One stage applied to one run at one seed, or the preparation of one data set.

    A cell works in `work/…-<hash>/`, which no workflow tool knows of, so that a job that fails keeps what it has;
    the hash covers settings, seed and inputs, so that only the same work is ever resumed. What stands in `files`
    when `publish` is called moves to the cell's folder, and the manifest is written last.

    Args:
        study: the study.
        stage: `prepare`, `pretrain` or a task.
        name: the run, or for `prepare` the role of the data set (`images`, ...).
        seed: the seed; `prepare` has none.
    """

    def __init__(self, study: Study, stage: str, name: str, seed: int | None = None) -> None:
        self.study, self.stage, self.name, self.seed = study, stage, name, seed
        self.started = datetime.now(UTC)
        if stage == "prepare":
            spec = _get(study.data, name, f"data of {study.path}")
            self.settings: dict[str, Any] = {"source": spec.source, **spec.options}
            self.folder = spec.folder
            self.command = f"python -m stages.prepare --study {study.path} --data {name}"
            return
        run = _get(study.runs, name, f"runs of {study.path}")
        if stage != "pretrain":
            task = _get(study.tasks, stage, f"tasks of {study.path}")
            _get(dict.fromkeys(task.runs), name, f"runs of task {stage}")
        _get(dict.fromkeys(study.seeds_of(stage, name)), seed, f"seeds of {stage} for {name}")
        self.run = run
        self.settings = study.settings(stage, name)
        self.folder = study.folder(stage, name, seed)
        self.command = f"python -m stages.{stage} --study {study.path} --run {name} --seed {seed}"

    @property
    def data(self) -> Path:
        """Folder of the data set this cell reads."""
        return self.study.data[self.settings["data"]].folder

    @property
    def encoder(self) -> Path:
        """The pretrained encoder a task measures."""
        return self.study.folder("pretrain", self.name, self.seed) / "files" / "encoder.safetensors"

    @property
    def teacher(self) -> Path | None:
        """The encoder of the run this pretraining learns from, if any."""
        if self.stage != "pretrain" or self.run.teacher is None:
            return None
        return self.study.folder("pretrain", self.run.teacher, self.seed) / "files" / "encoder.safetensors"

    @cached_property
    def inputs(self) -> dict[str, dict[str, str]]:
        """What this cell reads, each with the digest of its content."""
        if self.stage == "prepare":
            return {}
        folders = {"data": self.data}
        if self.stage != "pretrain":
            folders["encoder"] = self.encoder.parent.parent
        if self.teacher is not None:
            folders["teacher"] = self.teacher.parent.parent
        paths = {key: folder / "manifest.json" for key, folder in folders.items()}
        return {key: {"manifest": str(path), "digest": manifest.read(path)["digest"]} for key, path in paths.items()}

    @cached_property
    def work(self) -> Path:
        """The work directory, made if need be."""
        digests = {key: entry["digest"] for key, entry in self.inputs.items()}
        key = spec_hash(self.stage, self.settings, self.seed, digests)[:12]
        path = self._scratch.with_name(f"{self._scratch.name}-{key}")
        path.mkdir(parents=True, exist_ok=True)
        return path

    @cached_property
    def files(self) -> Path:
        """Folder for everything that is to be published."""
        path = self.work / "files"
        path.mkdir(exist_ok=True)
        return path

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
            cost: seconds, device, images per second and the like.
            more: further entries of the manifest.
        """
        names: dict[str, Any] = {"stage": self.stage}
        if self.stage != "prepare":
            names |= {"study": self.study.name, "run": self.name, "method": self.run.method, "seed": self.seed}
        whole = manifest.publish(
            self.folder,
            self.files,
            {
                **names,
                "command": self.command,
                "settings": self.settings,
                "inputs": self.inputs,
                "records": list(records),
                "pictures": list(pictures),
                "cost": {**(cost or {}), "peak_memory_gib": round(manifest.peak_memory_gib(), 3)},
                **more,
                "provenance": manifest.provenance(self.started),
            },
        )
        shutil.rmtree(self.work, ignore_errors=True)
        self.failure.unlink(missing_ok=True)
        return whole

    @property
    def failure(self) -> Path:
        """Where a failure is told to the report."""
        return self._scratch.with_name(f"{self._scratch.name}.failure.json")

    def fail(self, error: BaseException) -> None:
        """Leave word that this cell failed, and why."""
        told = {"error": str(error) or type(error).__name__, "when": datetime.now(UTC).isoformat(timespec="seconds")}
        with suppress(OSError):  # a disk too full for these words is often the error they are about
            self.failure.parent.mkdir(parents=True, exist_ok=True)
            manifest.write_atomic(self.failure, json.dumps({**told, "command": self.command}).encode())

    @property
    def _scratch(self) -> Path:
        if self.stage == "prepare":
            return Path("work/data") / self.folder.name
        return Path("work") / self.study.name / self.stage / f"{self.name}-{self.seed}"


def _get(mapping: Mapping[Any, Any], key: Any, where: str) -> Any:
    if key not in mapping:
        raise ConfigError(f"{key!r} is not among the {where}; available: {list(mapping)}")
    return mapping[key]
