"""What all stages share: a command line, a work directory of their own, and one clear line when something is wrong."""

import errno
import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import stages
from pipeline import lock, manifest
from pipeline.config import ConfigError
from tests.small import STUDY, changed, load, publish, write_study
from tests.small import cell as cell_of

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = sorted(path.stem for path in (ROOT / "stages").glob("[!_]*.py"))
CELLS = [name for name in SCRIPTS if name not in ("plan", "cost", "report", "record", "verify")]
PREPARE = ["--study", "config/small.yaml", "--data", "digits"]
PRETRAIN = ["--study", "config/small.yaml", "--run", "mae", "--seed", "0"]


def failure(stage: str, *arguments: str, body=lambda cell: None) -> str:
    """Run a stage's frame around a body that fails, in this process; what it ends with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [stage, *arguments])
        with pytest.raises(SystemExit) as ended, stages.stage(stage, "A stage.") as cell:
            body(cell)
    assert isinstance(ended.value.code, str), "a text as exit code is printed, and the status is 1"
    assert ended.value.code.startswith("error: ") and "\n" not in ended.value.code
    return ended.value.code


def raises(error: Exception):
    def body(cell):
        raise error

    return body


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_says_what_is_read_and_written(name, monkeypatch, capsys):
    module = __import__(f"stages.{name}", fromlist=["main"])
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        module.main()
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert f"python -m stages.{name}" in said and "Reads: " in said and "Writes: " in said
    options = {"prepare": ["--study", "--data"]}.get(name, ["--study"])
    assert all(
        option in said for option in [*options, *(["--run", "--seed"] if name in CELLS and name != "prepare" else [])]
    )


@pytest.mark.parametrize("arguments", [[], ["--study", "x"], [*PRETRAIN[:-1], "one"], [*PRETRAIN, "--sed", "1"]])
def test_a_command_line_that_lacks_something_is_told(project, monkeypatch, capsys, arguments):
    monkeypatch.setattr(sys, "argv", ["pretrain", *arguments])
    with pytest.raises(SystemExit) as ended, stages.stage("pretrain", "A stage."):
        raise AssertionError("never reached")
    assert ended.value.code == 2 and "usage: python -m stages.pretrain" in capsys.readouterr().err


def test_a_mistake_before_there_is_a_cell_is_one_line(project, capsys):
    assert "there is no study config/smal.yaml" in failure("prepare", "--study", "config/smal.yaml", "--data", "digits")
    assert "'mea' is not among the runs" in failure("pretrain", *PRETRAIN[:3], "mea", *PRETRAIN[4:])
    assert "7 is not among the seeds" in failure("pretrain", *PRETRAIN[:-1], "7")
    assert capsys.readouterr() == ("", ""), "no traceback for a mistake of the user"
    assert not Path("work").exists()


def test_a_mistake_within_a_cell_is_one_line_and_left_for_the_report(project, capsys):
    error = ConfigError("data.digits.root is None;\n  expected a folder")
    told = failure("prepare", *PREPARE, body=raises(error))
    assert told == "error: data.digits.root is None; expected a folder"
    left = json.loads(Path("work/data/digits.failure.json").read_text())
    assert left["error"] == str(error) and left["command"].endswith("--data digits")
    assert capsys.readouterr().err == ""


def test_a_missing_input_fails_the_cell_in_one_line(project, capsys):
    assert "data/digits/manifest.json is missing" in failure("pretrain", *PRETRAIN)
    assert "data/digits" in json.loads(Path("work/small/pretrain/mae-0.failure.json").read_text())["error"]
    assert capsys.readouterr().err == ""


def test_an_error_of_the_code_keeps_its_traceback_and_names_its_type(project, capsys):
    assert failure("prepare", *PREPARE, body=raises(KeyError("lr"))) == "error: KeyError: 'lr'"
    assert "Traceback" in capsys.readouterr().err
    assert Path("work/data/digits.failure.json").exists()


def finishes(stage: str, *arguments: str) -> None:
    """Run a stage's frame that must end well before there is anything to do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [stage, *arguments])
        with pytest.raises(SystemExit) as ended, stages.stage(stage, "A stage."):
            pytest.fail("made again")
    assert ended.value.code == 0


