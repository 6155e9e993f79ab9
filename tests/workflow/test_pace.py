"""Snakemake's limit on jobs per second, and with it the looks for jobs that add up, is lifted in real runs."""

import os
import subprocess

import pytest

from tests.workflow.graphs import copy_tree

LIMITED = "Submitting maximum"  # what Snakemake says where it begins with a limit
PREPARED, PRETRAINED = "data/digits", "results/demo/pretrain/random-0"


@pytest.mark.parametrize(
    ("options", "limited"),
    [([], False), (["--max-jobs-per-timespan", "5/1s"], True)],
    ids=["its own limit", "a user's limit"],
)
def test_only_a_limit_that_the_user_gave_holds(tmp_path, options, limited):
    tree = copy_tree(tmp_path)
    python = tmp_path / "bin" / "python"  # in the place of both stages, makes what they would
    python.parent.mkdir()
    python.write_text(
        f"#!/bin/sh\nfor i in {PREPARED} {PRETRAINED}; do mkdir -p $i && echo '{{}}' > $i/manifest.json; done\n"
    )
    python.chmod(0o755)
    command = ["snakemake", "--cores", "1", "--verbose", *options, "--configfile=config/demo.yaml"]
    done = subprocess.run(
        [*command, f"{PRETRAINED}/manifest.json"],
        cwd=tree,
        env={**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert (LIMITED in done.stderr) is limited
