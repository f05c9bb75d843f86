"""The worker as the panel sees it: requests go in, callbacks come out in the event loop. Whatever happens to the process, each request is
answered exactly once, and nothing of the process is left behind.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..vocabulary import InputError
from ..worker import LONGEST_LINE
from .application import value_of
from .json_process import MODULE_FOLDER, PATIENCE_MS, JsonProcess


@dataclass
class _Request:
    """Hold a request that is not answered yet. refusal: kind and sentence of the error that it will be answered with, whatever comes."""

    line: bytes
    on_progress: Callable[[str, float, str], None]
    on_result: Callable[[dict], None]
    on_error: Callable[[str, str], None]
    is_sent: bool = False
    refusal: tuple[str, str] | None = None


class WorkerProcess:
    """Start the worker when it is needed, hand it requests and tell what became of them.

    Of every request exactly one of on_result and on_error is called, always later than `request` returned. When a worker ends unasked, its
    open requests are answered with on_error("stopped", sentence); where there are none, on_stopped(sentence) is called. Either way its
    private folder is gone with all files in it, and the next request starts another worker with another folder.

    parent: QObject that owns the processes. command: program and arguments of the worker, for tests.
    """

    def __init__(self, parent: Any, on_stopped: Callable[[str], None], command: Sequence[str] | None = None) -> None:
        self._parent, self._on_stopped, self._command = parent, on_stopped, command
        self._process: JsonProcess | None = None
        self._open: dict[int, _Request] = {}
        self._waiting: list[Callable[[Path], None]] = []
        self._ids = itertools.count(1)
        #: Goes up with every stop: callbacks that are under way end then.
        self._stops = 0

    @property
    def is_running(self) -> bool:
        """Tell whether there is a process, ready or not."""
        return self._process is not None

    @property
    def is_busy(self) -> bool:
        """Tell whether a request is not answered yet."""
        return bool(self._open)

    def start(self) -> None:
        """Start the process unless it runs; raises InputError where there is no program to start."""
        if self._process is None:
            command = self._command or worker_command()
            self._process = JsonProcess(self._parent, command, worker_environment(), self._ready, self._answered, self._ended)

    def when_ready(self, call: Callable[[Path], None]) -> None:
        """Call with the private folder of the process, at once where it is ready; never where it ends before. Raises as `start`."""
        self.start()
        if self._process.folder is not None:
            call(self._process.folder)
        else:
            self._waiting.append(call)

    def request(
        self,
        name: str,
        body: Mapping[str, Any],
        *,
        on_progress: Callable[[str, float, str], None] = lambda stage, fraction, text: None,
        on_result: Callable[[dict], None],
        on_error: Callable[[str, str], None],
    ) -> int:
        """Send a request ("diagnose" or "detect", see worker_requests) as soon as the worker is ready; returns its number.

        on_progress(stage, fraction of the stage, text). on_error(kind, sentence): kind is "input" (the user can do something about it),
        "defect", "cancelled" or "stopped".
        """
        id = next(self._ids)
        line = _line(id, name, body)
        self._open[id] = _Request(line, on_progress, on_result, on_error)
        if len(line) > LONGEST_LINE:
            self._refuse(id, "input", _("There are more ROIs than can be handled at a time; remove some."))
            return id
        try:
            self.start()
        except InputError as error:
            self._refuse(id, "input", str(error))
        self._send()
        return id

    def cancel(self, request_id: int) -> None:
        """End a request; one that is answered already is left alone. on_error("cancelled", sentence) follows within PATIENCE_MS."""
        request = self._open.get(request_id)
        if request is None or request.refusal:
            return
        if not request.is_sent:
            self._refuse(request_id, "cancelled", _("Cancelled."))
            return
        request.refusal = ("cancelled", _("Cancelled."))
        self._process.write(_line(next(self._ids), "cancel", {"of": request_id}))
        qt.QTimer.singleShot(PATIENCE_MS, lambda: self._kill_if_open(request_id))

    def abandon_start(self) -> None:
        """End a process that is not ready yet, without waiting for it; of when_ready nothing is called any more."""
        if self._process is None or self._process.folder is not None:
            return
        process, self._process = self._process, None
        self._waiting.clear()
        for id, request in self._open.items():
            if not request.refusal:
                self._refuse(id, "cancelled", _("Cancelled."))
        process.abandon()

    def stop(self) -> None:
        """End the process and remove its folder; nothing is called back any more. Waits until it has ended, as a rule 1 s at most."""
        self._stops += 1
        self._open.clear()
        self._waiting.clear()
        process, self._process = self._process, None
        if process is not None:
            process.stop()

    # from the process ---------------------------------------------------------------------------------------------------------

    def _ready(self, folder: Path) -> None:
        self._send()
        waiting, self._waiting = self._waiting, []
        self._call_each([lambda call=call: call(folder) for call in waiting])

    def _answered(self, answer: Mapping[str, Any]) -> None:
        request = self._open.get(answer.get("id"))
        if request is None:  # of a cancel, or what was given up
            return
        if "progress" in answer:
            if not request.refusal:
                said = answer["progress"]
                request.on_progress(said["stage"], said["fraction"], said["text"])
            return
        del self._open[answer["id"]]
        if request.refusal:  # whatever was faster
            request.on_error(*request.refusal)
        elif "result" in answer:
            request.on_result(answer["result"])
        else:
            request.on_error(answer["error"]["kind"], answer["error"]["message"])

    def _ended(self, kind: str, sentence: str) -> None:
        self._process = None
        self._waiting.clear()
        requests, self._open = list(self._open.values()), {}
        if not requests:
            self._on_stopped(sentence)
        said = [(request.on_error, request.refusal or (kind, sentence)) for request in requests]
        self._call_each([lambda call=call, words=words: call(*words) for call, words in said])

    # ----------------------------------------------------------------------------------------------------------------------------

    def _send(self) -> None:
        if self._process is None or self._process.folder is None:
            return
        for request in self._open.values():
            if not request.is_sent and not request.refusal:
                request.is_sent = True
                self._process.write(request.line)

    def _refuse(self, id: int, kind: str, sentence: str) -> None:
        """Answer a request that is not sent, as soon as the event loop is back."""
        self._open[id].refusal = (kind, sentence)

        def answer() -> None:
            request = self._open.pop(id, None)
            if request is not None:
                request.on_error(kind, sentence)

        qt.QTimer.singleShot(0, answer)

    def _kill_if_open(self, id: int) -> None:
        if id in self._open and self._process is not None:
            self._process.kill(_("The computation did not stop when it was asked to and was ended."))

    def _call_each(self, calls: Sequence[Callable[[], None]]) -> None:
        stops = self._stops
        for call in calls:
            if self._stops != stops:
                return
            call()


def worker_command() -> list[str]:
    """Return program and arguments that run the worker with the application's Python. Raises InputError where there is none."""
    home = value_of(getattr(getattr(slicer, "app", None), "slicerHome", ""))
    program = shutil.which("PythonSlicer") or (shutil.which("PythonSlicer", path=str(Path(home) / "bin")) if home else None)
    # outside Slicer; inside, it is empty
    program = program or sys.executable
    if not program:
        sentence = _("The computation could not be started: {program} was not found. Install Slicer again.")
        raise InputError(sentence.format(program="PythonSlicer"))
    return [program, "-m", "PediatricLiverDxLib.cli", "worker"]


def worker_environment() -> Any:
    """Return the QProcessEnvironment of the worker: that in which the application was started, with the library to be found."""
    app = getattr(slicer, "app", None)
    started = getattr(app, "startupEnvironment", None)
    # the application's own holds paths of libraries that its launcher set, and PythonSlicer sets again
    environment = started() if started else qt.QProcessEnvironment.systemEnvironment()
    others = environment.value("PYTHONPATH", "")
    environment.insert("PYTHONPATH", os.pathsep.join([str(MODULE_FOLDER), *([others] if others else [])]))
    temporary = value_of(getattr(app, "temporaryPath", ""))
    if temporary and Path(temporary).is_dir():
        # what the user chose in the application's settings, as the system's may be on a small disk
        for name in ("TMPDIR", "TEMP", "TMP"):
            environment.insert(name, str(temporary))
    return environment


def _line(id: int, name: str, body: Mapping[str, Any]) -> bytes:
    return json.dumps({"id": id, name: body}).encode("ascii") + b"\n"
