"""Shapes made with OpenCASCADE: prisms, revolved profiles, and cuts that know which face came from which."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline.data.brep.step import index_of, parts_of

Vector = Sequence[float]


class Frame(NamedTuple):
    """A place with the directions a, b and c = a × b in which something is drawn."""

    origin: Vector
    a: Vector
    b: Vector

    @property
    def c(self) -> tuple[float, float, float]:
        (x, y, z), (u, v, w) = self.a, self.b
        return (y * w - z * v, z * u - x * w, x * v - y * u)

    def at(self, a: float, b: float, c: float = 0.0) -> tuple[float, ...]:
        """A point by its coordinates here."""
        steps = zip(self.origin, self.a, self.b, self.c, strict=True)
        return tuple(o + a * x + b * y + c * z for o, x, y, z in steps)


WORLD = Frame((0, 0, 0), (1, 0, 0), (0, 1, 0))


def polygon(points: Sequence[Vector]) -> Any:
    """A flat face with these corners."""
    from OCP.BRepBuilderAPI import BRepBuilderAPI_MakeFace, BRepBuilderAPI_MakePolygon
    from OCP.gp import gp_Pnt

    wire = BRepBuilderAPI_MakePolygon()
    for point in points:
        wire.Add(gp_Pnt(*point))
    wire.Close()
    return BRepBuilderAPI_MakeFace(wire.Wire()).Face()


def prism(frame: Frame, corners: Sequence[Vector], depth: float) -> Any:
    """A polygon of (a, b) corners, extruded along c."""
    from OCP.BRepPrimAPI import BRepPrimAPI_MakePrism
    from OCP.gp import gp_Vec

    face = polygon([frame.at(*corner) for corner in corners])
    return BRepPrimAPI_MakePrism(face, gp_Vec(*(depth * c for c in frame.c))).Shape()


def revolved(frame: Frame, profile: Sequence[Vector]) -> Any:
    """A polygon of (radius, height) corners, turned around c at the frame's origin."""
    from OCP.BRepPrimAPI import BRepPrimAPI_MakeRevol

    return BRepPrimAPI_MakeRevol(polygon([frame.at(r, 0, h) for r, h in profile]), _axis(frame).Axis()).Shape()


def ball(frame: Frame, radius: float) -> Any:
    """A sphere around the frame's origin."""
    from OCP.BRepPrimAPI import BRepPrimAPI_MakeSphere

    return BRepPrimAPI_MakeSphere(_axis(frame), radius).Shape()


def ring(frame: Frame, radius: float, minor: float) -> Any:
    """A torus around c."""
    from OCP.BRepPrimAPI import BRepPrimAPI_MakeTorus

    return BRepPrimAPI_MakeTorus(_axis(frame), radius, minor).Shape()


def cut(shape: Any, *tools: Any) -> Any:
    """OpenCASCADE's operation that takes tools off a shape, done; it knows what became of each face."""
    from OCP.BRepAlgoAPI import BRepAlgoAPI_Cut
    from OCP.TopTools import TopTools_ListOfShape

    operation, lists = BRepAlgoAPI_Cut(), (TopTools_ListOfShape(), TopTools_ListOfShape())
    for shapes, given in zip(lists, ((shape,), tools), strict=True):
        for one in given:
            shapes.Append(one)
    operation.SetArguments(lists[0])
    operation.SetTools(lists[1])
    operation.Build()
    return operation


def joined(*shapes: Any) -> Any:
    """The union of shapes that overlap."""
    from OCP.BRepAlgoAPI import BRepAlgoAPI_Fuse

    whole, *rest = shapes
    for shape in rest:
        whole = BRepAlgoAPI_Fuse(whole, shape).Shape()
    return whole


def without(shape: Any, *tools: Any) -> Any:
    """A shape less tools."""
    return cut(shape, *tools).Shape()


def edge_between(shape: Any, start: Vector, end: Vector) -> Any:
    """The edge of a shape that joins two points, whichever way it runs."""
    from OCP.BRep import BRep_Tool
    from OCP.TopAbs import TopAbs_EDGE
    from OCP.TopExp import TopExp
    from OCP.TopoDS import TopoDS

    for part in parts_of(shape, TopAbs_EDGE):
        edge = TopoDS.Edge_s(part)
        found = [BRep_Tool.Pnt_s(vertex(edge)).Coord() for vertex in (TopExp.FirstVertex_s, TopExp.LastVertex_s)]
        if any(np.allclose(found, wanted, atol=1e-6) for wanted in ((start, end), (end, start))):
            return edge
    raise ValueError(f"no edge from {tuple(start)} to {tuple(end)}")


def single_solid(shape: Any) -> Any | None:
    """The solid that a shape consists of; None where there are others, or it is not valid."""
    from OCP.BRepCheck import BRepCheck_Analyzer
    from OCP.TopAbs import TopAbs_SOLID

    solids = parts_of(shape, TopAbs_SOLID)
    return solids[0] if len(solids) == 1 and BRepCheck_Analyzer(solids[0]).IsValid() else None


def carry_labels(operation: Any, before: Iterable[tuple[Any, int]], after: Any, new: int) -> list[int]:
    """Labels of the faces of a shape that an operation made.

    Args:
        before: faces that it was made of, with their labels: a face has that of the one that it is, or a part, of.
        new: label of a face that comes from none.
    """
    from OCP.TopAbs import TopAbs_FACE

    index = index_of(after, TopAbs_FACE)
    found = [new] * index.Extent()
    for face, label in before:
        if operation.IsDeleted(face):
            continue
        parts = operation.Modified(face)
        count = parts.Extent()  # to iterate takes OCP longer than the operation itself
        for descendant in list(parts) if count > 1 else [parts.First() if count else face]:
            if place := index.FindIndex(descendant):
                found[place - 1] = label
    return found


def _axis(frame: Frame) -> Any:
    from OCP.gp import gp_Ax2, gp_Dir, gp_Pnt

    return gp_Ax2(gp_Pnt(*frame.origin), gp_Dir(*frame.c), gp_Dir(*frame.a))
