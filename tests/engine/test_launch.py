"""Which command starts a stage, decided from the environment alone."""

import os
import subprocess
import sys

import pytest

from pipeline.config import ConfigError
from pipeline.engine.launch import (
    LOOPBACK,
    TORCHRUN,
    Allocation,
    num_processes,
    parse_allocation,
    read_allocation,
    torchrun,
)

ARGUMENTS = ["--study", "config/smoke.yaml", "--run", "mae", "--seed", "0"]
STAGE = ["-m", "--", "stages.pretrain", *ARGUMENTS]


def granted(num_nodes=1, gpus_per_node=2):
    return Allocation(job_id=15042, num_nodes=num_nodes, cpus_per_node=16, gpus_per_node=gpus_per_node)


def command(allocation, processes):
    return torchrun("stages.pretrain", ARGUMENTS, allocation, processes, "head")


@pytest.mark.parametrize("allocation", [None, granted(gpus_per_node=0), granted(gpus_per_node=1)])
def test_one_process_stays_as_it_is(allocation):
    assert command(allocation, 1) is None


@pytest.mark.parametrize("allocation", [None, granted()])
def test_one_machine(allocation):
    assert command(allocation, 2) == [*LOOPBACK, "--nproc-per-node=2", *STAGE]


def test_several_nodes():
    line = command(granted(num_nodes=4, gpus_per_node=8), 8)
    step, agent = line[: line.index(TORCHRUN[0])], line[line.index(TORCHRUN[0]) :]
    assert step[0] == "srun" and {"--nodes=4", "--ntasks=4", "--ntasks-per-node=1"} <= set(step)
    assert {"--cpus-per-task=16", "--gres=gpu:8"} <= set(step)
    assert step[-2:] == ["env", "--ignore-signal=USR2"]
    assert {"--nnodes=4", "--nproc-per-node=8", "--rdzv-id=15042", "--rdzv-endpoint=head:15042"} <= set(agent)
    assert agent[-len(STAGE) :] == STAGE


def test_several_nodes_with_one_gpu_each_and_with_none():
    assert "--nproc-per-node=1" in command(granted(num_nodes=2, gpus_per_node=1), 1)
    assert not any(part.startswith("--gres") for part in command(granted(num_nodes=2, gpus_per_node=0), 1))


def test_torchrun_leaves_the_stages_options_alone():
    """Without the dashes torchrun stops at --run, which abbreviates its own --run-path."""
    from torch.distributed.run import get_args_parser

    parsed = get_args_parser().parse_args(command(None, 2)[3:])
    assert parsed.training_script == "stages.pretrain"
    assert parsed.training_script_args == ARGUMENTS


@pytest.mark.parametrize(
    ("line", "nodes", "cpus", "gpus"),
    [
        ("2           4           gres:gpu:2", 2, 2, 2),
        ("1  16  gres/gpu:h100:8", 1, 16, 8),
        ("1  16  gres/gpu=4", 1, 16, 4),
        ("1  8  gres:gpu", 1, 8, 1),
        ("1  1  N/A", 1, 1, 0),
    ],
)
def test_what_squeue_says(line, nodes, cpus, gpus):
    assert parse_allocation(7, line) == Allocation(job_id=7, num_nodes=nodes, cpus_per_node=cpus, gpus_per_node=gpus)


def test_no_slurm_no_allocation():
    assert read_allocation({}) is None


def test_inside_a_container_the_step_says_it(monkeypatch):
    monkeypatch.setattr("pipeline.engine.launch.shutil.which", lambda name: None)
    step = {"SLURM_JOB_ID": "9", "SLURM_JOB_NUM_NODES": "1", "SLURM_GPUS_ON_NODE": "2", "SLURM_CPUS_ON_NODE": "6"}
    assert read_allocation(step) == Allocation(job_id=9, num_nodes=1, cpus_per_node=6, gpus_per_node=2)


@pytest.mark.parametrize(
    ("environment", "allocation", "visible", "processes"),
    [
        ({}, None, 0, 1),
        ({}, None, 4, 4),
        ({"UNMASK_NUM_PROCESSES": "2"}, None, 0, 2),
        ({"UNMASK_NUM_PROCESSES": "2"}, None, 4, 2),
        ({}, granted(), 2, 2),
        ({"UNMASK_FAKE_GPUS": "1"}, granted(), 0, 2),
        ({}, granted(gpus_per_node=0), 0, 1),
    ],
)
def test_processes_per_node(environment, allocation, visible, processes):
    assert num_processes(environment, allocation, visible) == processes


@pytest.mark.parametrize(
    ("environment", "allocation", "visible", "message"),
    [
        ({"CUDA_VISIBLE_DEVICES": "0"}, granted(), 1, r"granted 2 GPUs per node, and CUDA sees 1 .*DEVICES=0"),
        ({}, granted(), 0, "granted 2 GPUs per node, and CUDA sees 0"),
        ({}, granted(), 4, "granted 2 GPUs per node, and CUDA sees 4"),
        ({"UNMASK_NUM_PROCESSES": "4"}, None, 2, "UNMASK_NUM_PROCESSES is 4, and CUDA sees 2 GPUs"),
        ({"UNMASK_NUM_PROCESSES": "all"}, None, 2, "UNMASK_NUM_PROCESSES is 'all'; expected a whole number"),
        ({"UNMASK_NUM_PROCESSES": "0"}, None, 0, "UNMASK_NUM_PROCESSES is '0'; expected a whole number"),
    ],
)
def test_a_request_that_cannot_be_met_is_one_clear_error(environment, allocation, visible, message):
    with pytest.raises(ConfigError, match=message):
        num_processes(environment, allocation, visible)


def test_importing_it_imports_no_torch():
    program = "import sys, pipeline.engine.launch; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": "."}).returncode == 0


LISTENING = """
import contextlib, os, pathlib, torch.distributed as dist
dist.init_process_group("gloo")
dist.barrier()
if dist.get_rank() == 0:
    sockets = set()
    for process in (os.getpid(), os.getppid()):
        for entry in pathlib.Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                sockets.add(os.readlink(entry).removeprefix("socket:[").rstrip("]"))
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                print("listens", fields[1].split(":")[0], flush=True)
dist.barrier()
"""


def test_on_one_machine_nothing_listens_beyond_it(tmp_path):
    (tmp_path / "worker.py").write_text(LISTENING)
    done = subprocess.run(
        [*LOOPBACK, "--nproc-per-node=2", "-m", "--", "worker"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{os.getcwd()}:{tmp_path}"},
    )
    assert done.returncode == 0, done.stderr
    listens = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("listens")]
    assert listens and set(listens) == {"0100007F"}, "127.0.0.1, as the kernel writes it"
