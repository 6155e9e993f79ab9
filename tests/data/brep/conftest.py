"""Solids that tests stand on."""

import numpy as np
import pytest

from pipeline.data.brep import make
from pipeline.data.brep.graph import Sampling
from pipeline.data.brep.step import write_step
from pipeline.data.sources.solids import machined

SAMPLING = Sampling(num_reference=300, num_points=64, near_share=0.4, most_faces=200, most_edges=60)


def block(side=10.0, depth=4.0, at=(0.0, 0.0, 0.0)):
    frame = make.Frame(at, (1, 0, 0), (0, 1, 0))
    return make.prism(frame, [(0, 0), (side, 0), (side, side), (0, side)], depth)


@pytest.fixture(scope="session")
def machined_part():
    """A part with holes, a ring groove, a ball's pocket and a round: all kinds of surface; its labels."""
    rng = np.random.default_rng(3)
    found = None
    while found is None:
        found = machined.build([16, 17, 18, 19, 20], rng)
    return found


@pytest.fixture(scope="session")
def machined_file(machined_part):
    shape, labels = machined_part
    return write_step(shape, [str(place) for place in range(len(labels))])
