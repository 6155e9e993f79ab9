"""The group of processes that a stage runs in. Short cells import it too, so it brings nothing of training with it."""

import os

import torch
from mmengine import dist


def connect() -> None:
    """Join the process group that torchrun announces in the environment, if it does and we have not yet."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_distributed():
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
