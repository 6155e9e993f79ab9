"""What tests of jobs on a real Slurm cluster ask of it."""

import os
import shutil
import subprocess

import pytest

SBIN = f"{os.environ['PATH']}:/usr/sbin:/sbin"
MISSING = [tool for tool in ("slurmctld", "slurmd", "sbatch", "munged") if shutil.which(tool, path=SBIN) is None]
MARKS = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(MISSING), reason=f"no {', '.join(MISSING)}: apt-get install slurm-wlm munge"),
    pytest.mark.timeout(1200),
]


def finished(clone, process):
    code = process.wait(timeout=1100)
    said = (clone / "snakemake.log").read_text()
    assert code == 0, said[-6000:]
    return said


def jobs(cluster):
    """Every job the cluster has seen: id, state, nodes, generic resources, comment."""
    listing = subprocess.run(
        ["squeue", "--noheader", "--states=all", "--format=%i|%T|%D|%b|%k"],
        env=cluster, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {int(line.split("|")[0]): line.split("|")[1:] for line in listing.stdout.splitlines()}