def test_who_finds_the_cell_held_waits_and_ends_well_with_the_result_of_the_holder(project, capsys):
    cell = cell_of(load(), "prepare", "digits")

    def work():
        with lock.Lock(cell.lock):
            begun.set()
            time.sleep(1)
            publish(cell)

    begun = threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    finishes("prepare", *PREPARE)
    thread.join()
    said = capsys.readouterr().out
    assert "waiting: work/data/digits.lock is held by process" in said
    assert "finished: data/digits holds this result, whole" in said
    assert not cell.failure.exists() and not list(Path("work/data").glob("*"))


def test_a_finished_result_survives_workflow_tools_and_is_never_made_again(project):
    cell = cell_of(load(), "prepare", "digits")
    publish(cell)
    text = cell.node.manifest.read_text()
    finishes("prepare", *PREPARE)
    cell.node.manifest.unlink()  # as Snakemake does before it runs a job, and after a job that failed
    finishes("prepare", *PREPARE)
    assert cell.node.manifest.read_text() == text and not cell.work.exists()


def test_another_result_or_a_damaged_one_is_made_again(project, monkeypatch):
    cell = cell_of(load(), "prepare", "digits")
    publish(cell)
    (cell.folder / "files/pack.bin").write_text("damaged")
    monkeypatch.setattr(sys, "argv", ["prepare", *PREPARE])
    for _ in range(2):
        with stages.stage("prepare", "A stage.") as cell:
            publish(cell)
        write_study(project, changed(STUDY, "data/digits/train_images", 90))
    assert manifest.read("data/digits/manifest.json")["settings"]["train_images"] == 90


def test_the_cell_is_held_while_the_stage_works_and_free_afterwards(project, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["prepare", *PREPARE])
    failure("prepare", *PREPARE, body=raises(ConfigError("x")))
    with stages.stage("prepare", "A stage.") as cell:
        assert cell.lock.exists()
        publish(cell)
    assert not cell.lock.exists() and Path("data/digits/manifest.json").exists()


def test_only_the_first_of_many_processes_holds_and_tells(project, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "7")
    monkeypatch.setenv("MASTER_PORT", "29500")
    cell = cell_of(load(), "prepare", "digits")
    told = Path("work/data/digits.launch")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with lock.Lock(cell.lock):
        pass
    failure("prepare", *PREPARE, body=raises(ConfigError("x")))
    assert told.read_text() == "7 29500 - - False"
    cell.failure.unlink()
    monkeypatch.setenv("RANK", "1")
    with lock.Lock(cell.lock):  # the first process of the same job
        assert failure("prepare", *PREPARE, body=raises(ConfigError("x"))) == "error: x"
    assert not cell.failure.exists()
    told.write_text("7 29500 - - True")
    finishes("prepare", *PREPARE)


def test_an_interruption_is_no_failure(project, monkeypatch):
    """Ctrl-C and a preempted job's exit: the cell is unfinished, and the next attempt resumes it."""
    monkeypatch.setattr(sys, "argv", ["prepare", *PREPARE])
    for error in (KeyboardInterrupt(), SystemExit(75)):
        with pytest.raises(type(error)), stages.stage("prepare", "A stage.") as cell:
            raise error
        assert not cell.failure.exists() and not cell.lock.exists()


def test_a_real_process_ends_with_status_one(project):
    done = subprocess.run(
        [sys.executable, "-m", "stages.evaluate", "--task", "knn", *PRETRAIN],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: data/digits/manifest.json is missing; the stage that makes it has not been run\n"
    assert Path("work/small/knn/mae-0.failure.json").exists()


def test_what_the_system_refuses_is_one_line_with_the_file(project, capsys):
    full = OSError(errno.ENOSPC, "No space left on device", "results/small/x.pt")
    told = failure("prepare", *PREPARE, body=raises(full))
    assert (
        told == "error: results/small/x.pt: No space left on device; free some space there and run this again to go on"
    )
    many = shutil.Error([("work/a", "results/a", "[Errno 28] No space left on device"), ("work/b", "results/b", "x")])
    assert failure("prepare", *PREPARE, body=raises(many)) == "error: work/a: [Errno 28] No space left on device"
    assert capsys.readouterr().err == "", "no traceback"


def test_a_results_folder_that_cannot_be_written_is_told_before_anything_is_done(project, monkeypatch, capsys):
    Path("data/digits").mkdir(parents=True)

    def refuse(path, content, write=Path.write_bytes):
        if "data/digits" in str(path):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", refuse)
    told = failure("prepare", *PREPARE, body=lambda cell: pytest.fail("it began"))
    assert "data/digits" in told and "Read-only file system; results, work and logs need" in told
    assert capsys.readouterr().err == "" and not list(Path("data/digits").iterdir())
