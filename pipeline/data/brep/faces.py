"""Faces and their trimming: a surface S(u, v) that is clipped by the face's edges, sampled with signed distances.

The sampler of Jones et al. 2023 (arXiv:2210.10807). P points of a face, S straight and A circular pieces of its
boundary in (u, v).
"""

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial import cKDTree

MARGIN = 0.1  # beyond the face's box in (u, v), of its sides
KINDS = ("plane", "cylinder", "cone", "sphere", "torus")


class Surface(NamedTuple):
    """A surface in the part's frame.

    kind: place among `KINDS`, or -1 for splines and all others.
    scale: from the file's lengths, in which u and v are where they are lengths, to the part's frame.
    origin, x, y, z: (3,) each; z is the plane's normal or the axis.
    radius, minor: of cylinder, cone (at the origin), sphere and torus; the torus's tube. angle: of the cone, half.
    adaptor, shift: where `kind` is -1: OpenCASCADE's surface, and the middle of the part.
    """

    kind: int
    scale: float
    origin: np.ndarray
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    radius: float = 0.0
    minor: float = 0.0
    angle: float = 0.0
    adaptor: Any = None
    shift: np.ndarray = np.zeros(3)

    def at(self, uv: np.ndarray) -> np.ndarray:
        """Points of the surface: (P, 2) -> (P, 3)."""
        if self.kind == -1:
            points = [self.adaptor.Value(u, v).Coord() for u, v in uv.tolist()]
            return (np.array(points).reshape(-1, 3) - self.shift) * self.scale
        u, v = uv[:, :1], uv[:, 1:]
        if self.kind == 0:
            return self.origin + self.scale * (u * self.x + v * self.y)
        turn = np.cos(u) * self.x + np.sin(u) * self.y
        if self.kind in (1, 2):  # a cylinder is a cone without an angle
            along = self.scale * v
            turn *= self.radius + along * math.sin(self.angle)
            return self.origin + turn + along * math.cos(self.angle) * self.z
        if self.kind == 3:
            return self.origin + self.radius * (np.cos(v) * turn + np.sin(v) * self.z)
        return self.origin + (self.radius + self.minor * np.cos(v)) * turn + self.minor * np.sin(v) * self.z


class Boundary(NamedTuple):
    """The pieces of a face's boundary in (u, v), where all are straight or circular.

    segments: (S, 4), from and to. arcs: (A, 5), centre, radius, and the angles between which it runs, in this order.
    """

    segments: np.ndarray
    arcs: np.ndarray

    def holds(self, uv: np.ndarray) -> np.ndarray:
        """(P, 2) -> (P,) whether a ray from there to the right crosses the boundary an odd number of times."""
        u, v = uv[:, :1], uv[:, 1:]
        u0, v0, u1, v1 = self.segments.T
        spans = (v0 > v) != (v1 > v)
        with np.errstate(divide="ignore", invalid="ignore"):
            crossed = (spans & (u < u0 + (v - v0) * (u1 - u0) / (v1 - v0))).sum(axis=1)
        if len(self.arcs):
            cu, cv, radius, start, end = self.arcs.T
            height = (v - cv) / radius
            reached = np.abs(height) < 1
            width = np.sqrt(np.where(reached, 1 - height**2, 0))
            for side in (width, -width):
                turn = (np.arctan2(height, side) - start) % (2 * np.pi)
                crossed += (reached & (u < cu + radius * side) & (turn < end - start)).sum(axis=1)
        return crossed % 2 == 1


