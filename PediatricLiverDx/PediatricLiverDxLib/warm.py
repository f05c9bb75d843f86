"""What the worker keeps from one request to the next: one exam, read and aligned, and the networks of one bundle.

Either is made anew when a file of it changed on disk. The former one is let go first: an exam takes up to a gigabyte.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .alignment import align
from .bundle import Networks, load_networks, shipped_bundle
from .exam import read_exam
from .volumes import AlignedExam, Exam

if TYPE_CHECKING:
    from .diagnosis import KnownLesions, Progress
    from .worker_requests import ExamFiles

#: (name, size, time of change in ns, of the last change of anything in ns, number on disk) of files; None for one that is not there.
State = tuple[tuple[str, int, int, int, int] | None, ...]

#: Volumes whose voxels lie in another file beside them.
_HEADERS = (".mhd", ".nhdr")

#: Seconds between two looks at whether the request is still wanted, while something is waited for.
_TICK = 0.05


@dataclass(frozen=True)
class _KeptExam:
    state: tuple[tuple[str, State], ...]
    exam: Exam
    aligned: tuple[bool, AlignedExam] | None = None


@dataclass(frozen=True)
class _KeptNetworks:
    state: State
    loading: Future[Networks]


@dataclass(frozen=True)
class Prepared:
    """Hold what a request starts from.

    warm: what was in memory already. timings_s: stage -> seconds of what was not. known: lesions classified already (diagnosis.diagnose).
    """

    exam: Exam
    aligned: AlignedExam
    networks: Networks
    warm: dict[str, bool]
    timings_s: dict[str, float]
    known: KnownLesions


class Warm:
    """Keep one exam and one bundle."""

    def __init__(self) -> None:
        self._exam: _KeptExam | None = None
        self._networks: _KeptNetworks | None = None
        self._known: tuple[AlignedExam, Networks, KnownLesions] | None = None
        self._loader = ThreadPoolExecutor(1)

    def prepare(self, files: ExamFiles, bundle: Path | None, progress: Progress) -> Prepared:
        """Return an exam and a bundle, from memory or from disk; what progress raises ends it, and what is done until then is kept.

        Raises InputError as read_exam, align and load_networks do.
        """
        timings: dict[str, float] = {}
        loading, networks_warm = self._load(bundle or shipped_bundle())
        exam, exam_warm = self._read(files, progress, timings)
        if loading.done():  # a bundle that cannot be used is said at once
            loading.result()
        aligned, aligned_warm = self._align(files.align, progress, timings)
        networks = _timed("load", timings, lambda: _waited(loading, progress)) if not networks_warm else _waited(loading, progress)
        warm = {"exam": exam_warm and aligned_warm, "bundle": networks_warm}
        if not self._known or self._known[0] is not aligned or self._known[1] is not networks:
            self._known = (aligned, networks, {})
        return Prepared(exam, aligned, networks, warm, timings, self._known[2])

    def _load(self, folder: Path) -> tuple[Future[Networks], bool]:
        state = _state(folder)
        kept = self._networks
        if kept and kept.state == state and not (kept.loading.done() and kept.loading.exception()):
            return kept.loading, kept.loading.done()
        self._networks = self._known = None
        # beside reading and aligning; should the request be cancelled, the next one finds it done
        self._networks = _KeptNetworks(state, self._loader.submit(load_networks, folder))
        return self._networks.loading, False

    def _read(self, files: ExamFiles, progress: Progress, timings: dict[str, float]) -> tuple[Exam, bool]:
        given = files.files or {"study": files.study}
        # looked at before reading: a file that changes meanwhile is read again next time
        state = tuple((name, _state(path)) for name, path in given.items())
        if self._exam and self._exam.state == state:
            return self._exam.exam, True
        self._exam = self._known = None
        progress("read", 0.0, "Reading the exam")
        exam = _timed("read", timings, lambda: read_exam(files.study, files.files))
        self._exam = _KeptExam(state, exam)
        return exam, False

    def _align(self, enabled: bool, progress: Progress, timings: dict[str, float]) -> tuple[AlignedExam, bool]:
        if self._exam.aligned and self._exam.aligned[0] == enabled:
            return self._exam.aligned[1], True
        self._exam, self._known = replace(self._exam, aligned=None), None
        progress("align", 0.0, "Aligning the phases")
        exam = self._exam.exam
        aligned = _timed("align", timings, lambda: align(exam, enabled, lambda text, fraction: progress("align", fraction, text)))
        self._exam = replace(self._exam, aligned=(enabled, aligned))
        return aligned, False


def _timed(stage: str, timings: dict[str, float], function: Callable):
    started = time.perf_counter()
    result = function()
    timings[stage] = time.perf_counter() - started
    return result


def _waited(loading: Future[Networks], progress: Progress) -> Networks:
    """Return the networks when they are loaded; waits in short steps, for a thread that waits for a lock hears no signal."""
    if not loading.done():
        progress("load", 0.0, "Loading the networks")
        while not loading.done():
            wait([loading], _TICK)
    return loading.result()


def _state(path: Path) -> State:
    """Return what tells whether a file, or any file below a folder, is still the one that was read."""
    try:
        is_folder = path.is_dir()
    except OSError:  # a name too long for the system: reading it will say so
        return (None,)
    if is_folder:
        files = sorted(Path(root, name) for root, _, names in os.walk(path) for name in names)
    elif path.suffix.lower() in _HEADERS:
        files = sorted(path.parent.glob("*"))
    else:
        files = [path]
    return tuple(_file_state(file) for file in files)


def _file_state(path: Path) -> tuple[str, int, int, int, int] | None:
    try:
        status = path.stat()
    except (OSError, ValueError):  # reading it will say so
        return None
    return str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
