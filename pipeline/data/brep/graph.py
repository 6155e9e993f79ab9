"""A solid as a graph of numbers: its faces, edges and vertices, how they meet, and samples of each face.

Jones et al. 2023 (arXiv:2210.10807). The part is moved and scaled into [-1, 1]³ by the box of its triangles; what
lies anywhere on an unbounded surface or line, its origin, is moved to the point nearest to the middle.
F faces, E edges, V vertices, N samples.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pipeline.data.brep.faces import KINDS, Surface, sample
from pipeline.data.brep.step import index_of, parts_of, read_step

FACE, EDGE = len(KINDS) + 16, 18  # numbers of a face and of an edge
FAR = 5.0  # in the part's frame: samples beyond it are those of a surface that runs away


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How faces are sampled, see `pipeline.data.brep.faces.sample`, and what a simple part is.

    most_faces, most_edges: of a part, and of its largest face.
    """

    num_reference: int
    num_points: int
    near_share: float
    most_faces: int
    most_edges: int


class Part(NamedTuple):
    """What is kept of a solid.

    arrays: faces (F, 21): kind, one-hot; origin, normal, axis, x direction, radius, minor radius, half angle; flipped.
        edges (E, 18): line, circle or ellipse, one-hot; origin, direction of a line, axis, x direction, radii; flipped.
        vertices (V, 3). ends (·, 3): vertex, edge, whether it is where the edge starts. coedges (·, 3): edge, face,
        whether the face's loop runs against the edge. adjacent (·, 3): two faces and the edge between them.
        coordinates (F, N, 2) and points (F, N, 4), see `sample`. mesh_points (·, 3) and mesh (·, 4): triangles, each
        with its face. float32 and int32.
    names: of its faces.
    unknown: faces whose surface is none of `KINDS`.
    """

    arrays: dict[str, np.ndarray]
    names: list[str]
    unknown: int


def read_part(data: bytes, sampling: Sampling) -> Part:
    """The one solid of a STEP file; the same bytes give the same numbers.

    Raises:
        ValueError: the file holds no solid that can be used, see `read_step`, or an open or degenerate one.
    """
    solid, names = read_step(data)
    seed = int.from_bytes(hashlib.sha256(data).digest()[:8], "little")
    return describe(solid, names, sampling, np.random.default_rng(seed))


def describe(solid: Any, names: list[str], sampling: Sampling, rng: np.random.Generator) -> Part:
    """A solid as a part. Raises ValueError where it is open, degenerate or no simple part."""
    from OCP.BRep import BRep_Tool
    from OCP.TopAbs import TopAbs_EDGE, TopAbs_FACE, TopAbs_REVERSED, TopAbs_VERTEX
    from OCP.TopoDS import TopoDS

    faces = [TopoDS.Face_s(face) for face in parts_of(solid, TopAbs_FACE)]
    if len(faces) > sampling.most_faces:
        raise ValueError(f"{len(faces)} faces; expected at most {sampling.most_faces}")
    corners, mesh = _mesh(solid, faces)
    low, high = corners.min(axis=0), corners.max(axis=0)
    middle, scale = (low + high) / 2, 2 / (high - low).max()
    found = [surface_of(face, middle, scale) for face in faces]
    arrays = _topology(solid, faces, sampling.most_edges)
    arrays["vertices"] = np.array(
        [BRep_Tool.Pnt_s(TopoDS.Vertex_s(vertex)).Coord() for vertex in parts_of(solid, TopAbs_VERTEX)]
    ).reshape(-1, 3)
    arrays["vertices"] = (arrays["vertices"] - middle) * scale
    arrays["edges"] = np.array(
        [edge_row(TopoDS.Edge_s(edge), middle, scale) for edge in parts_of(solid, TopAbs_EDGE) if not _degenerate(edge)]
    ).reshape(-1, EDGE)
    flags = [face.Orientation() == TopAbs_REVERSED for face in faces]
    arrays["faces"] = np.array([face_row(surface, flag) for surface, flag in zip(found, flags, strict=True)])
    sampled = [sample(face, surface, sampling.num_reference, sampling.num_points, sampling.near_share, rng)
               for face, surface in zip(faces, found, strict=True)]  # fmt: skip
    arrays["coordinates"], arrays["points"] = (np.stack(column) for column in zip(*sampled, strict=True))
    arrays["mesh_points"], arrays["mesh"] = (corners - middle) * scale, mesh
    floats = [name for name, values in arrays.items() if values.dtype.kind == "f"]
    if any(not np.isfinite(arrays[name]).all() for name in floats) or np.abs(arrays["points"][..., :3]).max() > FAR:
        raise ValueError(f"a surface of it runs away: beyond {FAR:g} times half its size")
    arrays = {name: values.astype(np.float32 if name in floats else np.int32) for name, values in arrays.items()}
    return Part(arrays, names, sum(surface.kind == -1 for surface in found))