def boundary_of(face: Any) -> Boundary | None:
    """The face's boundary in (u, v); None where a piece is neither straight nor circular."""
    from OCP.BRepAdaptor import BRepAdaptor_Curve2d
    from OCP.GeomAbs import GeomAbs_Circle, GeomAbs_Line
    from OCP.TopAbs import TopAbs_EDGE
    from OCP.TopExp import TopExp_Explorer
    from OCP.TopoDS import TopoDS

    segments, arcs = [], []
    explorer = TopExp_Explorer(face, TopAbs_EDGE)
    while explorer.More():  # an edge at which a closed surface meets itself comes twice, with a curve each
        curve = BRepAdaptor_Curve2d(TopoDS.Edge_s(explorer.Current()), face)
        first, last = curve.FirstParameter(), curve.LastParameter()
        if curve.GetType() == GeomAbs_Line:
            segments.append((*curve.Value(first).Coord(), *curve.Value(last).Coord()))
        elif curve.GetType() == GeomAbs_Circle:
            circle = curve.Circle()
            centre = circle.Location()
            ends = [_angle(curve.Value(place), centre) for place in (first, last)]
            if not circle.IsDirect():
                ends.reverse()
            arcs.append((*centre.Coord(), circle.Radius(), ends[0], ends[0] + last - first))
        else:
            return None
        explorer.Next()
    return Boundary(np.array(segments).reshape(-1, 4), np.array(arcs).reshape(-1, 5))


def _angle(point: Any, centre: Any) -> float:
    return math.atan2(point.Y() - centre.Y(), point.X() - centre.X())


def inside(face: Any, uv: np.ndarray, boundary: Boundary | None, periods: tuple[float, float]) -> np.ndarray:
    """Whether points lie in a trimmed face: (P, 2) -> (P,).

    By crossings of the boundary where it is straight and circular, else by OpenCASCADE, point by point.

    Args:
        periods: of the surface in u and v, 0 where it has none; a point is inside if any of its images is.
    """
    if boundary is None:
        from OCP.BRepTopAdaptor import BRepTopAdaptor_FClass2d
        from OCP.gp import gp_Pnt2d
        from OCP.TopAbs import TopAbs_IN

        perform = BRepTopAdaptor_FClass2d(face, 1e-9).Perform
        return np.array([perform(gp_Pnt2d(u, v)) == TopAbs_IN for u, v in uv.tolist()])
    images = [(u, v) for u in {-periods[0], 0.0, periods[0]} for v in {-periods[1], 0.0, periods[1]}]
    return np.any([boundary.holds(uv + image) for image in images], axis=0)


def sample(
    face: Any, surface: Surface, num_reference: int, num_points: int, near_share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Points in and around a face.

    Args:
        num_reference: points of the face's box and its margin that are told apart as inside or outside.
        num_points: N that are kept.
        near_share: of these, those nearest to the boundary; the rest is drawn from all others.

    Returns:
        (N, 2) places in the box, which is the unit square; (N, 4) points in the part's frame and their distance in the
        unit square to the nearest reference point of the other side, negative inside; both in random order.

    Raises:
        ValueError: the face is degenerate: its box is, or nothing was found to lie inside.
    """
    from OCP.BRepAdaptor import BRepAdaptor_Surface
    from OCP.BRepTools import BRepTools

    u0, u1, v0, v1 = BRepTools.UVBounds_s(face)
    low, size = np.array([u0, v0]), np.array([u1 - u0, v1 - v0])
    if not (np.isfinite(size).all() and (size > 1e-9).all() and np.abs(low).max() < 1e50):
        raise ValueError("a face of it is degenerate: it has no extent in (u, v)")
    unit = rng.uniform(-MARGIN, 1 + MARGIN, (num_reference, 2))
    uv = low + unit * size
    adaptor = BRepAdaptor_Surface(face)
    periods = (
        adaptor.UPeriod() if adaptor.IsUPeriodic() else 0.0,
        adaptor.VPeriod() if adaptor.IsVPeriodic() else 0.0,
    )
    within = inside(face, uv, boundary_of(face), periods)
    if not within.any():
        raise ValueError("a face of it is degenerate: no point was found inside")
    distance = np.zeros(num_reference)  # of a face that closes on itself, which has no outside
    if not within.all():
        distance[within] = -cKDTree(unit[~within], compact_nodes=False, balanced_tree=False).query(unit[within])[0]
        distance[~within] = cKDTree(unit[within], compact_nodes=False, balanced_tree=False).query(unit[~within])[0]
    near = int(near_share * num_points)
    order = np.argsort(np.abs(distance), kind="stable")
    kept = rng.permutation(np.concatenate([order[:near], rng.permutation(order[near:])[: num_points - near]]))
    return unit[kept], np.column_stack([surface.at(uv[kept]), distance[kept]])
