"""Stages that begin as forks: each is what its command alone would have been, and its client ends as it ended."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline import forkserver
from tests.conftest import ROOT

SNAKEMAKE = """
import os, time
from pathlib import Path
from types import SimpleNamespace as Namespace

from pipeline import forkserver

workflow = Namespace(non_local_exec=False, deployment_settings=Namespace(deployment_method=set()))
forkserver.start(workflow, ["no_such_module", "colorsys"], Path("logs/forkserver.log"))
print(os.environ["UNMASK_START"], flush=True)
time.sleep(600)
"""

PROBE = """
import json, os, signal, sys, time

match sys.argv[1]:
    case "tell":
        told = {"arguments": sys.argv[1:], "folder": os.getcwd(), "colour": os.environ.get("COLOUR"),
                "module": sys.modules["__main__"].__spec__.name, "imported": "colorsys" in sys.modules}
        print(json.dumps(told))
        print("a warning", file=sys.stderr)
    case "fail":
        sys.exit("error: no such thing")
    case "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    case "wait":
        signal.signal(signal.SIGUSR2, lambda *_: sys.exit(3))
        print(os.getpid(), flush=True)
        time.sleep(600)
"""


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The server of a run of a made-up Snakemake, in a folder with a module `probe`."""
    (tmp_path / "probe.py").write_text(PROBE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with subprocess.Popen([sys.executable, "-c", SNAKEMAKE], stdout=subprocess.PIPE, text=True) as snakemake:
        program = Path(snakemake.stdout.readline().strip())
        folder = Path(program.read_text().split()[-2]).parent
        yield SimpleNamespace(snakemake=snakemake, program=program, folder=folder)
        snakemake.kill()
    _until(lambda: not folder.exists())


def test_a_fork_is_what_the_command_is(server, tmp_path):
    assert server.folder not in server.program.parents  # temporary files may not be executed everywhere
    command = ["python", "-m", "probe", "tell", "two words"]
    environment = {**os.environ, "COLOUR": "blue"}
    _until(lambda: json.loads(_run(server, "tell").stdout)["imported"])
    plain = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    forked = subprocess.run([server.program, *command], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(plain.stdout) == {
        "arguments": ["tell", "two words"],
        "folder": str(tmp_path),
        "colour": "blue",
        "module": "probe",
        "imported": False,
    }
    assert json.loads(forked.stdout) == {**json.loads(plain.stdout), "imported": True}
    assert forked.stderr == plain.stderr == "a warning\n"


def test_a_client_ends_as_its_stage_did(server):
    failed = _run(server, "fail")
    assert (failed.returncode, failed.stderr) == (1, "error: no such thing\n")
    assert _run(server, "killed").returncode == -signal.SIGKILL


def test_a_signal_to_the_client_reaches_the_stage(server):
    with _begin(server) as client:
        client.send_signal(signal.SIGUSR2)
        assert client.wait(timeout=20) == 3


def test_a_stage_does_not_outlive_a_client_that_is_killed(server):
    with _begin(server) as client:
        client.kill()
    _until(lambda: not _runs(client.stage))


def test_a_stage_outlives_snakemake_and_the_server_ends_with_it(server):
    with _begin(server) as client:
        server.snakemake.kill()
        alone = _run(server, "tell")  # no server takes it: the client becomes the command
        assert alone.returncode == 0 and not json.loads(alone.stdout)["imported"]
        assert _runs(client.stage) and server.folder.exists()
        client.send_signal(signal.SIGUSR2)
        assert client.wait(timeout=20) == 3
    _until(lambda: not server.folder.exists())


def test_a_client_whose_server_is_killed_says_so(server):
    with _begin(server) as client:
        os.kill(_parent(client.stage), signal.SIGKILL)
        assert client.wait(timeout=20) == 1
        os.kill(client.stage, signal.SIGKILL)
        assert client.stderr.read() == f"{forkserver.GONE}\n"
    shutil.rmtree(server.folder)


def test_an_address_too_long_is_no_server(tmp_path, monkeypatch):
    deep = tmp_path / ("long" * 30)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    monkeypatch.delenv("UNMASK_START", raising=False)
    workflow = SimpleNamespace(non_local_exec=False, deployment_settings=SimpleNamespace(deployment_method=set()))
    forkserver.start(workflow, [], tmp_path / "log")
    assert "UNMASK_START" not in os.environ and not list(deep.iterdir())
    assert "each job imports by itself" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("elsewhere", [{"non_local_exec": True}, {"methods": {"apptainer"}}])
def test_jobs_that_run_elsewhere_have_no_server(elsewhere, monkeypatch, tmp_path):
    monkeypatch.delenv("UNMASK_START", raising=False)
    settings = SimpleNamespace(deployment_method=elsewhere.get("methods", set()))
    workflow = SimpleNamespace(non_local_exec=elsewhere.get("non_local_exec", False), deployment_settings=settings)
    forkserver.start(workflow, [], tmp_path / "log")
    assert "UNMASK_START" not in os.environ


def _run(server: SimpleNamespace, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [server.program, "python", "-m", "probe", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def _begin(server: SimpleNamespace) -> subprocess.Popen[str]:
    """A client whose stage waits; `stage` is the number of that process."""
    command = [server.program, "python", "-m", "probe", "wait"]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    client.stage = int(client.stdout.readline())
    return client


def _parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)
