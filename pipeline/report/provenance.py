"""What stands behind the numbers: when, where and with what they were measured, and what to be wary of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any

from pipeline.config import flatten
from pipeline.manifest import ManifestError, read
from pipeline.report.costs import device_hours, duration
from pipeline.report.grid import Grid, Outcome, unique
from pipeline.report.pictures import broken_pictures


def facts(grid: Grid) -> dict[str, str]:
    """What the header tells of when, where and with what the cells were measured, from their manifests."""
    done = grid.select(status="done")
    provenance = [outcome.manifest.get("provenance", {}) for outcome in done]
    packages = [entry.get("packages", {}) for entry in provenance]
    names = unique(name for entry in packages for name in entry)
    times = sorted(unique(entry.get(key) for entry in provenance for key in ("started", "finished")))
    commits = unique(
        f"{entry['commit'][:12]}{' with local changes' if entry.get('dirty') else ''}"
        for entry in provenance
        if entry.get("commit")
    )
    memory = [cost["peak_memory_gib"] for o in done if (cost := o.manifest.get("cost", {})).get("peak_memory_gib")]
    facts = {
        "Measured": " to ".join(unique((times[0][:10], times[-1][:10]))) if times else "",
        "Device time": duration(device_hours(done)) if done else "",
        "Largest peak memory": f"{max(memory):.2f} GiB" if memory else "",
        "Devices": "; ".join(unique(outcome.manifest.get("cost", {}).get("device") for outcome in done)),
        "Python": ", ".join(unique(entry.get("python") for entry in provenance)),
        "Packages": "; ".join(f"{n} {', '.join(unique(e.get(n) for e in packages))}" for n in names),
        "Commit": ", ".join(commits),
        "Lock": ", ".join(entry[:12] for entry in unique(entry.get("lock_sha256") for entry in provenance)),
    }
    return {key: value for key, value in facts.items() if value}


def problems(grid: Grid) -> list[str]:
    """What a reader must know before trusting a cell: files that changed, settings that moved on."""
    found = [f"{outcome.key} is damaged: {outcome.error}" for outcome in grid.select(status="damaged")]
    digest_of = cache(_digest_of)  # many cells read one data set
    broken = broken_pictures(grid)
    wanted: dict[tuple[str, str], dict[str, Any]] = {}  # the same for all seeds
    for outcome in grid.select(status="done"):
        for record in outcome.manifest["records"]:
            if record["value"] is None:
                found.append(f"{outcome.key} has no value of {record['metric']}; run it again.")
        shown = [picture["path"] for picture in outcome.manifest.get("pictures") or []]
        logs = [path for path in outcome.manifest.get("artefacts", {}) if path.endswith("log.jsonl")]
        for path in (*shown, *logs):
            file = outcome.artefact(path)
            if file in broken:
                found.append(f"{outcome.key}: {path} is damaged and left out; run its stage again.")
            if file is None:
                found.append(f"{outcome.key}: {path} is missing or was changed; it is left out (`dvc pull`).")
        for part, entry in outcome.manifest.get("inputs", {}).items():
            now = digest_of(str(entry["manifest"]))
            if now not in (None, entry["digest"]):
                found.append(f"{outcome.key} was made from another {part} than {entry['manifest']} describes now "
                             f"({entry['digest'][:12]}, now {now[:12]}); run it again.")  # fmt: skip
        had, cell = outcome.node.decisive(outcome.manifest.get("settings", {})), (outcome.stage, outcome.run)
        if cell not in wanted:
            wanted[cell] = json.loads(json.dumps(outcome.node.identity))
        if had != wanted[cell]:
            old, new = flatten(had), flatten(wanted[cell])
            keys = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
            found.append(f"{outcome.key} was measured with other settings than the study has now: {', '.join(keys)}.")
    return found


def _digest_of(path: str) -> str | None:
    """The digest of what a manifest describes; None where it cannot be read, which other rows tell."""
    with suppress(ManifestError):
        return str(read(path)["digest"])
    return None


def protocol(grid: Grid, task: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The settings of a task: those all runs share under `all runs`, then what differs by run."""
    flat = {run: flatten(grid.settings(task, run)) for run in grid.study.tasks[task].runs}
    first = next(iter(flat.values()))
    shared = {key: value for key, value in first.items() if all(f.get(key, ...) == value for f in flat.values())}
    own = [(run, {key: v for key, v in settings.items() if key not in shared}) for run, settings in flat.items()]
    return [("all runs", shared), *((run, settings) for run, settings in own if settings)]


def evidence(outcome: Outcome) -> dict[str, Any]:
    return {
        "key": outcome.key,
        "title": f"{outcome.study.title(outcome.stage)} of {outcome.run}, seed {outcome.seed}",
        "status": outcome.status,
        "error": outcome.error,
        "command": outcome.manifest.get("command", outcome.node.command),
        "manifest_path": str(outcome.node.manifest),
        "log": str(outcome.node.log),
        "manifest": outcome.manifest,
    }
