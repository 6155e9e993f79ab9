"""Solids as graphs: what is counted, where frames lie, and what no part may be."""

import re
from collections import Counter

import numpy as np
import pytest
from OCP.BRepBuilderAPI import BRepBuilderAPI_NurbsConvert
from OCP.TopAbs import TopAbs_FACE

from pipeline.data.brep import graph, make, step
from pipeline.data.brep.graph import read_part
from pipeline.data.brep.step import parts_of, write_step
from tests.data.brep.conftest import SAMPLING, block


def numbered(shape):
    return write_step(shape, [str(place) for place in range(len(parts_of(shape, TopAbs_FACE)))])


def test_a_block_is_what_it_is():
    part = read_part(numbered(block(10.0, 4.0)), SAMPLING)
    faces, edges = part.arrays["faces"], part.arrays["edges"]
    assert {name: len(part.arrays[name]) for name in ("faces", "edges", "vertices", "ends", "coedges", "adjacent")} == {
        "faces": 6, "edges": 12, "vertices": 8, "ends": 24, "coedges": 24, "adjacent": 12,
    }  # fmt: skip
    assert np.abs(part.arrays["vertices"]).max(axis=0) == pytest.approx([1, 1, 0.4])
    assert (faces[:, 0] == 1).all() and (faces[:, 1:5] == 0).all() and (edges[:, 0] == 1).all()
    origins, normals = faces[:, 5:8], faces[:, 8:11]
    assert np.allclose(origins, normals * (origins * normals).sum(1, keepdims=True), atol=1e-6)
    outwards = np.where(faces[:, -1:] == 1, -normals, normals)
    assert np.allclose((origins * outwards).sum(1), np.abs(origins).max(axis=1), atol=1e-6), "flipped: normals point in"
    line, direction = edges[:, 3:6], edges[:, 6:9]
    assert np.allclose((line * direction).sum(1), 0, atol=1e-6), "a line's origin is its point nearest to the middle"


def test_every_edge_starts_at_one_vertex_and_is_run_once_in_each_direction(machined_file):
    arrays = read_part(machined_file, SAMPLING).arrays
    directions = {}
    for edge, _, against in arrays["coedges"].tolist():
        directions.setdefault(edge, []).append(against)
    assert all(sorted(both) == [0, 1] for both in directions.values()) and len(directions) == len(arrays["edges"])
    starts = Counter(edge for _, edge, start in arrays["ends"].tolist() if start)
    assert set(starts.values()) == {1} and len(starts) == len(arrays["edges"])
    for vertex, edge, start in arrays["ends"].tolist():
        row = arrays["edges"][edge]
        if row[0] and start:  # of a line, the other end lies along its direction, or against it where it is flipped
            other = next(v for v, e, s in arrays["ends"].tolist() if e == edge and not s)
            along = (arrays["vertices"][other] - arrays["vertices"][vertex]) @ row[6:9]
            assert (along > 0) == (row[-1] == 0)


def test_the_order_of_faces_and_their_names_survive_writing(machined_part, machined_file):
    shape, labels = machined_part
    solid, names = step.read_step(machined_file)
    assert names == [str(place) for place in range(len(labels))]
    middle = np.zeros(3)
    for before, after in zip(parts_of(shape, TopAbs_FACE), parts_of(solid, TopAbs_FACE), strict=True):
        from OCP.TopoDS import TopoDS

        first, second = (graph.surface_of(TopoDS.Face_s(face), middle, 1.0) for face in (before, after))
        assert first.kind == second.kind and np.allclose(first.origin, second.origin, atol=1e-6)
        assert np.allclose([first.radius, first.minor], [second.radius, second.minor], atol=1e-6)


