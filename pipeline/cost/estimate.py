"""From the work of cells to hours, energy and disk, on devices of one kind, cell by cell and for a whole study."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from pipeline.config import ConfigError, Study
from pipeline.cost import sets
from pipeline.cost.encoders import Unknown
from pipeline.cost.work import Work, work_of
from pipeline.devices import CORE, DEVICES, Device, find_device
from pipeline.graph import Graph, Node

KEPT = 2  # checkpoints of a training that is under way
GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One cell on the devices that it asks for.

    work: None where it is not known, for the `reason`. devices: how many. computing, loading: hours of each, side by
    side. watts: of a device; None where that is not known.
    """

    node: Node
    work: Work | None
    reason: str = ""
    devices: int = 1
    computing: float = 0.0
    loading: float = 0.0
    watts: int | None = None

    @property
    def hours(self) -> float:
        """From its beginning to its end: a training computes while the next samples are read."""
        return max(self.computing, self.loading)

    @property
    def device_hours(self) -> float:
        return self.hours * self.devices

    @property
    def fits(self) -> bool:
        """Whether it ends within the hours that it asks for."""
        return self.hours <= self.node.request.hours


def estimate(node: Node, device: Device, mfu: float | None = None) -> Estimate:
    """What a cell takes.

    Args:
        node: of a study's graph, not of a data set.
        device: of those that it asks for; a cell that asks for none computes on cores.
        mfu: share of the peak that is reached, in place of the device's own.

    Raises:
        ConfigError: the device has no peak at the precision that the cell computes in.
    """
    try:
        work = work_of(node.study, node.stage, node.run)
    except Unknown as unknown:
        return Estimate(node=node, work=None, reason=str(unknown))
    request = node.request
    number = request.nodes * (request.gpus or request.cpus)
    device, share = (device, mfu) if request.gpus else (CORE, None)
    computing = 0.0
    if work.flops:
        twice = work.again / 3  # the forward pass of so many blocks, a third of the step
        computing = (1 + twice) * hours_of(work.flops, number, device, work.precision, share)
    milliseconds = sets.MILLISECONDS.get(work.loading or "", 0.0)
    loading = work.samples * milliseconds / 1000 / (request.nodes * request.cpus) / 3600 if request.gpus else 0.0
    return Estimate(node=node, work=work, devices=number, computing=computing, loading=loading, watts=device.watts)


def hours_of(flops: float, number: int, device: Device, precision: str, mfu: float | None = None) -> float:
    """Hours in which so many devices do so many operations."""
    if precision not in device.peaks:
        known = [name for name, other in DEVICES.items() if precision in other.peaks]
        raise ConfigError(f"the study computes in {precision}, for which no peak is known of this device, which has "
                          f"{sorted(device.peaks)}; choose one that has it: {known}")  # fmt: skip
    share = device.mfu[precision] if mfu is None else mfu
    return flops / (number * device.peaks[precision] * 1e12 * share) / 3600


def micro_batches(work: Work, devices: int, memory: float) -> int:
    """In how many parts, of 1, 2, 4, ..., a device takes its share of a step for each to fit its memory.

    Args:
        devices: that share a step.
        memory: of each, in bytes. Where weights and moments alone do not fit, no number helps, and it is 1.
    """
    number = 1
    while work.states < memory and replace(work, batch=work.batch / number).memory(devices) > memory:
        number *= 2
    return number


def total_kwh(cells: Sequence[Estimate]) -> float | None:
    """Energy of devices at their rated power, without hosts and cooling; None where that is not known of one."""
    if any(cell.hours and cell.watts is None for cell in cells):
        return None
    return sum(cell.device_hours * (cell.watts or 0) for cell in cells) / 1000


