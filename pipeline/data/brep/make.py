"""Shapes made with OpenCASCADE: prisms, revolved profiles, and cuts that know which face came from which."""

from collections.abc import Sequence
from typing import Any, NamedTuple

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


def cut(shape: Any, tool: Any) -> Any:
    """OpenCASCADE's operation that takes a tool off a shape, done; it knows what became of each face."""
    from OCP.BRepAlgoAPI import BRepAlgoAPI_Cut

    return BRepAlgoAPI_Cut(shape, tool)


def joined(*shapes: Any) -> Any:
    """The union of shapes that overlap."""
    from OCP.BRepAlgoAPI import BRepAlgoAPI_Fuse

    whole, *rest = shapes
    for shape in rest:
        whole = BRepAlgoAPI_Fuse(whole, shape).Shape()
    return whole


def without(shape: Any, *tools: Any) -> Any:
    """A shape less tools."""
    for tool in tools:
        shape = cut(shape, tool).Shape()
    return shape


def single_solid(shape: Any) -> Any | None:
    """The solid that a shape consists of; None where there are others, or it is not valid."""
    from OCP.BRepCheck import BRepCheck_Analyzer
    from OCP.TopAbs import TopAbs_SOLID

    solids = parts_of(shape, TopAbs_SOLID)
    return solids[0] if len(solids) == 1 and BRepCheck_Analyzer(solids[0]).IsValid() else None


def carry_labels(operation: Any, before: Any, labels: Sequence[int], after: Any, new: int) -> list[int]:
    """Labels of the faces of a shape that an operation made of another.

    A face has the label of the face that it is, or a part, of; one that comes from none has the new label.
    """
    from OCP.TopAbs import TopAbs_FACE

    index = index_of(after, TopAbs_FACE)
    found = [new] * index.Extent()
    for face, label in zip(parts_of(before, TopAbs_FACE), labels, strict=True):
        if operation.IsDeleted(face):
            continue
        for descendant in list(operation.Modified(face)) or [face]:
            if place := index.FindIndex(descendant):
                found[place - 1] = label
    return found


def _axis(frame: Frame) -> Any:
    from OCP.gp import gp_Ax2, gp_Dir, gp_Pnt

    return gp_Ax2(gp_Pnt(*frame.origin), gp_Dir(*frame.c), gp_Dir(*frame.a))
