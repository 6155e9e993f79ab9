"""STEP files (ISO 10303-21) read and written through OpenCASCADE, one solid each, their faces named.

Lengths are read as millimetres whatever the unit of a file is.
"""

import io
import re
from collections.abc import Sequence
from typing import Any

MOST_BYTES = 2**26  # of a file; the largest parts of the Fusion 360 Gallery have a few MB
MOST_ENTITIES = 500_000  # of a file, whatever its bytes: a thousand faces take some 50,000
_BEGIN, _END = b"ISO-10303-21", b"END-ISO-10303-21"


def read_step(data: bytes) -> tuple[Any, list[str]]:
    """The one solid that a file holds.

    Args:
        data: bytes of the file.

    Returns:
        The solid, a `TopoDS_Shape`, and the names of its faces in the order in which OpenCASCADE meets them.

    Raises:
        ValueError: it is no whole STEP file, too large, or holds anything but one solid.
    """
    if not data:
        raise ValueError("it is empty")
    if len(data) > MOST_BYTES:
        raise ValueError(f"{len(data):,} bytes; expected at most {MOST_BYTES:,}")
    if not data.lstrip()[: len(_BEGIN)] == _BEGIN:
        raise ValueError("it does not begin with ISO-10303-21, as STEP files do")
    if _END not in data[-4096:]:
        raise ValueError("it is cut off: END-ISO-10303-21 is missing")
    if (count := sum(1 for _ in re.finditer(rb"#\d+\s*=", data))) > MOST_ENTITIES:
        raise ValueError(f"{count:,} entities; expected at most {MOST_ENTITIES:,}")
    from OCP.IFSelect import IFSelect_ReturnStatus
    from OCP.STEPControl import STEPControl_Reader
    from OCP.TopAbs import TopAbs_FACE, TopAbs_SOLID

    silence()
    reader = STEPControl_Reader()
    if reader.ReadStream("part", io.BytesIO(data)) != IFSelect_ReturnStatus.IFSelect_RetDone:
        raise ValueError("OpenCASCADE cannot read it")
    if not reader.TransferRoots() or (shape := reader.OneShape()) is None or shape.IsNull():
        raise ValueError("it holds no shape")
    solids, faces = parts_of(shape, TopAbs_SOLID), parts_of(shape, TopAbs_FACE)
    if len(solids) != 1:
        told = "" if solids else " (a shell with free edges is none)"
        raise ValueError(f"it holds {len(solids)} solid bodies{told}; expected one")
    if len(faces) != len(parts_of(solids[0], TopAbs_FACE)):
        raise ValueError("it holds surfaces beside its solid; expected a solid alone")
    transfer = reader.WS().TransferReader()
    items = [transfer.EntityFromShapeResult(face, 1) for face in faces]
    names = [item.Name() if hasattr(item, "Name") else None for item in items]
    return solids[0], ["" if name is None else name.ToCString() for name in names]


def write_step(shape: Any, names: Sequence[str]) -> bytes:
    """A solid as a STEP file.

    Args:
        names: of its faces, in the order in which OpenCASCADE meets them.
    """
    from OCP.STEPControl import STEPControl_AsIs, STEPControl_Writer

    silence()
    writer = STEPControl_Writer()
    writer.Transfer(shape, STEPControl_AsIs)
    file = io.BytesIO()
    writer.WriteStream(file)
    # It tells when it was written and which of the process's files it is; made again, it is to be the same file.
    text = re.sub(rb"'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d'", b"'1970-01-01T00:00:00'", file.getvalue(), count=1)
    text = re.sub(rb"PRODUCT\('[^']*',\s*'[^']*'", b"PRODUCT('part','part'", text, count=1)
    # Faces are written in the order in which they are met. OpenCASCADE does not find the entities of all of them.
    given = iter(names)
    text, count = re.subn(rb"ADVANCED_FACE\(''", lambda _: b"ADVANCED_FACE('%s'" % next(given).encode(), text)
    if count != len(names):
        raise ValueError(f"{len(names)} names for the {count} faces that were written")
    return text


def index_of(shape: Any, kind: Any) -> Any:
    """OpenCASCADE's map of the different faces, edges, ... of a shape, from 1 in the order in which it meets them."""
    from OCP.TopExp import TopExp
    from OCP.TopTools import TopTools_IndexedMapOfShape

    found = TopTools_IndexedMapOfShape()
    TopExp.MapShapes_s(shape, kind, found)
    return found


def parts_of(shape: Any, kind: Any) -> list[Any]:
    """The same as a list."""
    found = index_of(shape, kind)
    return [found.FindKey(place) for place in range(1, found.Extent() + 1)]


def silence() -> None:
    """OpenCASCADE tells of every transfer on standard output; what matters comes back as an error here."""
    from OCP.Message import Message

    Message.DefaultMessenger_s().ChangePrinters().Clear()
