"""The process beside Slicer: requests come in as JSON lines on standard input, answers go out as JSON lines on standard output.

    <- {"id": null, "ready": {"protocol": 1, "software": "PediatricLiverDx 0.1.0", "folder": "...", "process": 4711}}
    -> {"id": 1, "diagnose": {"files": {"AP": "/.../AP.nrrd", "PVP": "/.../PVP.nrrd"}, "output": "/.../out", "scene": false}}
    <- {"id": 1, "progress": {"stage": "align", "fraction": 0.5, "text": "aligning PVP"}}
    <- {"id": 1, "result": {"diagnosis": {...}, "rois": {}, "warm": {"exam": false, "bundle": false}, "files": ["cam_L1.nrrd", ...]}}
    -> {"id": 2, "detect": {...}}   {"id": 3, "cancel": {"of": 2}}   {"id": 4, "quit": {}}
    -> {"id": 5, "map": {"files": {...}, "roi": {...}, "of": "HB", "output": "/.../HB.nrrd"}}
    <- {"id": 2, "error": {"kind": "cancelled", "message": "..."}}

Nothing else is written to standard output. `folder` is for the volumes that are sent over: readable by this user only, and removed when the
worker ends, in whatever way the panel does. `process` is the number of this process, of which whoever started it may only know a launcher.
One request is computed at a time, further ones wait in order. See worker_requests for what a request may hold and warm for what is kept
between requests.

Two threads: one listens, the main one computes. A signal ends what runs, between any two steps of Python and so within the longest single
step of the libraries below; progress callbacks look as well. The end of standard input ends the process.
"""

from __future__ import annotations

import _thread
import json
import logging
import os
import re
import signal
import sys
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from . import __version__
from .private_folder import PrivateFolder, make_private_folder
from .vocabulary import OUT_OF_MEMORY, InputError

if TYPE_CHECKING:
    from .diagnosis import Diagnosis
    from .rois import Roi
    from .volumes import Grid
    from .warm import Prepared, Warm
    from .worker_requests import Detect, Diagnose, Map, RequestId

#: Goes up when a key of the protocol changes its meaning or goes.
PROTOCOL = 1

#: Bytes of a request at most: thousands of ROIs.
LONGEST_LINE = 1 << 20

#: Seconds that a running stage has to leave before the process ends without it.
GRACE = 2.0


class Stopped(BaseException):
    """What runs was cancelled, or the process has to end. No Exception: nothing on the way may take it for a failure of its own."""


@dataclass
class _Task:
    """Hold a request that waits or runs."""

    id: RequestId
    request: Diagnose | Detect | Map
    cancelled: bool = False


