"""Readers that take turns on one core, batch by batch, so that each batch gives a ratio on however busy a machine."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import cv2
import torch

# A batch by the numbers of its samples, which go on being counted in the next epoch, which draws anew.
Read = Callable[[list[int]], object]


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch and OpenCV keep to one."""
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])


def compared(readers: Mapping[str, Read], numbers: range, size: int) -> Iterator[tuple[str, float, float, float]]:
    """Each reader against the first one.

    Args:
        readers: by name.
        numbers: of the samples. size: of a batch.

    Yields:
        name, processor milliseconds a sample of the first reader and of this one, and their ratio; medians of batches.
    """
    for read in readers.values():
        read([0])
    batches = [list(numbers[first : first + size]) for first in range(0, len(numbers), size)]
    rounds = [{name: milliseconds(read, batch) for name, read in readers.items()} for batch in batches]
    reference, *others = readers
    for name in others:
        slow, fast = (statistics.median(row[column] for row in rounds) for column in (reference, name))
        yield name, slow, fast, statistics.median(row[reference] / row[name] for row in rounds)


def milliseconds(read: Read, numbers: list[int]) -> float:
    started = time.process_time()
    read(numbers)
    return (time.process_time() - started) / len(numbers) * 1e3
