"""A clone of the project, a real two-node Slurm cluster inside this machine, and Snakemake on both."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The working tree as a fresh clone has it: no data, no results."""
    folder = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"], capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if Path(name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, folder / name)
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Environment of a shell on a running cluster."""
    folder = tmp_path_factory.mktemp("slurm")
    script = Path("envs/slurm/cluster").resolve()
    subprocess.run([script, "start", folder], check=True, timeout=120)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    yield {
        **inherited,
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "UNMASK_FAKE_GPUS": "1",
        "OMP_NUM_THREADS": "1",
    }
    subprocess.run([script, "stop", folder], check=True, timeout=120)


@pytest.fixture
def snakemake(clone, cluster):
    """Start Snakemake on a study; a test that fails leaves none behind."""
    processes = []

    def start(study, *targets, **environment):
        command = ["snakemake", "--profile", "slurm", f"--configfile={study}", *targets]
        command.insert(1, "--slurm-init-seconds-before-status-checks=3")  # these jobs take seconds
        with (clone / "snakemake.log").open("w") as output:
            processes.append(
                subprocess.Popen(command, cwd=clone, env={**cluster, **environment}, stdout=output, stderr=output)
            )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()
