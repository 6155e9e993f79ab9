"""Starting a stage on every GPU it was granted.

`python -m stages.pretrain ...` is the one command of the Snakefile, of dvc.yaml and of a terminal. Where more
than one process should run it, the command replaces itself by torchrun, which starts it again once per GPU:

    a cluster job over several nodes    srun, one torchrun per node, one process per GPU
    one machine with several GPUs       torchrun, which nothing beyond the machine reaches
    one GPU, or none                    the process goes on as it is

Under Slurm the granted GPUs decide; elsewhere the visible ones do, or UNMASK_NUM_PROCESSES. On the test cluster of
`envs/slurm`, UNMASK_FAKE_GPUS=1 lets CPU processes stand for granted GPUs.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.config import ConfigError

TORCHRUN = (sys.executable, "-m", "torch.distributed.run")
LOOPBACK = (sys.executable, "-m", "pipeline.engine.loopback")


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """What Slurm granted to this job, per node."""

    job_id: int
    num_nodes: int
    cpus_per_node: int
    gpus_per_node: int


def parse_allocation(job_id: int, line: str) -> Allocation:
    """Read `squeue --Format=NumNodes,NumCPUs,tres-per-node`, e.g. "2  16  gres:gpu:h100:8"."""
    nodes, cpus, tres = line.split()
    gpus = re.search(r"gres[:/]gpu(?:[:/][a-z]\w*)?(?:[:=](\d+))?", tres)
    return Allocation(
        job_id=job_id,
        num_nodes=int(nodes),
        cpus_per_node=int(cpus) // int(nodes),
        gpus_per_node=int(gpus[1] or 1) if gpus else 0,
    )


def read_allocation(environment: Mapping[str, str]) -> Allocation | None:
    """The allocation this process runs in, or None outside Slurm.

    Snakemake's executor strips SLURM_NNODES and its siblings from multi-node jobs, so Slurm itself is asked;
    inside a container without its client tools, the variables of the step must do.
    """
    if "SLURM_JOB_ID" not in environment:
        return None
    job_id = int(environment["SLURM_JOB_ID"])
    if shutil.which("squeue") is None:
        return Allocation(
            job_id=job_id,
            num_nodes=int(environment.get("SLURM_JOB_NUM_NODES", 1)),
            cpus_per_node=int(environment.get("SLURM_CPUS_ON_NODE", 1)),
            gpus_per_node=int(environment.get("SLURM_GPUS_ON_NODE", 0)),
        )
    fields = "--Format=NumNodes:12,NumCPUs:12,tres-per-node:128"
    query = ["squeue", "--noheader", f"--jobs={job_id}", fields]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=60)
    if answer.returncode != 0 or len(answer.stdout.split()) != 3:
        raise ConfigError(
            f"SLURM_JOB_ID is {job_id}, and {' '.join(query)!r} answered "
            f"{(answer.stdout + answer.stderr).strip()!r}; expected that job's nodes, CPUs and GPUs. "
            "Outside a job, unset SLURM_JOB_ID."
        )
    return parse_allocation(job_id, answer.stdout)


def num_processes(environment: Mapping[str, str], allocation: Allocation | None, visible: int) -> int:
    """Processes to run on each node.

    Args:
        environment: UNMASK_NUM_PROCESSES and UNMASK_FAKE_GPUS are read from it.
        allocation: of the job, None outside Slurm.
        visible: GPUs that CUDA sees on this machine.

    Raises:
        ConfigError: the request and the visible GPUs differ.
    """
    devices = f"CUDA_VISIBLE_DEVICES={environment.get('CUDA_VISIBLE_DEVICES', 'unset')}"
    if allocation and allocation.gpus_per_node:
        granted = allocation.gpus_per_node
        if visible != granted and environment.get("UNMASK_FAKE_GPUS") != "1":
            raise ConfigError(
                f"Slurm job {allocation.job_id} was granted {granted} GPUs per node, and CUDA sees {visible} "
                f"on {socket.gethostname()} ({devices}); expected the same number. Compare "
                "`nvidia-smi --list-gpus` there with the rule's `gres`; too old a driver shows none."
            )
        return granted
    requested = environment.get("UNMASK_NUM_PROCESSES")
    if requested is None:
        return max(1, visible)
    if not requested.isdigit() or int(requested) < 1:
        raise ConfigError(f"UNMASK_NUM_PROCESSES is {requested!r}; expected a whole number, 1 or more")
    if visible and int(requested) > visible:
        raise ConfigError(
            f"UNMASK_NUM_PROCESSES is {requested}, and CUDA sees {visible} GPUs ({devices}); expected at "
            f"most one process per GPU. Set it to {visible} or less, or unset it to use all of them."
        )
    return int(requested)


def torchrun(
    module: str, argv: Sequence[str], allocation: Allocation | None, processes: int, host: str
) -> list[str] | None:
    """The command that runs `module` in all its processes, or None where this process is the only one.

    Args:
        module: as after `python -m`.
        argv: its arguments.
        allocation: of the job, None outside Slurm.
        processes: per node.
        host: this machine's name; in a cluster job that is its first node, where batch scripts run.
    """
    # Without the dashes torchrun takes the stage's --run for an abbreviation of its own --run-path.
    program = ["-m", "--", module, *argv]
    if allocation is None or allocation.num_nodes == 1:
        if processes == 1:
            return None
        return [*LOOPBACK, f"--nproc-per-node={processes}", *program]
    nodes = allocation.num_nodes
    step = ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=1"]
    # A step does not inherit its job's CPUs: since Slurm 22.05 each torchrun would otherwise get one core.
    step.append(f"--cpus-per-task={allocation.cpus_per_node}")
    if allocation.gpus_per_node:
        step.append(f"--gres=gpu:{allocation.gpus_per_node}")
    # Slurm's warning reaches every process of the step, and torchrun would die of it before its workers save.
    step += ["env", "--ignore-signal=USR2"]
    # Two jobs that share a first node need two ports; below 32768, where ephemeral ports begin.
    endpoint = f"{host}:{15000 + allocation.job_id % 15000}"
    return [
        *step,
        *TORCHRUN,
        f"--nnodes={nodes}",
        f"--nproc-per-node={processes}",
        f"--rdzv-id={allocation.job_id}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={endpoint}",
        *program,
    ]


def maybe_launch(argv: Sequence[str]) -> None:
    """Replace this `python -m stages.<stage>` by torchrun where several processes should run it; else return.

    A stage calls this first. Under torchrun, and in a process that is not a stage (a test that calls the stage's
    `main`), it returns at once; where the GPUs requested and the GPUs visible differ, it exits with that message.

    Args:
        argv: as `sys.argv`.
    """
    spec = sys.modules["__main__"].__spec__
    if spec is None or not spec.name.startswith("stages.") or "TORCHELASTIC_RUN_ID" in os.environ:
        return
    import torch  # the stage needs it anyway, and counting GPUs is its business

    try:
        allocation = read_allocation(os.environ)
        processes = num_processes(os.environ, allocation, torch.cuda.device_count())
    except ConfigError as error:
        sys.exit(f"error: {error}")
    command = torchrun(spec.name, argv[1:], allocation, processes, socket.gethostname())
    if command is None:
        return
    print("launch:", " ".join(command), flush=True)
    # torchrun must outlive the warning as well on one machine; its workers set their own handlers.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    os.execvp(command[0], command)
