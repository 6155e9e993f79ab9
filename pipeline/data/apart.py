"""A function called in another process, which may crash or hang without taking this one along.

Readers written in C++ do that on files that are broken in the right way. Threads that call at once have one each.
"""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any


class Apart:
    """Calls `function`, a module's own, in another process, which is kept for further calls.

    Args:
        function: raises ValueError for what it refuses; its arguments and result can be pickled.
        seconds: after which the process is ended.
    """

    def __init__(self, function: Callable[..., Any], seconds: float) -> None:
        self.function, self.seconds = function, seconds
        self._idle: list[tuple[SpawnProcess, Connection]] = []

    def __call__(self, *args: Any) -> Any:
        """The function's result.

        Raises:
            ValueError: the function's own, or the process crashed or took too long.
        """
        try:
            process, pipe = self._idle.pop()
        except IndexError:
            process, pipe = self._start()
        try:
            pipe.send(args)
            if not pipe.poll(self.seconds):
                _end(process, pipe)
                raise ValueError(f"reading it took more than {self.seconds:g} s")
            result, refusal = pipe.recv()
        except (EOFError, OSError):
            code = _end(process, pipe)
            raise ValueError(f"its reader crashed{f' (signal {-code})' if code < 0 else ''}") from None
        self._idle.append((process, pipe))
        if refusal is not None:
            raise ValueError(refusal)
        return result

    def close(self) -> None:
        """Ends the processes."""
        while self._idle:
            _end(*self._idle.pop())

    def _start(self) -> tuple[SpawnProcess, Connection]:
        context = multiprocessing.get_context("spawn")  # threads run here, which a fork would not survive
        pipe, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self.function), daemon=True)
        process.start()
        theirs.close()
        return process, pipe


def _end(process: SpawnProcess, pipe: Connection) -> int:
    process.join(0.1)  # one that crashed tells how
    process.kill()
    process.join()
    pipe.close()
    return process.exitcode or 0


def _serve(pipe: Connection, function: Callable[..., Any]) -> None:
    while True:
        try:
            args = pipe.recv()
        except EOFError:  # nobody asks any more
            return
        try:
            answer = function(*args), None
        except ValueError as error:
            answer = None, str(error) or "ValueError"
        pipe.send(answer)
