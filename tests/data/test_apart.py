"""Functions in processes of their own: what they return, refuse, and how they die."""

import os
import signal
import time

import pytest

from pipeline.data.apart import Apart


def act(what):
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "hang":
        time.sleep(60)
    if what == "refuse":
        raise ValueError("no")
    return os.getpid()


def test_a_crash_is_told_and_the_next_call_works():
    call = Apart(act, 30)
    first = call("work")
    assert first != os.getpid() and call("work") == first, "the process is kept"
    with pytest.raises(ValueError, match="no"):
        call("refuse")
    assert call("work") == first
    with pytest.raises(ValueError, match=r"its reader crashed \(signal 11\)"):
        call("crash")
    assert call("work") != first
    call.close()


def test_what_hangs_is_ended():
    call = Apart(act, 30)
    call("work")
    call.seconds = 0.5
    with pytest.raises(ValueError, match=r"took more than 0.5 s"):
        call("hang")
    call.close()
