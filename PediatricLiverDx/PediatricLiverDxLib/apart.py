"""Work in a process of its own, forked from this one: what it imports and allocates is gone with it.

SimpleITK takes 130 MB by being imported, Slicer's core 180, the networks 110, and a diagnosis needs each of them for a part of its time.
Linux only: elsewhere a fork is not safe, or memory without a name cannot grow after it was shared.
"""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from .vocabulary import OUT_OF_MEMORY, InputError

#: Seconds that a process has to remove what it wrote to a temporary folder, when it is to end.
_PATIENCE_S = 1.0
#: prctl's number for the signal that a process gets when the one that forked it has ended, Linux.
_SIGNAL_AT_PARENTS_END = 1


def can_work_apart() -> bool:
    """Say whether this process may fork and share memory that grows.

    A second thread may hold a lock that nobody in the new process would ever open. (ONNX Runtime keeps one that sleeps, and is not used in
    what is forked.) A limit to the size of files counts for memory as well.
    """
    if sys.platform != "linux" or threading.active_count() > 1:
        return False
    from resource import RLIM_INFINITY, RLIMIT_FSIZE, getrlimit

    return hasattr(os, "memfd_create") and getrlimit(RLIMIT_FSIZE)[0] == RLIM_INFINITY


class SharedMemory:
    """Memory of this process and of those that it forks from now on; it takes no room until one of them asks for an array."""

    def __init__(self) -> None:
        self._file = os.memfd_create("volumes")

    def array(self, shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
        """Return all of it as an array, the same one in every process; 0 where nothing was written yet."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if os.fstat(self._file).st_size < size:
            os.ftruncate(self._file, size)
        return np.frombuffer(mmap.mmap(self._file, size), dtype).reshape(shape)

    def cut(self, size: int) -> None:
        """Give all but the first `size` bytes back; a process that touches an array of them is ended by the system."""
        os.ftruncate(self._file, size)


class Line:
    """One end of the line between a process and the one that it was forked from. What goes over it is pickled."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def tell(self, *said: Any) -> None:
        self._connection.send(said)

    def wait(self) -> tuple[Any, ...]:
        """Return what was told next. Raises EOFError when the other process has gone."""
        return self._connection.recv()


class Apart:
    """A piece of work in a process that is forked at once.

    work: called there with its Line; what it returns is the result. It begins by waiting for what to work on, and says on the way
    whatever it likes.
    """

    def __init__(self, work: Callable[[Line], Any]) -> None:
        context = multiprocessing.get_context("fork")
        here, there = context.Pipe()
        self._process = context.Process(target=_work, args=(work, there, here), daemon=True)
        self._process.start()
        there.close()
        self._line = Line(here)

    def tell(self, *said: Any) -> None:
        with suppress(BrokenPipeError):  # wait says what became of it
            self._line.tell(*said)

    def wait(self) -> tuple[Any, ...]:
        """Return ("done", result), or what the work said before it.

        Raises what the work raised; InputError when the system took the process away, which it does when memory runs out; and RuntimeError
        when it ended otherwise.
        """
        try:
            said = self._line.wait()
        except (EOFError, ConnectionResetError):
            self._process.join()
            if self._process.exitcode == -signal.SIGKILL:
                raise InputError(OUT_OF_MEMORY) from None
            raise RuntimeError(f"a process of this program ended before its time (exit code {self._process.exitcode})") from None
        if said[0] == "failed":
            raise said[1] from RuntimeError(f"in a process of its own:\n{said[2]}")
        if said[0] == "done":
            # its memory is free when this returns
            self._process.join()
        return said

    def end(self) -> None:
        """End the process, whatever it does; it may first remove what it wrote to a temporary folder."""
        self._process.terminate()
        self._process.join(_PATIENCE_S)
        self._process.kill()
        self._process.join()


def _work(work: Callable[[Line], Any], connection: Connection, other_end: Connection) -> None:
    # whoever forked this one sees to its end: Ctrl-C and the end of a session come to both
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # and may be killed: what is left then is removed by the next run, but not while this one holds it
    ctypes.CDLL(None).prctl(_SIGNAL_AT_PARENTS_END, signal.SIGKILL)
    other_end.close()
    line = Line(connection)
    # it may have gone itself
    with suppress(EOFError, OSError):
        try:
            answer = ("done", work(line))
        except EOFError:
            return
        except Exception as error:
            answer = ("failed", error, traceback.format_exc())
        line.tell(*answer)
