"""A forecast in words, for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline.config import ConfigError
from pipeline.cost import sets
from pipeline.cost.estimate import GIB, Estimate, Forecast, total_kwh

NUMBERS = (1, 8, 64, 512)  # of devices, of which the wall clock is told
MOST = 20  # cells that a refusal names
UNCOUNTED = (
    "Not counted: detection's and segmentation's evaluation, what is fitted on frozen features on a job's cores "
    "(neighbours, clusters, few_labels' regressions), and the start of a job."
)


def report(forecast: Forecast, number: int | None = None) -> str:
    """The whole study: stages, runs, totals.

    Args:
        number: of devices there are; None for several numbers, to compare.
    """
    return "\n\n".join([_head(forecast), _stages(forecast), _runs(forecast), _totals(forecast, number)])


def check(forecast: Forecast) -> None:
    """Raises ConfigError for cells that take longer than the hours that they ask for."""
    late = sorted((cell for cell in forecast.cells if not cell.fits), key=lambda cell: -cell.hours)
    if late:
        told = [
            f"  {cell.node.name}: asks for {cell.node.request.hours} h, needs {_hours(cell.hours)}"
            f" on {cell.devices} devices{_waits(cell)}"
            for cell in late[:MOST]
        ]
        more = f"\n  and {len(late) - MOST} more" if len(late) > MOST else ""
        raise ConfigError(
            f"{len(late)} of {len(forecast.cells)} cells of {forecast.study.path} do not end within their hours:\n"
            + "\n".join(told)
            + f"{more}\nAsk for more nodes, or more hours, under cluster (of the study, or of one run). A job that is "
            "stopped goes on when it is submitted again: to have it so, run the study as it is"
        )


def affordable(forecast: Forecast, hours: float) -> str:
    """Runs that fit a budget of device-hours."""
    taken = forecast.affordable(hours)
    if not taken:
        return f"No run fits {hours:,.0f} device-hours."
    rows = [("run", "device-hours", "in all")]
    spent = 0.0
    for run, own in taken.items():
        spent += own
        rows.append((run, _number(own), _number(spent)))
    kept = "a run is counted with the teachers that no earlier one brought, and with its tasks"
    left = f"{len(forecast.study.runs) - len(taken)} of {len(forecast.study.runs)} runs do not, or are not estimated."
    return f"What fits {hours:,.0f} device-hours, the cheapest first; {kept}:\n\n{_table(rows)}\n\n{left}"


def _head(forecast: Forecast) -> str:
    device, mfu = forecast.device, forecast.mfu
    shares = ", ".join(
        f"{100 * (device.mfu[name] if mfu is None else mfu):.0f} % of {peak:,g} TFLOP/s in {name}"
        for name, peak in device.peaks.items()
        if name in device.mfu
    )
    why = device.reached if mfu is None else "as given"
    return f"{forecast.study.path} on {forecast.name}, before anything is run: {shares} ({why})."


def _stages(forecast: Forecast) -> str:
    rows: list[tuple[str, ...]] = [
        ("stage", "cells estimated", "EFLOP", "device-hours", "longest job, h", "wait for data")
    ]
    for stage in dict.fromkeys(cell.node.stage for cell in forecast.cells):
        all_ = [cell for cell in forecast.cells if cell.node.stage == stage]
        known = [cell for cell in all_ if cell.work]
        if not known:
            rows.append((stage, f"0 of {len(all_)}", *["–"] * 4))
            continue
        count, *sums = _sums(known)
        longest, waiting = max(cell.hours for cell in known), sum(cell.loading > cell.computing for cell in known)
        told = count if len(known) == len(all_) else f"{count} of {len(all_)}"
        rows.append((stage, told, *sums, _number(longest), str(waiting)))
    return _table(rows)


def _runs(forecast: Forecast) -> str:
    rows = [("run", "cells", "EFLOP", "device-hours", "of pretraining", "its hours", "kWh", "results, GiB")]
    for run, cells in forecast.by_run().items():
        known = [cell for cell in cells if cell.work]
        if known:
            first = [cell for cell in known if cell.node.stage == "pretrain"]
            energy = total_kwh(known)
            rows.append((run, *_sums(known), _number(sum(cell.device_hours for cell in first)),
                         _number(max((cell.hours for cell in first), default=0.0)),
                         "–" if energy is None else _number(energy),
                         _number(sum(cell.work.published for cell in known if cell.work) / GIB)))  # fmt: skip
    return _table(rows)


def _sums(cells: Sequence[Estimate]) -> tuple[str, str, str]:
    flops = sum(cell.work.flops for cell in cells if cell.work)
    return str(len(cells)), _number(flops / 1e18), _number(sum(cell.device_hours for cell in cells))


def _totals(forecast: Forecast, number: int | None) -> str:
    packs, others = forecast.packs
    waiting = sum(cell.device_hours for cell in forecast.cells if cell.loading > cell.computing)
    speeds = ", ".join(f"{kind} {value} ms" for kind, value in sets.MILLISECONDS.items())
    energy = "not known" if forecast.kwh is None else f"{_number(forecast.kwh)} kWh"
    longest, way = forecast.chain()
    clocks = [f"{_hours(forecast.wall_clock(n))} on {n:,}" for n in ([number] if number else NUMBERS)]
    lines = [
        f"In all {forecast.flops:.3g} FLOPs, {_number(forecast.device_hours)} device-hours, {_number(waiting)} of them "
        f"in jobs that wait for data ({speeds} a sample and core).",
        f"Energy: {energy} of devices at their rated power, hosts and cooling not counted.",
        f"Disk: packs {_number(packs)} GiB{f' and those of {_some(others)}' if others else ''}; results "
        f"{_number(forecast.published)} GiB; checkpoints up to {_number(forecast.checkpoints)} GiB of each training.",
        f"Longest chain: {_hours(longest)}, {' → '.join(cell.node.name for cell in way)}.",
        f"Wall clock at best: {', '.join(clocks)} devices.",
    ]
    lines += _memory(forecast)
    for reason, cells in forecast.unknown.items():
        names = sorted({f"{cell.node.stage} of {cell.node.run}" for cell in cells})
        lines.append(f"Not estimated, {len(cells)} cells: {reason} ({_some(names)}).")
    lines.append(UNCOUNTED)
    return "\n".join(lines)


def _memory(forecast: Forecast) -> list[str]:
    """The largest step, and what is to be done about those that no device holds."""
    sizes = {cell.node.name: cell.work.memory(cell.devices) / GIB for cell in forecast.cells if cell.work}
    largest = max(sizes, key=lambda name: sizes[name], default="")
    if not sizes.get(largest) or not forecast.device.memory_gib:
        return []
    lines = [f"Memory: {_number(sizes[largest])} GiB of {forecast.device.memory_gib} for the largest step, {largest}."]
    late = [f"{cell.node.name} ({_number(sizes[cell.node.name])} GiB; train.accumulate: {forecast.accumulate(cell)})"
            for cell in forecast.cells if forecast.too_large(cell)]  # fmt: skip
    if late:
        lines.append(f"More than a device has, {len(late)} cells: {_some(late)}. More micro-batches, more nodes, or "
                     "train.activation_checkpointing where their recipe has it.")  # fmt: skip
    return lines


def _waits(cell: Estimate) -> str:
    cores = cell.node.request.nodes * cell.node.request.cpus
    return f", waiting for {cores} cores to read" if cell.loading > cell.computing else ""


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _hours(hours: float) -> str:
    return f"{_number(hours)} h"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _table(rows: Iterable[Sequence[str]]) -> str:
    rows = list(rows)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) if not place else text.rjust(width)
                  for place, (text, width) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in rows
    )  # fmt: skip
