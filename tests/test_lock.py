"""One process at a time on a work directory: who lives is respected, who died is succeeded, by one only."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline import lock
from pipeline.lock import HEARTBEAT, STALE, Lock, LockError

ROOT = Path(__file__).parent.parent
HOLD = """
import sys, time
from pathlib import Path
from pipeline.lock import Lock
with Lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(folder: Path) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def leave(folder: Path, *, silent: float = 0.0, **changes) -> Path:
    """A lock as its holder left it, last touched some seconds ago."""
    holder = {"host": socket.gethostname(), "pid": os.getpid(), "born": lock._born(os.getpid()), "since": time.time()}
    path = folder / "lock"
    path.write_text(json.dumps(holder | changes))
    os.utime(path, (time.time() - silent,) * 2)
    return path


def holder_of(folder: Path) -> int:
    return json.loads((folder / "lock").read_text())["pid"]


def test_a_second_process_is_told_who_holds_it_and_a_killed_one_is_succeeded(tmp_path):
    process = hold(tmp_path)
    try:
        with pytest.raises(LockError) as caught, Lock(tmp_path):
            pass
        told = rf"{re.escape(str(tmp_path))} is held by process {process.pid} on {socket.gethostname()} since "
        assert re.match(told + r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d; wait for it, or stop it", str(caught.value))
        assert holder_of(tmp_path) == process.pid, "the refused process leaves the lock alone"
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, but its parent has not asked yet
        with Lock(tmp_path):
            assert holder_of(tmp_path) == os.getpid()
    finally:
        process.kill()
        process.wait()
    assert not (tmp_path / "lock").exists()


def test_the_lock_is_free_again_after_an_error(tmp_path):
    with pytest.raises(KeyError), Lock(tmp_path):
        assert (tmp_path / "lock").exists()
        raise KeyError
    with Lock(tmp_path):
        pass
    assert {path.name for path in tmp_path.iterdir()} <= {"lock.guard"}


def test_one_process_may_not_hold_it_twice(tmp_path):
    with Lock(tmp_path):
        with pytest.raises(LockError, match=f"held by process {os.getpid()}"), Lock(tmp_path):
            pass
        assert holder_of(tmp_path) == os.getpid(), "still held"


def test_a_number_that_was_given_to_another_process_is_no_holder(tmp_path):
    leave(tmp_path, born="1")
    with Lock(tmp_path):
        assert json.loads((tmp_path / "lock").read_text())["born"] == lock._born(os.getpid()) != "1"


def test_a_dead_number_is_no_holder(tmp_path):
    done = subprocess.Popen(["true"])
    born = lock._born(done.pid)
    done.wait()
    leave(tmp_path, pid=done.pid, born=born or "7")
    with Lock(tmp_path):
        pass


@pytest.mark.parametrize(("silent", "refused"), [(0.0, True), (STALE - 20, True), (STALE + 1, False)])
def test_a_holder_elsewhere_counts_by_its_silence(tmp_path, silent, refused):
    leave(tmp_path, host="n7", pid=4242, born="1", silent=silent)
    if refused:
        with pytest.raises(LockError, match="held by process 4242 on n7"), Lock(tmp_path):
            pass
        assert holder_of(tmp_path) == 4242
    else:
        with Lock(tmp_path):
            assert holder_of(tmp_path) == os.getpid()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"host": "n7"}', "7"])
def test_a_torn_lock_holds_nothing(tmp_path, content):
    (tmp_path / "lock").write_text(content)
    os.utime(tmp_path / "lock", (0, 0))
    with Lock(tmp_path):
        assert holder_of(tmp_path) == os.getpid()


def test_the_heartbeat_touches_and_stops_with_the_lock(tmp_path, monkeypatch):
    assert HEARTBEAT * 4 <= STALE, "a few missed beats are no death"
    monkeypatch.setattr(lock, "HEARTBEAT", 0.02)
    path = tmp_path / "lock"
    with Lock(tmp_path):
        os.utime(path, (0, 0))
        deadline = time.time() + 5
        while path.stat().st_mtime == 0 and time.time() < deadline:
            time.sleep(0.01)
        assert time.time() - path.stat().st_mtime < 5
    leave(tmp_path, silent=1000)
    time.sleep(0.1)
    assert time.time() - path.stat().st_mtime > 900, "a lock that was given back is not touched"


def test_the_lock_of_a_successor_is_neither_touched_nor_removed(tmp_path, monkeypatch):
    """Publishing removes the work directory while the lock in it is held; another process may begin at once."""
    monkeypatch.setattr(lock, "HEARTBEAT", 0.02)
    with Lock(tmp_path):
        (tmp_path / "lock").unlink()
        path = leave(tmp_path, host="n7", pid=4242, born="1", silent=50)
        time.sleep(0.1)
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


def test_of_two_that_find_a_dead_holder_one_succeeds_it(tmp_path, monkeypatch):
    """The slower judges while the faster takes over: what it removes must not be the faster's lock."""
    leave(tmp_path, host="n7", pid=4242, born="1", silent=STALE + 60)
    real, barrier, outcomes = lock._is_alive, threading.Barrier(2, timeout=0.3), []

    def judged_together(holder, silent):
        alive = real(holder, silent)
        with suppress(threading.BrokenBarrierError):
            barrier.wait()  # passes only when both have judged before either acted
            time.sleep(0.2 * (threading.current_thread().name == "n2"))
        return alive

    def take():
        try:
            with Lock(tmp_path):
                outcomes.append("held")
                done.wait(5)
        except LockError:
            outcomes.append("refused")

    monkeypatch.setattr(lock, "_is_alive", judged_together)
    # Two threads stand for two processes on two machines.
    monkeypatch.setattr(lock.socket, "gethostname", lambda: threading.current_thread().name)
    done, threads = threading.Event(), [threading.Thread(target=take, name=name) for name in ("n1", "n2")]
    for thread in threads:
        thread.start()
    deadline = time.time() + 5
    while len(outcomes) < 2 and time.time() < deadline:
        time.sleep(0.01)
    done.set()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["held", "refused"]


RACE = """
import sys, time
from pathlib import Path
from pipeline.lock import Lock, LockError
while time.time() < float(sys.argv[2]):
    pass
try:
    with Lock(Path(sys.argv[1])):
        print("held", flush=True)
        time.sleep(0.5)
except LockError:
    print("refused", flush=True)
"""


def test_of_many_processes_that_find_a_dead_holder_one_succeeds_it(tmp_path):
    leave(tmp_path, host="n7", pid=4242, born="1", silent=STALE + 60)
    start = str(time.time() + 1.0)
    command = [sys.executable, "-c", RACE, str(tmp_path), start]
    racers = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    outcomes = [racer.communicate()[0].strip() for racer in racers]
    assert sorted(outcomes) == ["held"] + ["refused"] * 5
