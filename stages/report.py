"""Write a study's report from its records.

Reads:   results/<study>/*/*/manifest.json and the logs and pictures they name, data/*/manifest.json,
config/papers/
Writes:  reports/<study>/: index.html, compare.html, pictures/, tables/, figures/, models/, summary.txt, manifest.json

Cells that failed or were not run are rows that say so; nothing is trained and torch is not needed.
"""

from __future__ import annotations

import argparse
import gc
import sys

from pipeline.config import ConfigError, load_study
from pipeline.manifest import ManifestError
from pipeline.report.build import build


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stages.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--study", required=True, metavar="FILE", help="the study, such as config/demo.yaml")
    arguments = parser.parse_args()
    gc.set_threshold(100_000)  # not 700: what drawing leaves would be looked for among all records each time
    try:
        study = load_study(arguments.study)
        page = build(study)
    except (ConfigError, ManifestError) as error:
        sys.exit(f"error: {error}")
    print(page.with_name("summary.txt").read_text(), f"Report: {page}", sep="\n")


if __name__ == "__main__":
    main()
