"""Record in DVC what a study has finished, so that `dvc status`, `dvc push` and `dvc repro` know of it.

Reads:  the study and the outputs of its nodes
Writes: the study's dvc.yaml and plan, dvc.lock beside it, and DVC's cache

Snakemake calls it at the end of a run. Nodes of which an output or an input is missing are left out.
"""

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import Any

from pipeline import manifest, plan
from pipeline.config import ConfigError, load_study


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stages.record", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", required=True, metavar="FILE", help="the study, such as config/demo.yaml")
    arguments = parser.parse_args()
    try:
        study = load_study(arguments.study)
        plan.write(study)
        count = record(plan.dvc_path(study))
    except ConfigError as error:
        sys.exit(f"error: {error}")
    if count is None:
        return print("not recorded: this folder is under no version control that DVC knows (`git init`, `dvc init`)")
    print(f"{plan.dvc_path(study).with_suffix('.lock')} records {count} stages; `git add` it and `dvc push` share them")


def record(path: Path) -> int | None:
    """Commit the stages of a dvc.yaml that are whole; returns their number, or None where DVC versions nothing.

    Raises:
        ConfigError: DVC could not.
    """
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo
    from dvc.scm import SCMError

    logging.getLogger("dvc.output").setLevel(logging.ERROR)  # it warns of each folder without files, as k-NN's is
    try:
        with Repo() as repo, repo.lock:
            file = os.fspath(path.resolve())
            whole = [
                stage
                for stage in repo.index.stages
                if stage.path == file
                and all(Path(str(item)).exists() for item in (*stage.deps, *stage.outs))
                and _is_what_it_says(stage)
            ]
            changed = [stage for stage in whole if stage.changed()]
            for stage in changed:
                stage.save(run_cache=False)  # which takes most of the time, and dvc.lock tells the same
                stage.commit()
            if changed:  # `dvc commit` stage by stage would read and write dvc.lock as often as there are stages
                changed[0].dvcfile.dump_stages(changed, update_pipeline=False)
    except (NotDvcRepoError, SCMError):
        return None  # as in an unpacked release: the study is done all the same
    except DvcException as error:
        raise ConfigError(f"DVC could not record the outputs ({error}); `dvc commit -f` tries again") from error
    return len(whole)


def _is_what_it_says(stage: Any) -> bool:
    """Whether the outputs are those that their manifest names: what was changed since is no result to share."""
    try:
        for out in stage.outs:
            if Path(str(out)).name == manifest.NAME:
                manifest.verify(str(out), weights=False)
    except manifest.ManifestError as error:
        print(f"warning: {stage.addressing} is not recorded: {error}")
        return False
    return True


if __name__ == "__main__":
    main()
