"""One process at a time on a work directory: who lives is respected, who died is succeeded, by one only."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import filelock
import pytest

from pipeline import lock
from pipeline.lock import HEARTBEAT, STALE, Lock, LockError

ROOT = Path(__file__).parent.parent
QUICK = "from pipeline import lock; lock.HEARTBEAT, lock.STALE = 0.1, 1.0"
HOLD = f"""
import sys, time
from pathlib import Path
{QUICK}
with lock.Lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
ELSEWHERE = {"host": "n7", "pid": 4242, "start": 1}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(lock, "HEARTBEAT", 0.1)
    monkeypatch.setattr(lock, "STALE", 1.0)
    monkeypatch.setattr("filelock._soft.MALFORMED_LOCK_AGE_THRESHOLD", 0.2)


def hold(folder: Path) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def leave(folder: Path, *, silent: float = 0.0, **changes) -> Path:
    """A lock as its holder left it, last touched some seconds ago."""
    with Lock(folder):
        text = (folder / "lock").read_text()
    for key, value in changes.items():
        text = re.sub(rf"(?m)^{key}=.*$", f"{key}={value}", text)
    path = folder / "lock"
    path.write_text(text)
    os.utime(path, (time.time() - silent,) * 2)
    return path


def holder_of(folder: Path) -> int:
    return filelock.SoftFileLease(folder / "lock").owner.pid


def refused(folder: Path, match: str = "is held by process") -> float:
    """Seconds until a contender is refused."""
    started = time.monotonic()
    with pytest.raises(LockError, match=match), Lock(folder):
        pass
    return time.monotonic() - started


def taken(folder: Path) -> float:
    """Seconds until a contender holds it."""
    started = time.monotonic()
    with Lock(folder):
        assert holder_of(folder) == os.getpid()
        return time.monotonic() - started


def test_a_second_process_is_told_who_holds_it_and_a_killed_one_is_succeeded(tmp_path):
    process = hold(tmp_path)
    try:
        told = rf"{re.escape(str(tmp_path))} is held by process {process.pid} on {socket.gethostname()} since "
        told += r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d; wait for it, or stop it"
        assert refused(tmp_path, f"^{told}") < 0.5
        assert holder_of(tmp_path) == process.pid, "the refused process leaves the lock alone"
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert taken(tmp_path) < 0.5
    finally:
        process.kill()
        process.wait()
    assert not (tmp_path / "lock").exists()


def test_a_killed_process_that_nobody_waited_for_is_succeeded(tmp_path):
    process = hold(tmp_path)
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, but its parent has not asked yet
    assert taken(tmp_path) < 3
    process.wait()


def test_a_process_that_was_stopped_here_holds_on(tmp_path):
    process = hold(tmp_path)
    try:
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.2)
        assert refused(tmp_path) < 0.5
        assert holder_of(tmp_path) == process.pid
    finally:
        process.kill()
        process.wait()


def test_the_lock_is_free_again_after_an_error(tmp_path):
    with pytest.raises(KeyError), Lock(tmp_path):
        assert (tmp_path / "lock").exists()
        raise KeyError
    with Lock(tmp_path):
        pass
    assert {path.name for path in tmp_path.iterdir()} <= {"lock.since"}


def test_one_process_may_not_hold_it_twice(tmp_path):
    with Lock(tmp_path):
        refused(tmp_path, f"held by process {os.getpid()}")
        assert holder_of(tmp_path) == os.getpid(), "still held"


def test_a_number_that_was_given_to_another_process_is_no_holder(tmp_path):
    leave(tmp_path, start=1)
    assert taken(tmp_path) < 0.5


def test_a_dead_number_is_no_holder(tmp_path):
    done = subprocess.Popen(["true"])
    done.wait()
    leave(tmp_path, pid=done.pid)
    assert taken(tmp_path) < 0.5


def test_a_holder_elsewhere_that_beats_is_respected(tmp_path):
    path = leave(tmp_path, **ELSEWHERE, silent=1000)  # by a clock that is behind ours
    stop = threading.Event()

    def beat():
        behind = time.time() - 1000
        while not stop.wait(0.7):  # of 1.0: late, yet alive
            behind += 0.7
            os.utime(path, (behind, behind))

    thread = threading.Thread(target=beat)
    thread.start()
    assert refused(tmp_path, "held by process 4242 on n7") < 1.0
    assert holder_of(tmp_path) == 4242
    stop.set()
    thread.join()


@pytest.mark.parametrize("silent", [0, 1000, -1000])
def test_a_holder_elsewhere_that_misses_its_beats_is_succeeded(tmp_path, silent):
    leave(tmp_path, **ELSEWHERE, silent=silent)
    assert 1.0 <= taken(tmp_path) < 1.8


def test_a_lease_of_other_terms_is_told_with_the_way_out(tmp_path):
    leave(tmp_path, **ELSEWHERE, duration=7.0)
    refused(tmp_path, f"held by process 4242 on n7 since .*remove {re.escape(str(tmp_path / 'lock'))}")


@pytest.mark.parametrize("content", ["", "{", "filelock/2\n", "filelock/2\npid=7\n", "7"])
def test_a_torn_lock_holds_nothing(tmp_path, content):
    (tmp_path / "lock").write_text(content)
    os.utime(tmp_path / "lock", (0, 0))
    taken(tmp_path)


def test_the_heartbeat_touches_and_stops_with_the_lock(tmp_path):
    assert HEARTBEAT * 4 <= STALE, "a few missed beats are no death"
    path = tmp_path / "lock"
    with Lock(tmp_path):
        os.utime(path, (0, 0))
        deadline = time.time() + 5
        while path.stat().st_mtime == 0 and time.time() < deadline:
            time.sleep(0.01)
        assert time.time() - path.stat().st_mtime < 5
    leave(tmp_path, silent=1000)
    time.sleep(0.3)
    assert time.time() - path.stat().st_mtime > 900, "a lock that was given back is not touched"


def test_the_lock_of_a_successor_is_neither_touched_nor_removed(tmp_path):
    """Publishing removes the work directory while the lock in it is held; another process may begin at once."""
    with Lock(tmp_path):
        (tmp_path / "lock").rename(tmp_path / "ours")
        path = leave(tmp_path, **ELSEWHERE, silent=50)
        (tmp_path / "ours").unlink()
        time.sleep(0.3)
        assert time.time() - path.stat().st_mtime > 40
    assert holder_of(tmp_path) == 4242


def test_giving_back_survives_the_folder(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    with Lock(folder):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    assert not folder.exists()


RACE = f"""
import sys, time
from pathlib import Path
{QUICK}
while time.time() < float(sys.argv[2]):
    pass
try:
    with lock.Lock(Path(sys.argv[1])):
        print("held", flush=True)
        time.sleep(2)
except lock.LockError:
    print("refused", flush=True)
"""


@pytest.mark.parametrize("changes", [ELSEWHERE, {"start": 1}], ids=["elsewhere", "here"])
def test_of_many_processes_that_find_a_dead_holder_one_succeeds_it(tmp_path, changes):
    leave(tmp_path, **changes)
    start = str(time.time() + 1.5)
    command = [sys.executable, "-c", RACE, str(tmp_path), start]
    racers = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    outcomes = [racer.communicate()[0].strip() for racer in racers]
    assert sorted(outcomes) == ["held"] + ["refused"] * 5
