"""Write a study as DVC reads it; run it after a change of the study or of a recipe, before `dvc repro`.

Reads:  the study, its recipes and protocols
Writes: config/plans/<study>.json, config/plans/<study>/<run>.json, and dvc.yaml for the demo, dvc/<study>/dvc.yaml for
        any other
"""

import argparse
import sys

from pipeline import plan
from pipeline.config import ConfigError, load_study


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stages.plan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", required=True, metavar="FILE", help="the study, such as config/demo.yaml")
    parser.add_argument("--check", action="store_true", help="only complain when they are out of date")
    arguments = parser.parse_args()
    try:
        study = load_study(arguments.study)
        if arguments.check:
            plan.check(study)
        else:
            print(*plan.write(study), sep="\n")
    except ConfigError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
