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
with lock.Lock(Path(sys.argv[1]) / "lock"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""
ELSEWHERE = {"host": "n7", "pid": 4242, "start": 1}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(lock, "HEARTBEAT", 0.1)
    monkeypatch.setattr(lock, "STALE", 1.0)
    monkeypatch.setattr("filelock._soft.MALFORMED_LOCK_AGE_THRESHOLD", 0.2)


def start(folder: Path, seconds: float = 60, prefix: tuple[str, ...] = ()) -> subprocess.Popen:
    """A process that wants the lock, holds it for a while and says what it does, a line each."""
    command = [*prefix, sys.executable, "-c", HOLD, str(folder), str(seconds)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def hold(folder: Path, **more) -> subprocess.Popen:
    process = start(folder, **more)
    assert process.stdout.readline() == "held\n"
    return process


def leave(folder: Path, *, silent: float = 0.0, **changes) -> Path:
    """A lock as its holder left it, last touched some seconds ago."""
    with Lock(folder / "lock"):
        text = (folder / "lock").read_text()
    for key, value in changes.items():
        text = re.sub(rf"(?m)^{key}=.*$", f"{key}={value}", text)
    path = folder / "lock"
    path.write_text(text)
    os.utime(path, (time.time() - silent,) * 2)
    return path


def holder_of(folder: Path) -> int:
    return filelock.SoftFileLease(folder / "lock").owner.pid


def waits(folder: Path, match: str, at_least: float = 1.5) -> subprocess.Popen:
    """A contender that says whom it waits for, and waits."""
    process = start(folder)
    assert re.search(match, told := process.stdout.readline()), told
    time.sleep(at_least)
    assert process.poll() is None and holder_of(folder) != process.pid
    return process


def end(*processes: subprocess.Popen) -> None:
    for process in processes:
        process.kill()
        process.wait()


def taken(folder: Path) -> float:
    """Seconds until a contender holds it."""
    started = time.monotonic()
    with Lock(folder / "lock"):
        assert holder_of(folder) == os.getpid()
        return time.monotonic() - started


def test_a_second_process_says_whom_it_waits_for_and_is_the_successor_of_a_killed_one(tmp_path):
    process = hold(tmp_path)
    told = rf"waiting: .*lock is held by process {process.pid} on {socket.gethostname()} since "
    told += rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d; to give it up, stop .* remove {re.escape(str(tmp_path / 'lock'))}"
    other = waits(tmp_path, f"^{told}")
    try:
        assert holder_of(tmp_path) == process.pid, "who waits leaves the lock alone"
        end(process)
        started = time.monotonic()
        assert other.stdout.readline() == "held\n" and time.monotonic() - started < 0.5
    finally:
        end(process, other)


def test_who_waits_has_the_lock_when_it_is_given_back(tmp_path):
    process = hold(tmp_path, seconds=1)
    assert 0.3 < taken(tmp_path) < 2
    assert process.wait() == 0 and not (tmp_path / "lock").exists()


def test_a_killed_process_that_nobody_waited_for_is_succeeded(tmp_path):
    process = hold(tmp_path)
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, but its parent has not asked yet
    assert taken(tmp_path) < 3
    process.wait()


def test_a_process_that_was_stopped_here_holds_on(tmp_path):
    process = hold(tmp_path)
    process.send_signal(signal.SIGSTOP)
    time.sleep(1.2)
    other = waits(tmp_path, f"held by process {process.pid}")
    assert holder_of(tmp_path) == process.pid
    end(process, other)


def test_the_lock_is_free_again_after_an_error(tmp_path):
    with pytest.raises(KeyError), Lock(tmp_path / "lock"):
        assert (tmp_path / "lock").exists()
        raise KeyError
    with Lock(tmp_path / "lock"):
        pass
    assert not list(tmp_path.iterdir())


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
    other = waits(tmp_path, "held by process 4242 on n7", at_least=3)
    assert holder_of(tmp_path) == 4242
    stop.set()
    thread.join()
    assert other.stdout.readline() == "held\n", "one that beats no more is succeeded"
    end(other)


@pytest.mark.parametrize("silent", [0, 1000, -1000])
def test_a_holder_elsewhere_that_misses_its_beats_is_succeeded(tmp_path, silent):
    leave(tmp_path, **ELSEWHERE, silent=silent)
    assert 1.0 <= taken(tmp_path) < 1.8


def test_a_lease_of_other_terms_is_told_with_the_way_out(tmp_path):
    leave(tmp_path, **ELSEWHERE, duration=7.0)
    told = f"held by process 4242 on n7 since .*remove {re.escape(str(tmp_path / 'lock'))}"
    with pytest.raises(LockError, match=told), Lock(tmp_path / "lock"):
        pass


@pytest.mark.parametrize("content", ["", "{", "filelock/2\n", "filelock/2\npid=7\n", "7"])
def test_a_torn_lock_holds_nothing(tmp_path, content):
    (tmp_path / "lock").write_text(content)
    os.utime(tmp_path / "lock", (0, 0))
    taken(tmp_path)


def test_the_heartbeat_touches_and_stops_with_the_lock(tmp_path):
    assert HEARTBEAT * 4 <= STALE, "a few missed beats are no death"
    path = tmp_path / "lock"
    with Lock(path):
        os.utime(path, (0, 0))
        deadline = time.time() + 5
        while path.stat().st_mtime == 0 and time.time() < deadline:
            time.sleep(0.01)
        assert time.time() - path.stat().st_mtime < 5
    leave(tmp_path, silent=1000)
    time.sleep(0.3)
    assert time.time() - path.stat().st_mtime > 900, "a lock that was given back is not touched"


def test_who_loses_the_lock_leaves_and_touches_nothing(tmp_path):
    """As after it was suspended for long, or after somebody removed the lock by hand."""
    process = hold(tmp_path)
    (tmp_path / "lock").unlink()
    path = leave(tmp_path, **ELSEWHERE, silent=50)
    said, _ = process.communicate(timeout=5)
    assert process.returncode == lock.LOST and "no longer held by this process" in said
    assert time.time() - path.stat().st_mtime > 40 and holder_of(tmp_path) == 4242


@pytest.mark.parametrize("changes", [ELSEWHERE, {"start": 1}], ids=["elsewhere", "here"])
def test_of_many_processes_that_find_a_dead_holder_one_after_the_other_succeeds_it(tmp_path, changes):
    leave(tmp_path, **changes)
    turns = tmp_path / "turns"
    turn = HOLD.replace("time.sleep(", "file = open(sys.argv[2], 'a'); file.write('('); file.flush(); time.sleep(0.3); "
                        "file.write(')'); file.close(); (lambda _: None)(")  # fmt: skip
    command = [sys.executable, "-c", turn.replace("float(sys.argv[2])", "0"), str(tmp_path), str(turns)]
    racers = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(6)]
    assert [racer.wait() for racer in racers] == [0] * 6
    assert turns.read_text() == "()" * 6


NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc")


@pytest.mark.skipif(subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode != 0, reason="no unshare")
@pytest.mark.parametrize("inside", [(True, True), (True, False), (False, True)], ids=["both", "holder", "other"])
def test_processes_that_cannot_see_each_other_wait_for_each_other(tmp_path, inside):
    """Containers on one machine: each has process numbers of its own, of which the other's mean nothing."""
    holder = hold(tmp_path, prefix=NAMESPACE if inside[0] else ())
    other = start(tmp_path, prefix=NAMESPACE if inside[1] else ())
    try:
        assert "held by process" in other.stdout.readline()
        time.sleep(3)  # longer than a silence that counts as death
        assert other.poll() is None and holder.poll() is None
        for child in subprocess.run(["pgrep", "-P", str(holder.pid)], capture_output=True, text=True).stdout.split():
            os.kill(int(child), signal.SIGKILL)
        end(holder)
        assert other.stdout.readline() == "held\n"
    finally:
        for process in (holder, other):
            subprocess.run(["pkill", "-KILL", "-P", str(process.pid)])
        end(holder, other)
