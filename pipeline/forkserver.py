"""A forkserver: the stages of a run on one machine begin as forks of a process that has imported what they need.

Importing PyTorch, timm and MMEngine takes five seconds of CPU, more than most cells of a small study need for what they
are there for. So Snakemake's main process starts one server, and jobs begin as its clients:

    snakemake ── python -m pipeline.forkserver …                                 imports, and forks for each client
              └─ python …/forkserver.py ADDRESS python -m stages.evaluate …      hands over its command, ends as it ends

A child has its client's environment, folder and streams; signals to the client reach it, and it is killed where its
client is. Where no server answers, the client becomes the command itself. The server ends after Snakemake.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

STREAMS = (0, 1, 2)
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
GONE = "error: the process from which the stages of this run are forked was killed; run this again"


def start(workflow: Any, modules: Iterable[str], log: Path) -> None:
    """Start the server of a run; UNMASK_START names the program that makes the command that follows a client of it.

    Args:
        workflow: Snakemake's, before it runs jobs. On a cluster and in containers they run elsewhere, without a server.
        modules: to be imported, in the order of their need.
        log: of the server; the program stands beside it.
    """
    elsewhere = workflow.non_local_exec or workflow.deployment_settings.deployment_method
    if elsewhere or not hasattr(os, "pidfd_open"):
        return
    folder = Path(tempfile.mkdtemp(prefix="unmask-"))  # for this user only; the server removes it
    log.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listener, log.open("w") as told:
        try:
            listener.bind(str(folder / "socket"))
        except OSError as error:  # a long TMPDIR: addresses end at 107 bytes
            told.write(f"no server, so that each job imports by itself: {folder / 'socket'}: {error}\n")
            folder.rmdir()
            return
        listener.listen(128)  # clients wait here until the server is up
        life, _ = os.pipe()  # its standard input, which ends with this process
        command = [sys.executable, "-m", "pipeline.forkserver", str(folder), str(listener.fileno()), *modules]
        subprocess.Popen(  # in a session of its own, since Ctrl-C is for the clients
            command, stdin=life, stdout=told, stderr=told, pass_fds=[listener.fileno()], start_new_session=True
        )
        os.close(life)
    client = [sys.executable, "-E", "-S", str(Path(__file__).resolve()), str(folder / "socket")]
    program = log.with_suffix(".sh").absolute()  # not among temporary files, which may not be executed everywhere
    program.write_text(f'#!/bin/sh\nexec {shlex.join(client)} "$@"\n')
    program.chmod(0o700)
    os.environ["UNMASK_START"] = str(program)


# The client.


def hand_over(address: str, command: Sequence[str]) -> None:
    """Have a command run in a child of the server, and end as it ends.

    Args:
        address: of the server's socket; where none answers, this process becomes the command.
        command: `python -m module …`.
    """
    server = socket.socket(socket.AF_UNIX)
    try:
        server.connect(address)
    except OSError:
        os.execvp(command[0], command)
    told = {"module": command[2], "arguments": command[3:], "folder": os.getcwd(), "environ": dict(os.environ)}
    socket.send_fds(server, [b"+"], STREAMS)
    server.sendall(f"{json.dumps(told)}\n".encode())
    answers = server.makefile()
    if not (child := answers.readline()):
        sys.exit(GONE)
    for number in FORWARDED:
        signal.signal(number, lambda number, _: os.kill(int(child), number))
    if not (status := answers.readline()):
        sys.exit(GONE)
    if int(status) < 0:  # by a signal
        with suppress(OSError):  # one that cannot be caught
            signal.signal(-int(status), signal.SIG_DFL)
        os.kill(os.getpid(), -int(status))
    sys.exit(int(status))


# The server.


def serve(listener: socket.socket, modules: list[str]) -> dict[str, Any] | None:
    """Fork for each client, until standard input has ended and no child is left.

    Args:
        listener: where clients connect.
        modules: imported between clients, one at a time, so that the first need not wait for the last.

    Returns:
        In a child, the request that it is to fulfil; in the server None, at the end.
    """
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(listener, selectors.EVENT_READ)
    children: dict[int, tuple[int, socket.socket]] = {}  # by their numbers: a file that tells of the end, the client
    while listener.fileno() >= 0 or children:
        for key, _ in selector.select(0 if modules else None):
            if key.fd == 0:  # Snakemake is gone: those at work end their work, others find no server
                selector.unregister(0)
                selector.unregister(listener)
                listener.close()
                modules = []
            elif key.fileobj is listener:
                client, _ = listener.accept()
                request, streams = _receive(client)
                if request is None:
                    client.close()
                    continue
                if (pid := os.fork()) == 0:
                    for other in (selector, listener, client, *(other for _, other in children.values())):
                        other.close()
                    _become(request, streams)
                    return request
                _group(pid)
                _close(streams)
                _tell(client, pid)
                children[pid] = os.pidfd_open(pid), client
                for told in children[pid]:
                    selector.register(told, selectors.EVENT_READ, pid)
            elif key.data in children:
                end, client = children[key.data]
                selector.unregister(key.fileobj)
                if key.fileobj is client:  # it says nothing while it lives
                    os.killpg(key.data, signal.SIGKILL)
                    continue
                _tell(client, os.waitstatus_to_exitcode(os.waitpid(key.data, 0)[1]))
                if client in selector.get_map():
                    selector.unregister(client)
                client.close()
                os.close(end)
                del children[key.data]
        if modules:
            _load(modules.pop(0))
    return None


def _receive(client: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    _, streams, _, _ = socket.recv_fds(client, 1, len(STREAMS))
    line = client.makefile().readline()
    return (json.loads(line) if line.endswith("\n") else None), list(streams)


def _become(request: dict[str, Any], streams: list[int]) -> None:
    _group(0)
    for number, stream in zip(STREAMS, streams, strict=True):
        os.dup2(stream, number)
    _close(streams)
    os.environ.clear()
    os.environ.update(request["environ"])
    os.chdir(request["folder"])
    sys.argv = ["", *request["arguments"]]
    gc.enable()


def _group(process: int) -> None:
    """Make it the head of a group, with which it is killed; parent and child do so, whoever is first."""
    with suppress(OSError):
        os.setpgid(process, process)


def _close(streams: list[int]) -> None:
    for stream in streams:
        os.close(stream)


def _tell(client: socket.socket, number: int) -> None:
    with suppress(OSError):  # it may be gone
        client.sendall(f"{number}\n".encode())


def _load(module: str) -> None:
    with suppress(Exception):  # a stage that needs it says what is wrong
        importlib.import_module(module)
    gc.freeze()


if __name__ == "__main__":
    if __spec__ is None:
        hand_over(sys.argv[1], sys.argv[2:])
    gc.disable()  # a million objects come with the modules, and stay
    folder, fd, *names = sys.argv[1:]
    if request := serve(socket.socket(fileno=int(fd)), names):
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
    else:
        shutil.rmtree(folder)
