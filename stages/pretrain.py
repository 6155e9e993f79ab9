"""Train one run of the study, from its recipe, at one seed.

Reads:  data/<images>/manifest.json, and the teacher's results/<study>/pretrain/<teacher>-<seed>/manifest.json
Writes: results/<study>/pretrain/<run>-<seed>/{manifest.json, files/}: encoder.safetensors (timm's keys),
        method.safetensors (everything the method holds), log.jsonl, pictures.png, snapshot-<step>.png;
        phases.json, the results of a method's phases where it has several

Interrupted, it resumes from its last checkpoint when the same command is run again.
"""

import sys

from pipeline.cell import Cell
from pipeline.engine.launch import maybe_launch
from stages import loading, stage


def main() -> None:
    maybe_launch(sys.argv)  # over several GPUs or nodes, where they were granted
    with stage("pretrain", __doc__) as cell:
        with loading():
            from pipeline.engine.pretrain import pretrain
            from pipeline.engine.threads import set_threads

        set_threads(cell.settings["threads"])
        _make_room(cell)
        pretrain(cell)


def _make_room(cell: Cell) -> None:
    """Take a step in more micro-batches where GPUs are smaller than those that the recipe was written for."""
    import torch

    if not torch.cuda.is_available() or "train" not in cell.settings:
        return
    from mmengine import dist

    from pipeline.cost.room import make_room
    from pipeline.engine.processes import connect

    connect()
    memory = torch.tensor(float(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory))
    dist.all_reduce(memory, "min")  # all processes take the same number, whatever their GPUs
    number, told = make_room(cell.node, dist.get_world_size(), float(memory))
    cell.settings["train"]["accumulate"] = number
    if told and dist.is_main_process():
        print(told, flush=True)


if __name__ == "__main__":
    main()
