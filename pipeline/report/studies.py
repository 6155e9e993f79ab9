"""The page that lists the reports of all studies on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline import manifest as manifests
from pipeline.files import write_atomic
from pipeline.report.page import render

REPORTS = Path("reports")


def list_studies() -> Path:
    """Write `reports/index.html` from the manifests of the reports beside it, and return it.

    A folder whose manifest cannot be read is listed with the reason. Each report writes the page anew, whole.
    """
    found: list[dict[str, Any]] = []
    for path in sorted(REPORTS.glob("*/manifest.json")):
        entry: dict[str, Any] = {"name": path.parent.name, "error": ""}
        try:
            manifest = manifests.read(path)
            entry |= {"scale": manifest["scale"], "cells": dict(manifest["cells"])}
        except (manifests.ManifestError, OSError, KeyError, TypeError) as error:
            entry["error"] = f"its manifest lacks {error}" if isinstance(error, KeyError) else str(error)
        found.append(entry)
    page = REPORTS / "index.html"
    write_atomic(page, render("studies.html.j2", studies=found))
    return page
