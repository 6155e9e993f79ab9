"""Record in DVC what a workflow has finished, so that `dvc status`, `dvc push` and `dvc repro` know of it.

Reads:  dvc.yaml and the outputs of its stages
Writes: dvc.lock and DVC's cache

Snakemake calls it at the end of a run. Stages of which an output or an input is missing are left out.
"""

import argparse
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stages.version", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo, repo.lock:
            whole = [
                stage
                for stage in repo.index.stages
                if all(Path(str(item)).exists() for item in (*stage.deps, *stage.outs))
            ]
            for stage in whole:
                stage.save()
                stage.commit()
            if whole:  # `dvc commit` stage by stage would read and write dvc.lock as often as there are stages
                whole[0].dvcfile.dump_stages(whole, update_pipeline=False)
    except DvcException as error:
        sys.exit(f"error: DVC could not record the outputs ({error}); `dvc commit -f` tries again")
    print(f"dvc.lock records {len(whole)} stages; `git add dvc.lock` and `dvc push` share them")


if __name__ == "__main__":
    main()
