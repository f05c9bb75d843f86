"""The worker as the panel sees it: requests go in, callbacks come out in the event loop. Whatever happens to the process, each request is
answered exactly once, and nothing of the process is left behind.

The process is PythonSlicer, a launcher that starts the interpreter as a child of its own. Killing the launcher does not end the child, so
the worker says its own process number when it is ready, and ends by itself when its standard input does.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..private_folder import PREFIX, remove_abandoned
from ..vocabulary import InputError
from ..worker import LONGEST_LINE, PROTOCOL
from .application import value_of
from .process_tree import children_of

#: Milliseconds that the worker has to answer a cancel, or to end after its input did, before it is killed.
PATIENCE_MS = 1000

#: Milliseconds that a process has to get ready before it is killed: many times what it takes.
READY_MS = 30_000

#: Milliseconds from one progress to the next that is told: what comes in between is nothing that an eye could follow.
PROGRESS_MS = 100

#: Folder that holds the library.
_MODULE_FOLDER = Path(__file__).resolve().parents[2]

#: How the command line begins the one line that says why it cannot work.
_COMPLAINT = "pediatric-liver-dx: "

#: Bytes of what the process writes to standard error that are kept: its last complaint.
_LONGEST_LOG = 8192


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
        self._process: _Process | None = None
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
            self._process = _Process(self._parent, command, worker_environment(), self._ready, self._answered, self._ended)

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


class _Process:
    """Run one worker process: lines go in, answers come out, and its end is told once, with the kind and the sentence for its requests."""

    def __init__(
        self,
        parent: Any,
        command: Sequence[str],
        environment: Any,
        on_ready: Callable[[Path], None],
        on_answer: Callable[[Mapping[str, Any]], None],
        on_end: Callable[[str, str], None],
    ) -> None:
        #: Where volumes are put for the worker; None until it is ready.
        self.folder: Path | None = None
        self._on_ready, self._on_answer, self._on_end = on_ready, on_answer, on_end
        self._number = 0
        self._received = self._log = b""
        self._is_over = False
        #: The newest progress that was not told yet, and when one was (time.monotonic).
        self._news: Mapping[str, Any] | None = None
        self._told_at = 0.0
        #: What to say at the end where the process was ended from here.
        self._reason: tuple[str, str] | None = None
        self._temporary = Path(environment.value("TMPDIR", "") or tempfile.gettempdir())
        self._process = qt.QProcess(parent)
        self._process.setProcessEnvironment(environment)
        # -m looks for modules here first: not in whatever folder the application was started from
        self._process.setWorkingDirectory(str(_MODULE_FOLDER))
        self._process.readyReadStandardOutput.connect(self._read)
        self._process.readyReadStandardError.connect(self._read_log)
        self._process.finished.connect(self._finished)
        self._process.errorOccurred.connect(self._failed)
        self._process.start(command[0], list(command[1:]))
        qt.QTimer.singleShot(READY_MS, self._kill_unless_ready)

    def write(self, line: bytes) -> None:
        self._process.write(line)

    def kill(self, sentence: str, kind: str = "stopped") -> None:
        """End the process at once; its end is told when it has gone."""
        if self._reason is None:
            self._reason = (kind, sentence)
            self._kill()

    def abandon(self) -> None:
        """End the process at once and tell nobody; what it left is removed when it has gone."""
        self._is_over = True
        if self._is_gone():
            self._clear()
            return
        self._process.finished.connect(lambda *_: self._clear())
        self._kill()

    def stop(self) -> None:
        """End the process, wait until it has gone, and tell nobody."""
        self._is_over = True
        self._process.closeWriteChannel()
        if not self._is_gone() and not self._process.waitForFinished(PATIENCE_MS):
            self._kill()
            self._process.waitForFinished(PATIENCE_MS)
        self._clear()

    def _read(self, *arguments: object) -> None:
        self._received += self._process.readAllStandardOutput().data()
        # line by line from the buffer: a callback may stop all this, or open a dialog in which more is read
        while b"\n" in self._received and not self._is_over and self._reason is None:
            line, self._received = self._received.split(b"\n", 1)
            self._hear(line)

    def _hear(self, line: bytes) -> None:
        try:
            answer = json.loads(line)
            if not isinstance(answer, dict):
                raise ValueError
        except (ValueError, RecursionError):
            # a launcher may have something to say before the worker begins
            if self.folder is not None:
                self.kill(_("The software failed: its worker sent what cannot be read. Start again, and please report it."), "defect")
            return
        if "progress" in answer:
            if self._news is None:
                qt.QTimer.singleShot(round(max(0.0, self._told_at + PROGRESS_MS / 1000 - time.monotonic()) * 1000), self._tell_news)
            self._news = answer
            return
        if "ready" not in answer:
            self._on_answer(answer)
            return
        ready = answer["ready"]
        folder, number = Path(ready["folder"]), ready.get("process")
        if ready["protocol"] != PROTOCOL:
            self.kill(_("This module and its worker are not of the same version; start Slicer again."))
        elif self.folder is None:
            self.folder = folder
            self._number = number if isinstance(number, int) and number > 1 and number != os.getpid() else 0
            self._on_ready(folder)

    def _tell_news(self) -> None:
        news, self._news, self._told_at = self._news, None, time.monotonic()
        if news is not None and not self._is_over and self._reason is None:
            self._on_answer(news)

    def _kill_unless_ready(self) -> None:
        if self.folder is None and not self._is_over:
            sentence = _("The computation did not start within {n} s and was ended. Start it again; a virus scanner may hold it up.")
            self.kill(sentence.format(n=round(READY_MS / 1000)))

    def _read_log(self, *arguments: object) -> None:
        # never shown nor kept: what libraries say of a file may hold its path
        self._log = (self._log + self._process.readAllStandardError().data())[-_LONGEST_LOG:]

    def _failed(self, *arguments: object) -> None:
        # on some systems it is known before `start` has returned
        qt.QTimer.singleShot(0, self._never_started)

    def _never_started(self) -> None:
        # a process that never started does not finish; of others, errors are told that do not end them
        if not self._is_over and self._is_gone():
            sentence = _("The computation could not be started: {program} cannot be run. Install Slicer again, or ask whoever did.")
            self._end("stopped", sentence.format(program="PythonSlicer"))

    def _finished(self, *arguments: object) -> None:
        if not self._is_over:
            self._read()
            self._read_log()
            self._end(*(self._reason or ("stopped", self._complaint())))

    def _complaint(self) -> str:
        """Return the sentence that the process left, else one that says that it has gone."""
        for line in reversed(self._log.decode("utf-8", "replace").splitlines()):
            if line.startswith(_COMPLAINT):
                return line.removeprefix(_COMPLAINT)
        return _("The computation ended unexpectedly. Start it again; if it ends again, close other programs, as memory may be short.")

    def _end(self, kind: str, sentence: str) -> None:
        if not self._is_over:
            self._is_over = True
            self._clear()
            self._on_end(kind, sentence)

    def _kill(self) -> None:
        self._process.closeWriteChannel()  # reaches a worker that has not said its number yet
        # the number of a worker that hangs before it said it is known to the system only
        for number in [self._number] if self._number else children_of(value_of(self._process.processId)):
            with suppress(OSError):
                os.kill(number, getattr(signal, "SIGKILL", signal.SIGTERM))
        self._process.kill()

    def _is_gone(self) -> bool:
        return self._process.state() == qt.QProcess.NotRunning

    def _clear(self) -> None:
        """Remove what a worker that was killed could not."""
        if self.folder is None:
            # it may have made one and not said so yet, and be about to end only
            remove_abandoned(self._temporary)
            qt.QTimer.singleShot(PATIENCE_MS, lambda: remove_abandoned(self._temporary))
        elif self.folder.name.startswith(PREFIX):
            shutil.rmtree(self.folder, ignore_errors=True)
        self._process.deleteLater()


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
    environment.insert("PYTHONPATH", os.pathsep.join([str(_MODULE_FOLDER), *([others] if others else [])]))
    temporary = value_of(getattr(app, "temporaryPath", ""))
    if temporary and Path(temporary).is_dir():
        # what the user chose in the application's settings, as the system's may be on a small disk
        for name in ("TMPDIR", "TEMP", "TMP"):
            environment.insert(name, str(temporary))
    return environment


def _line(id: int, name: str, body: Mapping[str, Any]) -> bytes:
    return json.dumps({"id": id, name: body}).encode("ascii") + b"\n"