def run() -> int:
    """Answer requests until standard input ends; returns the exit code. For a process of its own: takes over its streams and signals."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what libraries print goes to the log and not among the answers
    # what libraries say of a file may hold its path, or what its header says of the patient
    warnings.simplefilter("ignore")
    logging.disable()
    folder = make_private_folder()
    try:
        # not sys.stdin: a thread that waits in its buffer aborts the interpreter that is about to end
        worker = Worker(os.fdopen(os.dup(0), "rb"), answers, folder)
        signal.signal(signal.SIGINT, worker.interrupted)
        signal.signal(signal.SIGTERM, worker.terminated)
        return worker.serve()
    finally:
        folder.close()


class Worker:
    """Answer requests from a stream of lines until it ends."""

    def __init__(self, requests: BinaryIO, answers: BinaryIO, folder: PrivateFolder) -> None:
        self._requests, self._answers, self._folder = requests, answers, folder
        self._writing = threading.Lock()
        # guards the three below
        self._changed = threading.Condition()
        self._waiting: deque[_Task] = deque()
        self._running: _Task | None = None
        self._exit_code: int | None = None
        #: Set when "ready" is said: nothing is answered before.
        self._is_ready = threading.Event()
        #: Whether a signal may end what the main thread is doing; touched by the main thread only.
        self._interruptible = False

    def serve(self) -> int:
        """Say "ready", answer until the end, and return the exit code. Raises InputError, before "ready", where nothing can be computed."""
        # numpy cannot be imported by two threads at a time: what the listening thread uses is imported before there is one
        from . import worker_requests  # noqa: F401

        # from the start: what hangs before "ready" ends with its input too
        threading.Thread(target=self._listen, daemon=True).start()
        # a panel that hears "ready" hands volumes over, and would look for the fault there
        _load_runtime()
        about = {"protocol": PROTOCOL, "software": f"PediatricLiverDx {__version__}"}
        self._send(None, ready={**about, "folder": str(self._folder.path), "process": os.getpid()})
        self._is_ready.set()
        try:
            warm = _warm()
            while (task := self._next()) is not None:
                self._answer(task, warm)
        except Stopped:
            pass
        return self._exit_code or 0

    def interrupted(self, signum: int, frame: object) -> None:
        """Handle the signal by which the listening thread reaches the main one; from elsewhere it means nothing: end the input instead."""
        if self._interruptible and self._is_stopped():
            self._interruptible = False
            raise Stopped

    def terminated(self, signum: int, frame: object) -> None:
        """Handle the signal that ends the process."""
        if self._exit_code is None:
            self._exit_code = 128 + signum
        self.interrupted(signum, frame)

    # listening thread ---------------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        try:
            for line in _lines(self._requests):
                self._is_ready.wait()
                self._receive(line)
        finally:
            self._end()

    def _receive(self, line: bytes | None) -> None:
        from .worker_requests import Cancel, Quit, read_line, request_of

        id = None
        try:
            if line is None:
                raise InputError(f"Expected a line of at most {LONGEST_LINE} bytes, got a longer one.")
            id, document = read_line(line)
            request = request_of(document)
            if isinstance(request, Quit):
                self._end()
            elif isinstance(request, Cancel):
                self._send(id, result={"of": request.of, "cancelled": self._cancel(request.of)})
            else:
                self._enqueue(_Task(id, request))
        except InputError as error:
            self._refuse(id, error)
        except Exception as error:
            self._defect(id, error)

    def _enqueue(self, task: _Task) -> None:
        with self._changed:
            if task.id in [other.id for other in (*self._waiting, self._running) if other]:
                raise InputError("Expected an id of its own, got that of a request that is not answered yet.")
            self._waiting.append(task)
            self._changed.notify()

    def _cancel(self, of: RequestId) -> bool:
        """Cancel a request; False where it was answered already or never made."""
        with self._changed:
            task = next((task for task in self._waiting if task.id == of), None)
            if task:
                self._waiting.remove(task)
            elif self._running and self._running.id == of:
                self._running.cancelled = True
                _thread.interrupt_main()
                return True
        if task:
            self._refuse_cancelled(task)
        return task is not None

    def _end(self) -> None:
        """End the process: whoever started it has gone or wants it to go, so nothing is answered any more."""
        with self._changed:
            self._exit_code = self._exit_code or 0
            self._changed.notify()
        _thread.interrupt_main()
        time.sleep(GRACE)
        self._folder.close()
        os._exit(self._exit_code)

    # main thread --------------------------------------------------------------------------------------------------------------

    def _next(self) -> _Task | None:
        """Wait for a request; None at the end."""
        with self._changed:
            while not self._waiting and self._exit_code is None:
                with self._stoppable():
                    self._changed.wait()
            if self._exit_code is not None:
                return None
            self._running = self._waiting.popleft()
            return self._running

    def _answer(self, task: _Task, warm: Warm) -> None:
        failure: BaseException | None = None
        try:
            answer = _line(task.id, result=self._compute(task, warm))
        except MemoryError:
            failure = InputError(OUT_OF_MEMORY)
        except (Exception, Stopped) as error:
            failure = error
        with self._changed:
            # from here on it cannot be cancelled any more
            self._running = None
        if self._exit_code is not None:
            return
        if task.cancelled:
            self._refuse_cancelled(task)
        elif isinstance(failure, InputError):
            self._refuse(task.id, failure)
        elif failure:
            self._defect(task.id, failure)
        else:
            self._write(answer)

    def _compute(self, task: _Task, warm: Warm) -> dict[str, Any]:
        from .worker_requests import Detect, Map

        if isinstance(task.request, Detect):
            return self._detect(task, warm)
        return self._map(task, warm) if isinstance(task.request, Map) else self._diagnose(task, warm)

    def _detect(self, task: _Task, warm: Warm) -> dict[str, Any]:
        from .worker_requests import roi_document

        with self._stoppable():
            prepared = self._prepare(task, warm)
            started, text = time.perf_counter(), "Looking for lesions"
            self._tell(task, "detect", 0.0, text)
            rois = prepared.networks.detector.find(prepared.aligned, lambda part: self._tell(task, "detect", part, text))
        timings = {**prepared.timings_s, "detect": time.perf_counter() - started}
        return {
            "rois": [roi_document(roi) for roi in rois],
            "warnings": [str(warning) for warning in (*prepared.exam.warnings, *prepared.aligned.warnings)],
            "warm": prepared.warm,
            "timings_s": {stage: round(seconds, 4) for stage, seconds in timings.items()},
        }

    def _diagnose(self, task: _Task, warm: Warm) -> dict[str, Any]:
        from .diagnosis import diagnose
        from .outputs import output_folder, scene_writer, write_outputs

        request: Diagnose = task.request
        with self._stoppable():
            prepared = self._prepare(task, warm)
            diagnosis = diagnose(
                prepared.exam,
                prepared.aligned,
                prepared.networks,
                rois=request.rois,
                known=prepared.known,
                progress=lambda *said: self._tell(task, *said),
                timings_s=prepared.timings_s,
            )
        files: list[str] = []
        if request.output:
            with self._stoppable():
                self._tell(task, "write", 0.0, "Writing the results")
            if request.scene:
                scene_writer()  # imports Slicer's core, a second that nothing may break into
            # moving files into place is not broken into either
            with output_folder(request.output) as folder, self._stoppable():
                diagnosis = write_outputs(diagnosis, prepared.aligned, folder, scene=request.scene, report=request.report)
                files = sorted(path.name for path in folder.iterdir())
        return {
            "diagnosis": diagnosis.to_dict(),
            "rois": _names(diagnosis, request.rois or (), request.roi_ids, prepared.aligned.grid),
            "warm": prepared.warm,
            "files": files,
        }

    def _map(self, task: _Task, warm: Warm) -> dict[str, Any]:
        from .diagnosis import lesion_map
        from .outputs import OutputError, write_cam

        request: Map = task.request
        with self._stoppable():
            prepared = self._prepare(task, warm)
            cam = lesion_map(
                prepared.aligned,
                prepared.networks,
                request.roi,
                request.of,
                known=prepared.known,
                progress=lambda *said: self._tell(task, *said),
            )
            try:
                request.output.parent.mkdir(parents=True, exist_ok=True)
                write_cam(cam, prepared.aligned.grid, request.output)
            except OSError as error:
                reason = error.strerror or "it could not be written"
                raise OutputError(f"The heat map cannot be handed over ({reason}); make room on the disk.") from None
        return {"file": request.output.name, "warm": prepared.warm}

    def _prepare(self, task: _Task, warm: Warm) -> Prepared:
        return warm.prepare(task.request.exam, task.request.bundle, lambda *said: self._tell(task, *said))

    def _tell(self, task: _Task, stage: str, fraction: float, text: str) -> None:
        self._refuse_stopped()
        # half a line would spoil the next one
        self._interruptible = False
        self._send(task.id, progress={"stage": stage, "fraction": round(float(fraction), 3), "text": text})
        self._interruptible = True
        self._refuse_stopped()

    @contextmanager
    def _stoppable(self) -> Iterator[None]:
        """Let a signal end what is done inside, wherever it is; the main thread only."""
        self._interruptible = True
        try:
            self._refuse_stopped()
            yield
        finally:
            self._interruptible = False

    def _is_stopped(self) -> bool:
        # a lock is not needed to read, and a signal may have come while it is held
        running = self._running
        return self._exit_code is not None or (running is not None and running.cancelled)

    def _refuse_stopped(self) -> None:
        if self._is_stopped():
            self._interruptible = False
            raise Stopped

    # both threads -------------------------------------------------------------------------------------------------------------

    def _send(self, id: RequestId | None, **answer: Any) -> None:
        self._write(_line(id, **answer))

    def _write(self, line: bytes) -> None:
        # nobody may be reading any more; then standard input ends as well, and the process with it
        with self._writing, suppress(OSError):
            while line:
                line = line[self._answers.write(line) :]

    def _refuse(self, id: RequestId | None, error: InputError) -> None:
        self._send(id, error={"kind": "input", "message": str(error)})

    def _refuse_cancelled(self, task: _Task) -> None:
        self._send(task.id, error={"kind": "cancelled", "message": "Cancelled."})

    def _defect(self, id: RequestId | None, error: BaseException) -> None:
        name = type(error).__name__
        frames = (f"  {Path(f.filename).name}:{f.lineno} in {f.name}" for f in traceback.extract_tb(error.__traceback__))
        # what a library says of a file holds its path
        text = str(error) if not re.search(r"[/\\]", str(error)) else "(what it says may hold a path)"
        sys.stderr.write("\n".join(("A defect:", *frames, f"{name}: {text}\n")))
        sys.stderr.flush()
        self._send(id, error={"kind": "defect", "message": f"The software failed ({name}); its log says where. Please report it."})


def _load_runtime() -> None:
    try:
        import onnxruntime  # noqa: F401
    except Exception:  # of a library that is broken or of another version, anything may come
        raise InputError("onnxruntime, which runs the networks, is missing or cannot be loaded on this computer; install it.") from None


def _warm() -> Warm:
    """Import what else takes a while, after "ready" and before anything can be cancelled: an import is not broken into."""
    import SimpleITK as sitk

    from . import diagnosis, outputs  # noqa: F401
    from .warm import Warm

    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # they hold paths
    return Warm()


def _names(diagnosis: Diagnosis, rois: Sequence[Roi], ids: Sequence[str], grid: Grid) -> dict[str, str]:
    """Return lesion -> the sender's name of its ROI: lesions are named by size, and a ROI outside the volume has none."""
    left = {lesion.id: lesion.roi for lesion in diagnosis.lesions}
    names: dict[str, str] = {}
    for roi, id in zip(rois, ids, strict=True):
        try:
            cut = roi.clamp_to(grid)[0]
        except InputError:
            continue
        same = (cut.center_ras_mm, cut.size_mm, cut.axes_ras)
        lesion = next(name for name, found in left.items() if (found.center_ras_mm, found.size_mm, found.axes_ras) == same)
        del left[lesion]
        names[lesion] = id
    return names


def _line(id: RequestId | None, **answer: Any) -> bytes:
    return json.dumps({"id": id, **answer}, allow_nan=False).encode("ascii") + b"\n"


def _lines(stream: BinaryIO) -> Iterator[bytes | None]:
    """Yield the lines that hold anything; None for one that is too long, which is passed over."""
    while line := stream.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            while (rest := stream.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
                pass
            yield None
        elif line.strip():
            yield line
