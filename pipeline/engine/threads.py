"""How many threads a stage computes with: what its cell asked for, never what the environment happens to say.

Sums over several threads are rounded in another order than over one, so the number of threads is part of a result.
"""

import os
from contextlib import suppress

import cv2
import torch
from threadpoolctl import threadpool_limits

POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def set_threads(num: int) -> None:
    """Compute with this many threads from now on, in this process and in those that it starts.

    A stage calls it first. PyTorch, OpenMP, MKL, NumPy's and OpenCV's pools are set, and the environment for libraries
    that are loaded later; the cost of a training tells the number (`num_threads`).

    Args:
        num: CPUs of the cell over the processes that share them, 1 or more.
    """
    if num < 1:
        raise ValueError(f"num is {num}; expected 1 or more threads")
    os.environ.update(dict.fromkeys(POOLS, str(num)))
    os.environ |= {"OMP_DYNAMIC": "FALSE", "MKL_DYNAMIC": "FALSE"}  # or fewer may be taken where a machine is busy
    threadpool_limits(num)
    torch.set_num_threads(num)
    with suppress(RuntimeError):  # it can be set once only, before the first operation that uses it
        torch.set_num_interop_threads(num)
    cv2.setNumThreads(num)
