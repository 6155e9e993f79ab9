"""Machined parts: a feature's faces lie where it was placed, and nowhere else."""

import numpy as np
import pytest
from OCP.BRepGProp import BRepGProp
from OCP.GProp import GProp_GProps
from OCP.TopAbs import TopAbs_FACE
from OCP.TopoDS import TopoDS

from pipeline.data.brep.features import FEATURES, SIDE, STOCK
from pipeline.data.brep.graph import _mesh
from pipeline.data.brep.step import parts_of
from pipeline.data.sources.solids import machined


@pytest.fixture
def placed(monkeypatch):
    """The features of the part that was made last."""
    seen = []
    real = machined._made
    monkeypatch.setattr(machined, "_made", lambda features: seen.append(features) or real(features))
    return seen


def volume_of(shape):
    found = GProp_GProps()
    BRepGProp.VolumeProperties_s(shape, found)
    return found.Mass()


@pytest.mark.parametrize("kind", FEATURES)
def test_faces_of_a_feature_lie_in_the_box_that_it_takes(placed, kind):
    rng = np.random.default_rng(kind)
    shape, labels = next(filter(None, (machined.build([kind, 2, 0], rng) for _ in range(20))))
    boxes = placed[-1]
    corners, triangles = _mesh(shape, [TopoDS.Face_s(face) for face in parts_of(shape, TopAbs_FACE)])
    for number, label in enumerate(labels):
        mine = corners[triangles[triangles[:, 3] == number, :3]].reshape(-1, 3)
        low, high = mine.min(axis=0), mine.max(axis=0)
        within = [feature.kind for feature in boxes if (low >= feature.box[0] - 1e-5).all()
                  and (high <= feature.box[1] + 1e-5).all()]  # fmt: skip
        inner = label == STOCK and within == [19]  # what a ring groove leaves in its middle
        assert inner or within == [label] * (label != STOCK)


def test_each_tool_takes_its_own_volume_off(placed):
    shape, _ = next(filter(None, (machined.build([6, 2, 10], np.random.default_rng(1)) for _ in range(20))))
    boxes = [feature.box for feature in placed[-1]]
    taken = sum(np.prod(high - low) for low, high in boxes)
    assert volume_of(shape) == pytest.approx(SIDE**3 - taken, rel=1e-6)
