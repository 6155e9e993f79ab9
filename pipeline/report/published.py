"""What the report needs of a manifest, so that a damaged or incomplete one is a row that says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StrictStr, ValidationError

Number = Annotated[FiniteFloat, Field(strict=True)]
Amount = Annotated[Number, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class _Record(_Part):
    """A value of None is one that could not be measured."""

    metric: StrictStr
    value: Number | None
    higher_is_better: bool = True
    unit: StrictStr | None = None
    count: Annotated[int, Field(strict=True, ge=0)] | None = None
    interval: tuple[Number, Number] | None = None


class _Picture(_Part):
    path: StrictStr
    caption: StrictStr


class _Cost(_Part):
    seconds: Amount | None = None
    num_devices: Annotated[int, Field(strict=True, ge=1)] | None = None
    samples_per_second: Amount | None = None
    flops_per_sample: Amount | None = None
    kwh: Amount | None = None
    peak_memory_gib: Amount | None = None
    device: StrictStr | None = None
    unit: StrictStr | None = None
    precision: StrictStr | None = None


class _Provenance(_Part):
    commit: StrictStr | None = None
    lock_sha256: StrictStr | None = None
    python: StrictStr | None = None
    started: StrictStr | None = None
    finished: StrictStr | None = None
    packages: dict[str, StrictStr | None] = {}


class _Artefact(_Part):
    sha256: StrictStr


class _Published(_Part):
    settings: dict[str, Any]
    records: list[_Record]
    command: StrictStr = ""
    digest: StrictStr
    artefacts: dict[str, _Artefact]
    pictures: list[_Picture] | None = None
    cost: _Cost = _Cost()
    provenance: _Provenance = _Provenance()


class _Data(_Part):
    class _About(_Part):
        class _Split(_Part):
            count: Annotated[int, Field(strict=True, ge=0)]

        class _Rejects(_Part):
            count: Annotated[int, Field(strict=True, ge=0)]

        splits: dict[str, _Split]
        classes: list[Any] = []
        rejects: _Rejects | None = None

    data: _About | None = None


def complaint(manifest: Mapping[str, Any], of_data: bool = False) -> str | None:
    """What is wrong with a cell's manifest, or with that of a data set; None where nothing is."""
    try:
        (_Data if of_data else _Published).model_validate(manifest)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        got = "" if first["type"] == "missing" else f", received {str(first['input'])[:40]!r}"
        return f"{place}: {first['msg']}{got}"
    return None
