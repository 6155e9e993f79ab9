"""Preparation of one data set of a study: the source found by name, the options checked, the files packed."""

import importlib
import shutil
import sys
from pathlib import Path
from typing import Any

from pipeline.config import ConfigError, DataSet
from pipeline.config.options import check_options
from pipeline.data.official import JOURNALS


def prepare(spec: DataSet, work: Path, files: Path) -> dict[str, Any]:
    """Writes a data set's packs; after an interruption it goes on from those that `work` and `files` hold.

    Args:
        spec: of the study.
        work: for what is made on the way, journals among it.
        files: receives the packs.

    Returns:
        The manifest's `data`: name, source, splits with their counts, classes, rejects and notes.

    Raises:
        ConfigError: in the options, or in the data that they point to.
    """
    source = importlib.import_module(f"pipeline.data.sources.{spec.kind}.{spec.source}")
    options = source.Options(**check_options(spec.options, spec.kind, spec.source, f"data.{spec.name}"))
    shutil.rmtree(work / "raw", ignore_errors=True)  # of an attempt that was cut off
    if not (work / JOURNALS).is_dir():
        shutil.rmtree(files, ignore_errors=True)
    files.mkdir(parents=True, exist_ok=True)
    try:
        found = source.prepare(options, work, files)
    except ConfigError as error:  # a source does not know the name of the set that it prepares
        raise ConfigError(f"data.{spec.name}: {error}") from error
    data = {"name": spec.name, "kind": spec.kind, "source": spec.source, **found}
    count, rejected = sum(split["count"] for split in data["splits"].values()), data["rejects"]["count"]
    shards = [path.stat().st_size for path in files.glob("*.bin")]
    print(
        f"{spec.name}: read {count + rejected:,} files, rejected {rejected:,}, noted {data['notes']['count']:,} as odd;"
        f" wrote {count:,} in {len(shards):,} shards of {sum(shards) / 2**20:,.1f} MiB",
        file=sys.stderr,
        flush=True,
    )
    return data
