"""Samples of faces against OpenCASCADE, point by point, and against a slow rewrite."""

import numpy as np
import pytest
from OCP.BRepAdaptor import BRepAdaptor_Surface
from OCP.BRepTools import BRepTools
from OCP.TopAbs import TopAbs_FACE
from OCP.TopoDS import TopoDS

from pipeline.data.brep.faces import boundary_of, inside, sample
from pipeline.data.brep.graph import surface_of
from pipeline.data.brep.step import parts_of, read_step

MIDDLE, SCALE = np.array([1.0, 2.0, 3.0]), 0.3


@pytest.fixture(scope="module")
def faces(machined_file):
    return [TopoDS.Face_s(face) for face in parts_of(read_step(machined_file)[0], TopAbs_FACE)]


def places(face, count=400):
    u0, u1, v0, v1 = BRepTools.UVBounds_s(face)
    unit = np.random.default_rng(0).uniform(-0.1, 1.1, (count, 2))
    return np.array([u0, v0]) + unit * np.array([u1 - u0, v1 - v0])


def test_surfaces_of_all_kinds_are_where_opencascade_has_them(faces):
    kinds = set()
    for face in faces:
        surface, uv = surface_of(face, MIDDLE, SCALE), places(face)
        kinds.add(surface.kind)
        truth = (np.array([BRepAdaptor_Surface(face).Value(*pair).Coord() for pair in uv.tolist()]) - MIDDLE) * SCALE
        assert np.allclose(surface.at(uv), truth, atol=1e-9)
        other = surface._replace(kind=-1, adaptor=BRepAdaptor_Surface(face), shift=MIDDLE)
        assert np.allclose(other.at(uv), truth, atol=1e-12)
    assert kinds == {0, 1, 2, 3, 4}


def test_what_is_inside_is_so_for_opencascade(faces):
    arcs = 0
    for face in faces:
        adaptor, uv, boundary = BRepAdaptor_Surface(face), places(face), boundary_of(face)
        periods = (
            adaptor.UPeriod() if adaptor.IsUPeriodic() else 0.0,
            adaptor.VPeriod() if adaptor.IsVPeriodic() else 0.0,
        )
        found, truth = inside(face, uv, boundary, periods), inside(face, uv, None, periods)
        assert np.array_equal(found, truth) and truth.sum() > 0
        arcs += len(boundary.arcs)
    assert arcs > 0, "no face had a round boundary"


def test_distances_are_those_to_the_nearest_point_of_the_other_side(faces):
    for face in faces[:4] + faces[-4:]:
        surface = surface_of(face, MIDDLE, SCALE)
        unit, points = sample(face, surface, 200, 200, 0.4, np.random.default_rng(1))  # all that were drawn
        u0, u1, v0, v1 = BRepTools.UVBounds_s(face)
        uv = np.array([u0, v0]) + unit * np.array([u1 - u0, v1 - v0])
        assert np.allclose(points[:, :3], surface.at(uv))
        within = points[:, 3] < 0
        for place in range(0, 200, 17):
            other = unit[within != within[place]]
            nearest = min(((unit[place] - one) ** 2).sum() for one in other) ** 0.5
            assert abs(points[place, 3]) == pytest.approx(nearest)


def test_the_nearest_to_the_boundary_are_kept(faces):
    surface = surface_of(faces[0], MIDDLE, SCALE)
    every = np.abs(sample(faces[0], surface, 300, 300, 0.0, np.random.default_rng(2))[1][:, 3])
    kept = np.abs(sample(faces[0], surface, 300, 50, 0.4, np.random.default_rng(2))[1][:, 3])
    nearest = np.sort(every)[:20]
    assert np.isin(nearest, kept).all() and len(kept) == 50
    assert not np.array_equal(np.sort(kept), kept), "a step takes some in a row: they stand in random order"