class Forecast:
    """All cells of a study on devices of one kind.

    Args:
        study: the study.
        device: name of the devices, as `pipeline.devices` knows them.
        mfu: share of the peak in place of the device's own.

    Raises:
        ConfigError: there is no such device, or it does not compute in the study's precision.
    """

    def __init__(self, study: Study, device: str, mfu: float | None = None) -> None:
        found = find_device(device)
        if found is None:
            raise ConfigError(f"device is {device!r}; available: {list(DEVICES)}, or add a line to pipeline/devices.py")
        self.study, self.name, self.device, self.mfu = study, device, found, mfu
        self.graph = Graph(study)
        self.cells = [estimate(node, found, mfu) for node in self.graph if node.stage != "prepare"]

    @cached_property
    def device_hours(self) -> float:
        return sum(cell.device_hours for cell in self.cells)

    @property
    def flops(self) -> float:
        return sum(cell.work.flops for cell in self.cells if cell.work)

    @property
    def kwh(self) -> float | None:
        return total_kwh(self.cells)

    @property
    def packs(self) -> tuple[float, list[str]]:
        """GiB of the packs of sets whose size is known, and the others."""
        sizes = {name: sets.gib(data) for name, data in self.study.data.items()}
        return sum(size for size in sizes.values() if size), [name for name, size in sizes.items() if size is None]

    @property
    def published(self) -> float:
        """GiB of weights that stay."""
        return sum(cell.work.published for cell in self.cells if cell.work) / GIB

    @property
    def checkpoints(self) -> float:
        """GiB of checkpoints while the cell with the largest ones trains; each that trains beside it has its own."""
        return KEPT * max((cell.work.checkpoint for cell in self.cells if cell.work), default=0.0) / GIB

    def chain(self, number: int | None = None) -> tuple[float, list[Estimate]]:
        """The longest way through the graph, which no number of devices makes shorter: hours, and the cells on it.

        Args:
            number: of devices that there are; cells that ask for more take longer. None for as many as they ask for.
        """
        ends: dict[str, tuple[float, list[Estimate]]] = {}
        for cell in self.cells:  # each after those that it reads
            own = cell.device_hours / min(number or cell.devices, cell.devices)
            before = [ends[str(path)] for path in cell.node.inputs.values() if str(path) in ends]
            hours, way = max(before, key=lambda end: end[0], default=(0.0, []))
            ends[str(cell.node.folder)] = (hours + own, [*way, cell])
        return max(ends.values(), key=lambda end: end[0], default=(0.0, []))

    def wall_clock(self, number: int) -> float:
        """Hours on so many devices, none of which ever waits for a cell that could run."""
        return max(self.device_hours / number, self.chain(number)[0])

    def by_run(self) -> dict[str, list[Estimate]]:
        """The cells of each run: its pretraining, and the tasks that measure it."""
        found: dict[str, list[Estimate]] = {run: [] for run in self.study.runs}
        for cell in self.cells:
            found[cell.node.run].append(cell)
        return found

    def affordable(self, hours: float) -> dict[str, float]:
        """Runs that fit a budget, the cheapest first, each with the device-hours that it adds.

        A run is taken with the pretraining of its teachers, if no earlier one brought it, and all tasks that measure
        it; one of which a cell is not estimated is left out.
        """
        runs = self.by_run()
        cost = {run: (sum(c.device_hours for c in cells if c.node.stage == "pretrain"),
                      sum(c.device_hours for c in cells if c.node.stage != "pretrain"))
                for run, cells in runs.items() if all(c.work for c in cells)}  # fmt: skip
        trained: set[str] = set()
        taken: dict[str, float] = {}

        def added(run: str) -> float:
            chain = self._teachers(run)
            return sum(cost[one][0] for one in chain if one not in trained) + cost[run][1]

        left = [run for run in cost if all(teacher in cost for teacher in self._teachers(run))]
        while left:
            run = min(left, key=added)
            if added(run) > hours:
                break
            taken[run] = added(run)
            hours -= taken[run]
            trained.update(self._teachers(run))
            left.remove(run)
        return taken

    def _teachers(self, run: str) -> Sequence[str]:
        """A run and those that it learned from."""
        teacher = self.study.runs[run].teacher
        return [run] if teacher is None else [run, *self._teachers(teacher)]

    def too_large(self, cell: Estimate) -> bool:
        """Whether a step takes more memory than a device has, an estimate that is good to a tenth."""
        memory = self.device.memory_gib
        return bool(cell.work and memory and cell.work.memory(cell.devices) > memory * GIB)

    def accumulate(self, cell: Estimate) -> int:
        """As many micro-batches as let a cell's step fit a device, or those of its settings where none does."""
        assert cell.work
        times = micro_batches(cell.work, cell.devices, (self.device.memory_gib or math.inf) * GIB)
        return times * int(cell.node.settings["train"]["accumulate"])

    @property
    def unknown(self) -> Mapping[str, list[Estimate]]:
        """Cells that are not estimated, by reason."""
        found: dict[str, list[Estimate]] = {}
        for cell in self.cells:
            if cell.work is None:
                found.setdefault(cell.reason, []).append(cell)
        return found
