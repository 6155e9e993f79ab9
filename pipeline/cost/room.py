"""Room for a step: more micro-batches than a recipe says where devices are smaller than those it was written for."""

from __future__ import annotations

from pipeline.cost.encoders import Unknown
from pipeline.cost.estimate import GIB, micro_batches
from pipeline.cost.work import work_of
from pipeline.graph import Node


def make_room(node: Node, devices: int, memory: float) -> tuple[int, str]:
    """Micro-batches of a device for a pretraining to fit its memory, by estimate, and a line that says so.

    Where micro-batches change the result, or nothing is estimated, they are those of the settings. The line is empty
    where the step fits as it is.

    Args:
        node: a pretraining.
        devices: that share its steps.
        memory: of the smallest of them, in bytes.
    """
    train = node.settings["train"]
    given = int(train["accumulate"])
    try:
        work = work_of(node.study, node.stage, node.run)
    except Unknown:
        return given, ""
    taken = f"a step takes about {work.memory(devices) / GIB:.0f} GiB of each device, which has {memory / GIB:.0f}"
    if work.memory(devices) <= memory:
        return given, ""
    if "accumulate" in node.identity["train"]:
        return given, (f"{taken}; train.accumulate is {given} and stays so, since it is a part of this result; if that "
                       "is too much, change it in the study, or take more devices")  # fmt: skip
    share = int(train["batch_size"]) // devices
    wanted = given * micro_batches(work, devices, memory)
    number = next((parts for parts in range(wanted, share + 1) if share % parts == 0), given)
    if number == given:
        return given, f"{taken}, and no number of micro-batches helps; take more devices"
    return number, f"{taken}: {number} micro-batches in place of {given}, with the same result"