def surface_of(face: Any, middle: np.ndarray, scale: float) -> Surface:
    """A face's surface in the part's frame, as OpenCASCADE parametrises it."""
    from OCP import GeomAbs
    from OCP.BRepAdaptor import BRepAdaptor_Surface

    adaptor = BRepAdaptor_Surface(face)
    kinds = (GeomAbs.GeomAbs_Plane, GeomAbs.GeomAbs_Cylinder, GeomAbs.GeomAbs_Cone, GeomAbs.GeomAbs_Sphere,
             GeomAbs.GeomAbs_Torus)  # fmt: skip
    kind = kinds.index(adaptor.GetType()) if adaptor.GetType() in kinds else -1
    if kind == -1:
        zero = np.zeros(3)
        return Surface(kind, scale, zero, zero, zero, zero, adaptor=adaptor, shift=middle)
    form = (adaptor.Plane, adaptor.Cylinder, adaptor.Cone, adaptor.Sphere, adaptor.Torus)[kind]()
    place = form.Position()
    origin, x, y, z = (np.array(value.Coord()) for value in (place.Location(), place.XDirection(), place.YDirection(),
                                                             place.Direction()))  # fmt: skip
    sizes = {1: lambda: (form.Radius(), 0.0, 0.0), 2: lambda: (form.RefRadius(), 0.0, form.SemiAngle()),
             3: lambda: (form.Radius(), 0.0, 0.0),
             4: lambda: (form.MajorRadius(), form.MinorRadius(), 0.0)}  # fmt: skip
    radius, minor, angle = sizes[kind]() if kind else (0.0, 0.0, 0.0)
    origin = (origin - middle) * scale
    return Surface(kind, scale, origin, x, y, z, radius * scale, minor * scale, angle)


def face_row(surface: Surface, flipped: bool) -> np.ndarray:
    """(21,) numbers of a face; zeros where its surface is none of `KINDS`, but for the flag."""
    row = np.zeros(FACE)
    row[-1] = flipped
    kind = surface.kind
    if kind == -1:
        return row
    row[kind] = 1
    slots = row[len(KINDS) : -1]
    slots[0:3], slots[9:12] = surface.origin, surface.x
    if kind == 0:
        slots[0:3], slots[3:6] = surface.z * (surface.z @ surface.origin), surface.z
        return row
    if kind == 1:
        slots[0:3] = surface.origin - surface.z * (surface.z @ surface.origin)
    slots[6:9], slots[12], slots[13], slots[14] = surface.z, surface.radius, surface.minor, surface.angle
    return row


def edge_row(edge: Any, middle: np.ndarray, scale: float) -> np.ndarray:
    """(18,) numbers of an edge; zeros where its curve is no line, circle or ellipse, but for the flag."""
    from OCP.BRepAdaptor import BRepAdaptor_Curve
    from OCP.GeomAbs import GeomAbs_Circle, GeomAbs_Ellipse, GeomAbs_Line
    from OCP.TopAbs import TopAbs_REVERSED

    row = np.zeros(EDGE)
    row[-1] = edge.Orientation() == TopAbs_REVERSED
    curve, slots = BRepAdaptor_Curve(edge), row[3:-1]
    if curve.GetType() == GeomAbs_Line:
        line = curve.Line()
        origin, direction = (np.array(line.Location().Coord()) - middle) * scale, np.array(line.Direction().Coord())
        row[0], slots[0:3], slots[3:6] = 1, origin - direction * (direction @ origin), direction
    elif curve.GetType() in (GeomAbs_Circle, GeomAbs_Ellipse):
        is_circle = curve.GetType() == GeomAbs_Circle
        form = curve.Circle() if is_circle else curve.Ellipse()
        row[1 if is_circle else 2] = 1
        slots[0:3] = (np.array(form.Location().Coord()) - middle) * scale
        slots[6:9], slots[9:12] = form.Axis().Direction().Coord(), form.XAxis().Direction().Coord()
        radii = (form.Radius(), 0.0) if is_circle else (form.MajorRadius(), form.MinorRadius())
        slots[12:14] = np.array(radii) * scale
    return row