def test_moving_and_scaling_a_part_change_nothing(machined_file):
    near, far = (read_part(numbered(block(10 * size, 4 * size, at)), SAMPLING).arrays
                 for size, at in ((1, (0, 0, 0)), (25, (300, -70, 5))))  # fmt: skip
    for name in ("faces", "edges", "vertices", "ends", "coedges"):
        assert np.allclose(near[name], far[name], atol=1e-5), name
    metres = machined_file.replace(b"SI_UNIT(.MILLI.,.METRE.)", b"SI_UNIT($,.METRE.)")
    assert metres != machined_file
    there, here = read_part(metres, SAMPLING).arrays, read_part(machined_file, SAMPLING).arrays
    assert all(np.allclose(there[name], here[name], atol=1e-4) for name in ("faces", "edges", "vertices"))


def test_the_same_file_gives_the_same_numbers(machined_file):
    first, second = (read_part(machined_file, SAMPLING).arrays for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_unknown_surfaces_are_counted_and_described_by_nothing():
    tube = make.revolved(make.WORLD, [(1, 0), (2, 0), (2, 3), (1, 3)])
    shape = BRepBuilderAPI_NurbsConvert(tube).Shape()
    part = read_part(numbered(shape), SAMPLING)
    assert part.unknown == 4 and (part.arrays["faces"][:, :-1] == 0).all()
    assert np.abs(part.arrays["points"][..., :3]).max() < 1.5


def open_box():
    """A solid whose shell lacks a side."""
    from OCP.BRep import BRep_Builder
    from OCP.TopoDS import TopoDS_Shell, TopoDS_Solid

    builder, shell, solid = BRep_Builder(), TopoDS_Shell(), TopoDS_Solid()
    builder.MakeShell(shell)
    for face in parts_of(block(), TopAbs_FACE)[:5]:
        builder.Add(shell, face)
    builder.MakeSolid(solid)
    builder.Add(solid, shell)
    return solid


def two_blocks():
    from OCP.BRep import BRep_Builder
    from OCP.TopoDS import TopoDS_Compound

    builder, both = BRep_Builder(), TopoDS_Compound()
    builder.MakeCompound(both)
    for at in ((0, 0, 0), (50, 0, 0)):
        builder.Add(both, block(at=at))
    return both


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (lambda: b"", "it is empty"),
        (lambda: b"solid ascii", "does not begin with ISO-10303-21"),
        (lambda: numbered(block())[:9000], "cut off"),
        (lambda: b"ISO-10303-21;\nHEADER;\nENDSEC;\nDATA;\nENDSEC;\nEND-ISO-10303-21;\n", "it holds no shape"),
        (lambda: re.sub(rb"(#15 = MANIFOLD_SOLID_BREP\('',)#\d+", rb"\1#99999", numbered(block())), "no shape"),
        (lambda: numbered(two_blocks()), "2 solid bodies; expected one"),
        (lambda: numbered(parts_of(block(), TopAbs_FACE)[0]), "0 solid bodies"),
        (lambda: numbered(open_box()), r"0 solid bodies \(a shell with free edges is none\)"),
        (lambda: numbered(block(10.0, 1e-6)), "a face of it is degenerate: it has no triangles"),
    ],
)  # fmt: skip
def test_what_is_no_part_is_told_in_one_line(data, told):
    with pytest.raises(ValueError, match=told) as found:
        read_part(data(), SAMPLING)
    assert "\n" not in str(found.value)


def test_free_edges_are_counted():
    with pytest.raises(ValueError, match="4 of its edges are free: one face has each; expected a closed solid"):
        graph.describe(open_box(), [], SAMPLING, np.random.default_rng(0))


def test_bombs_are_not_lit(monkeypatch, machined_file):
    monkeypatch.setattr(step, "MOST_ENTITIES", 500)
    with pytest.raises(ValueError, match=r"[\d,]+ entities; expected at most 500"):
        read_part(machined_file, SAMPLING)
    monkeypatch.setattr(step, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match=r"bytes; expected at most 1,000"):
        read_part(machined_file, SAMPLING)


def test_only_simple_parts(machined_file):
    from dataclasses import replace

    with pytest.raises(ValueError, match=r"\d+ faces; expected at most 5"):
        read_part(machined_file, replace(SAMPLING, most_faces=5))
    with pytest.raises(ValueError, match=r"a face of it has \d+ edges; expected at most 2"):
        read_part(machined_file, replace(SAMPLING, most_edges=2))
