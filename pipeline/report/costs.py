"""What the numbers cost: hours, throughput, arithmetic, energy, memory.

Model FLOPs utilisation (Chowdhery et al., "PaLM", arXiv:2204.02311, appendix B) is the arithmetic a model
needs over what its devices could have done in the same time. A cost that was not measured is a dash with its
reason below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.config import flatten
from pipeline.devices import find_device
from pipeline.report.grid import Grid, Outcome, estimate, unique
from pipeline.report.table import Column, Entry, Table, number, word
from pipeline.statistics import Estimate, spreads

SPEED = "samples_per_second"
_MACHINE = ("device", "num_devices", "num_threads")


def peak_flops(device: str, precision: str) -> float | None:
    """FLOP/s that one device can reach at a precision, or None where no published figure is recorded."""
    found = find_device(device)
    return found.peaks[precision] * 1e12 if found and precision in found.peaks else None


def utilisation(cost: Mapping[str, Any], precision: str) -> tuple[float | None, str]:
    """Model FLOPs utilisation as a fraction, or None with the reason.

    Args:
        cost: `samples_per_second` over all devices, `flops_per_sample` of the work done on one sample (in training
            forward and backward), `device`, `num_devices`.
        precision: what the arithmetic ran in.
    """
    speed, flops, device = (
        cost.get("samples_per_second"),
        cost.get("flops_per_sample"),
        str(cost.get("device", "")),
    )
    if not speed or not flops:
        return None, "MFU: the stage did not count its FLOPs or its throughput"
    peak = peak_flops(device, precision)
    if peak is None:
        return None, f"MFU: no published {precision} peak is recorded for “{device or 'unknown device'}”"
    return speed * flops / (peak * (cost.get("num_devices") or 1)), ""


def device_hours(outcomes: Sequence[Outcome]) -> float:
    """Hours times devices over cells."""
    costs = [outcome.manifest.get("cost", {}) for outcome in outcomes]
    return sum((cost.get("seconds") or 0.0) * (cost.get("num_devices") or 1) for cost in costs) / 3600


def samples_per_second(outcomes: Sequence[Outcome]) -> float | None:
    """Throughput over all devices of a cell, the mean over cells, or None where none was measured."""
    return _mean([outcome.manifest.get("cost", {}) for outcome in outcomes], "samples_per_second")


def pretraining_speeds(grid: Grid, runs: Sequence[str]) -> list[Estimate | None]:
    """Samples per second of each run's pretraining, with the spread over seeds.

    None where none was measured, and for all of them where devices or threads differ: the settings of the runs are then
    not what tells their speeds apart.
    """
    done = [[o.manifest.get("cost", {}) for o in grid.select("pretrain", run, "done")] for run in runs]
    costs = [[cost for cost in of_run if cost.get("samples_per_second")] for of_run in done]
    machines = {tuple(cost.get(key) for key in _MACHINE) for of_run in costs for cost in of_run}
    if len(machines) > 1:
        return [None] * len(runs)
    shared = spreads([[cost[SPEED] for cost in of_run] for of_run in costs])
    records = [[{"metric": SPEED, "value": cost[SPEED]} for cost in of_run] for of_run in costs]
    return [estimate(own, spread) for own, spread in zip(records, shared, strict=True)]


def sample_unit(outcomes: Sequence[Outcome]) -> str:
    """What the samples of these cells are, such as `images`."""
    units = unique(outcome.manifest.get("cost", {}).get("unit") for outcome in outcomes)
    return units[0] if len(units) == 1 else "samples"


def duration(hours: float) -> str:
    """Hours as people say them: `42 s`, `3.5 min`, `1,234 h`."""
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    if hours < 1:
        return f"{hours * 60:.1f} min"
    return f"{hours:,.1f} h"


def cost_table(grid: Grid) -> Table:
    """One row per stage and run: hours and energy in total, rates as means, memory as the peak."""
    rows, reasons = [], []
    devices = unique(_device(outcome.manifest.get("cost", {})) for outcome in grid.outcomes)
    pairs = dict.fromkeys((outcome.stage, outcome.run) for outcome in grid.outcomes)
    for stage, run in pairs:
        done = grid.select(stage, run, "done")
        if done:
            row, why = _row(grid, stage, run, done)
            reasons += why
        else:
            row = tuple(word(None) for _ in range(8))
        cells = grid.select(stage, run)
        count = Entry(text=f"{len(done)} of {len(cells)}", value=len(done), evidence=tuple(o.key for o in cells))
        rows.append((word(grid.study.short(stage)), word(run), count, *row))
    return Table(
        name="costs",
        title="Costs",
        caption=(
            "Hours are seconds × devices over the cells that are done; rates are means over seeds, memory is "
            "the largest peak of a process. FLOPs are those of one sample, in training forward and backward."
            + (f" Measured on {'; '.join(devices)}." if devices else "")
        ),
        columns=(
            Column(key="stage", title="Stage"),
            Column(key="run", title="Run"),
            Column(key="cells_done", title="Cells", numeric=True),
            Column(key="device_hours", title="Device time", numeric=True),
            Column(key="unit", title="Samples"),
            Column(key="samples_per_second", title="Samples/s", numeric=True),
            Column(key="gflops_per_sample", title="GFLOPs/sample", numeric=True),
            Column(key="mfu_percent", title="MFU, %", numeric=True),
            Column(key="kwh", title="kWh", numeric=True),
            Column(key="peak_memory_gib", title="Peak memory, GiB", numeric=True),
            Column(key="precision", title="Precision"),
        ),
        rows=tuple(rows),
        notes=tuple(f"– {reason}." for reason in unique(reasons)),
    )


def _row(grid: Grid, stage: str, run: str, done: Sequence[Outcome]) -> tuple[tuple[Entry, ...], list[str]]:
    costs = [outcome.manifest.get("cost", {}) for outcome in done]
    precision = costs[0].get("precision") or _precision(flatten(grid.settings(stage, run)))
    shares = [utilisation(cost, precision or "float32") for cost in costs]
    hours, flops, energy = device_hours(done), _mean(costs, "flops_per_sample"), _every(costs, "kwh")
    mfu = [share for share, _ in shares if share is not None]
    reasons = [reason for _, reason in shares if reason]
    if energy is None:
        reasons.append("kWh: the device’s energy was not measured")
    if _mean(costs, "samples_per_second") is None:
        reasons.append(f"Samples/s: {grid.study.short(stage)} of {run} did not measure a throughput")
    row = (
        Entry(text=duration(hours), value=hours),
        word(sample_unit(done)),
        number(_mean(costs, "samples_per_second"), "{:,.1f}"),
        number(None if flops is None else flops / 1e9, "{:,.3g}"),
        number(100 * sum(mfu) / len(mfu) if mfu else None, "{:.1f}"),
        number(energy, "{:,.3g}"),
        number(max((c["peak_memory_gib"] for c in costs if c.get("peak_memory_gib")), default=None), "{:.2f}"),
        word(precision),
    )
    return row, reasons


def _precision(settings: Mapping[str, Any]) -> str | None:
    return next((value for key, value in settings.items() if key.rpartition(".")[2] == "precision"), None)


def _device(cost: Mapping[str, Any]) -> str:
    count = cost.get("num_devices") or 1
    return f"{count} × {cost['device']}" if cost.get("device") and count > 1 else str(cost.get("device") or "")


def _mean(costs: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = [cost[key] for cost in costs if cost.get(key) is not None]
    return sum(values) / len(values) if values else None


def _every(costs: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """A total, which exists only if every cell measured its part."""
    values = [cost.get(key) for cost in costs]
    return None if any(value is None for value in values) else float(sum(values))  # type: ignore[arg-type]