def _topology(solid: Any, faces: list[Any], most_edges: int) -> dict[str, np.ndarray]:
    """How vertices, edges and faces meet."""
    from OCP.TopAbs import TopAbs_EDGE, TopAbs_REVERSED, TopAbs_VERTEX
    from OCP.TopExp import TopExp, TopExp_Explorer
    from OCP.TopoDS import TopoDS

    edges, vertices = index_of(solid, TopAbs_EDGE), index_of(solid, TopAbs_VERTEX)
    whole, places = [], {}  # edges that have a curve, and the place of each by its number in the map
    for number in range(1, edges.Extent() + 1):
        if not _degenerate(edge := edges.FindKey(number)):
            places[number] = len(whole)
            whole.append(TopoDS.Edge_s(edge))
    ends, coedges = [], []
    for place, edge in enumerate(whole):
        first, last = TopExp.FirstVertex_s(edge, True), TopExp.LastVertex_s(edge, True)
        for vertex, starts in ((first, 1), (last, 0)):
            if not vertex.IsNull() and (starts or not last.IsSame(first)):
                ends.append((vertices.FindIndex(vertex) - 1, place, starts))
    for number, face in enumerate(faces):
        explorer = TopExp_Explorer(face, TopAbs_EDGE)
        before = len(coedges)
        while explorer.More():
            edge = explorer.Current()
            if (place := places.get(edges.FindIndex(edge))) is not None:
                against = (edge.Orientation() == TopAbs_REVERSED) != (whole[place].Orientation() == TopAbs_REVERSED)
                coedges.append((place, number, int(against)))
            explorer.Next()
        if len(coedges) - before > most_edges:
            raise ValueError(f"a face of it has {len(coedges) - before} edges; expected at most {most_edges}")
    met: list[list[int]] = [[] for _ in whole]
    for place, number, _ in coedges:
        met[place].append(number)
    if free := sum(len(numbers) < 2 for numbers in met):
        raise ValueError(f"{free} of its edges are free: one face has each; expected a closed solid")
    if more := sum(len(numbers) > 2 for numbers in met):
        raise ValueError(f"{more} of its edges have more than two faces")
    adjacent = [(*numbers, place) for place, numbers in enumerate(met) if numbers[0] != numbers[1]]
    return {name: np.array(rows, np.int32).reshape(-1, 3)
            for name, rows in (("ends", ends), ("coedges", coedges), ("adjacent", adjacent))}  # fmt: skip


def _mesh(solid: Any, faces: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """OpenCASCADE's triangles: their corners, nowhere further than about 1 % of the part from its surface."""
    from OCP.Bnd import Bnd_Box
    from OCP.BRep import BRep_Tool
    from OCP.BRepBndLib import BRepBndLib
    from OCP.BRepMesh import BRepMesh_IncrementalMesh
    from OCP.TopLoc import TopLoc_Location

    box = Bnd_Box()
    BRepBndLib.Add_s(solid, box, False)
    if box.IsVoid():
        raise ValueError("it has no extent")
    longest = float(np.subtract(box.CornerMax().Coord(), box.CornerMin().Coord()).max())
    if not 1e-6 < longest < 1e50:
        raise ValueError(f"its longest side is {longest:g} mm; expected a part of some extent")
    BRepMesh_IncrementalMesh(solid, 0.01 * longest, False, 0.5)
    points, triangles = [], []
    for number, face in enumerate(faces):
        place = TopLoc_Location()
        mesh = BRep_Tool.Triangulation_s(face, place)
        if mesh is None:
            raise ValueError("a face of it is degenerate: it has no triangles")
        start, move = len(points) - 1, place.Transformation()
        nodes = [mesh.Node(node) for node in range(1, mesh.NbNodes() + 1)]
        points += [(node if place.IsIdentity() else node.Transformed(move)).Coord() for node in nodes]
        for index in range(1, mesh.NbTriangles() + 1):
            a, b, c = mesh.Triangle(index).Get()
            triangles.append((start + a, start + b, start + c, number))
    return np.array(points).reshape(-1, 3), np.array(triangles, np.int32).reshape(-1, 4)


def _degenerate(edge: Any) -> bool:
    """Whether an edge is a point, as at the pole of a sphere; it has no curve."""
    from OCP.BRep import BRep_Tool
    from OCP.TopoDS import TopoDS

    return BRep_Tool.Degenerated_s(TopoDS.Edge_s(edge))
