"""Recording a study in DVC, where there is one."""

import subprocess
import sys

from tests.real import environment
from tests.workflow.graphs import copy_tree


def test_where_nothing_is_versioned_it_says_so_and_a_finished_study_stays_finished(tmp_path):
    root = copy_tree(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "stages.record", "--study", "config/smoke.yaml"],
        cwd=root,
        env=environment(PYTHONPATH=""),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "not recorded: this folder is under no version control" in done.stdout
    assert (root / "dvc/smoke/dvc.yaml").exists()
