"""One process that takes and gives JSON lines: it is started, heard, killed, and cleared away with everything that it left.

The process is PythonSlicer, a launcher that starts the interpreter as a child of its own. Killing the launcher does not end the child, so
the worker says its own process number when it is ready, and ends by itself when its standard input does.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from ..private_folder import PREFIX, remove_abandoned
from ..worker import PROTOCOL
from .application import value_of
from .process_tree import children_of

#: Milliseconds that the worker has to answer a cancel, or to end after its input did, before it is killed.
PATIENCE_MS = 1000

#: Milliseconds that a process has to get ready before it is killed: many times what it takes.
READY_MS = 30_000

#: Milliseconds from one progress to the next that is told: what comes in between is nothing that an eye could follow.
PROGRESS_MS = 100

#: Folder that holds the library.
MODULE_FOLDER = Path(__file__).resolve().parents[2]

#: How the command line begins the one line that says why it cannot work.
_COMPLAINT = "pediatric-liver-dx: "

#: Bytes of what the process writes to standard error that are kept: its last complaint.
_LONGEST_LOG = 8192


class JsonProcess:
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
        self._process.setWorkingDirectory(str(MODULE_FOLDER))
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
