"""The local Slurm cluster starts, grants its fake GPUs, stands beside another one, and leaves nothing behind."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CLUSTER = Path("envs/slurm/cluster").resolve()
SBIN = f"{os.environ['PATH']}:/usr/sbin:/sbin"
MISSING = [tool for tool in ("slurmctld", "slurmd", "munged") if shutil.which(tool, path=SBIN) is None]


def cluster(action, folder):
    # Daemons keep what they inherit open, so their output goes to a file: a pipe would never end.
    answer = folder.with_name(f"{folder.name}.{action}")
    with answer.open("w") as file:
        code = subprocess.run([CLUSTER, action, folder], stdout=file, stderr=file, timeout=120).returncode
    return code, answer.read_text()


def process_ids(folder):
    return [int(path.read_text()) for path in (folder / "run").glob("*.pid")]


@pytest.mark.slurm
@pytest.mark.skipif(bool(MISSING), reason=f"no {', '.join(MISSING)}: apt-get install slurm-wlm munge")
def test_two_clusters_side_by_side(tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    try:
        for folder in folders:
            code, said = cluster("start", folder)
            assert code == 0, said
        assert cluster("start", folders[0])[0] == 1  # running already
        for folder in folders:
            step = ["srun", "--nodes=2", "--ntasks=2", "--gres=gpu:2", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES"]
            step[0] = str(folder / "bin/srun")
            assert subprocess.run(step, capture_output=True, text=True, timeout=60).stdout.split() == ["0,1", "0,1"]
        started = [pid for folder in folders for pid in process_ids(folder)]
        assert len(started) == 8
    finally:
        for folder in folders:
            cluster("stop", folder)
    assert [pid for pid in started if Path(f"/proc/{pid}").exists()] == []
    code, said = cluster("status", folders[0])
    assert code == 1 and "not running" in said


def test_a_stale_process_id_is_left_alone(tmp_path):
    """After a reboot the number may belong to anything."""
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        (tmp_path / "run").mkdir()
        (tmp_path / "run/munged.pid").write_text(str(bystander.pid))
        assert cluster("stop", tmp_path)[0] == 0
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_help_comes_from_the_script_itself():
    said = subprocess.run([CLUSTER], capture_output=True, text=True).stdout
    assert said.startswith("A real two-node Slurm cluster") and "cluster start [FOLDER]" in said
