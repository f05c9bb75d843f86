"""What runs for the exam: volumes and ROIs go to the worker, its answer comes back into the scene. One run at a time, never blocking.

No Qt in here: the worker, the event loop's timer and the dialogs are given. Every way a run can end leaves one sentence in `status` and a
session that can start the next run.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from slicer.i18n import tr as _

from .. import exam_input
from ..diagnosis import Diagnosis
from ..lesion_nodes import is_same, shape_of
from ..phase_files import exam_key, writing_phase
from ..result_document import read_result
from ..vocabulary import PHASE_NAMES, PHASES, InputError
from .progress import DETECTION_STAGES, STAGES, Progress

#: Folder of a run's results inside the worker's private folder; gone when the worker ends.
PRIVATE_OUTPUT = "result"


class Step(Enum):
    """Say what the session is doing: nothing, handing volumes over, waiting for the worker, or waiting for it to let go."""

    IDLE = "idle"
    PREPARING = "preparing"
    RUNNING = "running"
    CANCELLING = "cancelling"


@dataclass(frozen=True)
class Status:
    """Hold the one line under the buttons. problem: whether something went wrong that the user has to know of."""

    text: str = ""
    problem: bool = False


class Worker(Protocol):
    """Compute in another process (panel.worker_process)."""

    @property
    def is_running(self) -> bool: ...
    def start(self) -> None: ...
    def when_ready(self, call: Callable[[Path], None]) -> None: ...
    def request(self, name: str, body: dict, *, on_progress: Callable, on_result: Callable, on_error: Callable) -> int: ...
    def cancel(self, request_id: int) -> None: ...
    def abandon_start(self) -> None: ...
    def stop(self) -> None: ...


class Installation(Protocol):
    """Know whether what the worker needs is there, and fetch it (panel.installation)."""

    def is_complete(self) -> bool: ...
    def ask_and_install(self, ask: Callable[[str], bool]) -> bool: ...


@dataclass
class _Run:
    """Hold a run that is under way. rois: IDs of the ROIs that were sent; asked: what the exam was like
    then; writing: the volume that is being handed over; on_done: called once its result is shown."""

    name: str
    volumes: Mapping[str, Any]
    bundle: str
    output: Path | None
    report: bool
    on_done: Callable[[Path], None] | None
    progress: Progress = field(init=False)
    request_id: int | None = None
    rois: tuple[str, ...] = ()
    asked: Any | None = None
    writing: Any | None = None
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.progress = Progress(STAGES if self.name == "diagnose" else DETECTION_STAGES)


class ExamSession:
    """Run detection and diagnosis of the exam in the scene.

    exam: its nodes (exam_nodes.ExamNodes), or None while there is no scene to work on. later(ms, call): the event loop's timer.
    ask(question) -> yes. changed: called whenever anything here changed, but for how far a run is: that is told to progressed, and often.
    """

    def __init__(
        self,
        worker: Worker,
        installation: Installation,
        later: Callable[[int, Callable[[], None]], None],
        ask: Callable[[str], bool],
        tags_of: Callable[[Any], Mapping[str, str]] = exam_input.no_tags,
    ) -> None:
        self._worker, self._installation, self._later, self._ask, self._tags_of = worker, installation, later, ask, tags_of
        self.changed: Callable[[], None] = lambda: None
        self.progressed: Callable[[], None] = lambda: None
        self.exam: Any | None = None
        self.status = Status()
        self.step = Step.IDLE
        #: Whole run, 0..1, and seconds left where that can be told.
        self.fraction, self.seconds_left = 0.0, None
        #: Whether nodes change because a result is being shown, and not by the user.
        self.is_showing = False
        #: Goes up with every result, so that others can tell whether what they saved is still the newest.
        self.results = 0
        self._run: _Run | None = None
        #: The run that the status tells the failure of.
        self._failed: _Run | None = None
        #: phase -> exam_key of the volume as it lies in the worker's folder.
        self._handed_over: dict[str, tuple] = {}
        self._folder: Path | None = None

    @property
    def is_busy(self) -> bool:
        return self._run is not None

    # starting -----------------------------------------------------------------------------------------------------------------

    def diagnose(
        self,
        volumes: Mapping[str, Any],
        bundle: str = "",
        *,
        output: Path | None = None,
        report: bool = False,
        on_done: Callable[[Path], None] | None = None,
    ) -> None:
        """Diagnose the included ROIs, or what the detector finds where there is no ROI.

        volumes: phase -> volume node. output: where to write the results; a private folder when None. on_done: called with that folder.
        """
        if self._rois() and not self.exam.included_rois():
            self._say(_("No lesion is included. Tick at least one, or remove them all to look for lesions anew."), problem=True)
            return
        self._start(_Run("diagnose", dict(volumes), bundle, output, report, on_done))

    def detect(self, volumes: Mapping[str, Any], bundle: str = "") -> None:
        """Look for lesions; those that the detector placed before give way, the radiologist's own stay."""
        self._start(_Run("detect", dict(volumes), bundle, None, False, None))

    def _start(self, run: _Run) -> None:
        if self.is_busy:
            return  # a second click
        try:
            self._refuse_unusable(run.volumes)
            if not self._installation.is_complete() and not self._installation.ask_and_install(self._ask):
                raise InputError(_("Nothing was installed, so nothing can be computed. Click again to install it."))
            self._run = run
            if not self._worker.is_running:
                self._advance(run, "start", 0.0)
            self._show(Step.PREPARING, _("Starting"))
            self._worker.start()
            self._worker.when_ready(lambda folder: self._begin(run, folder))
        except Exception as error:
            self._fail(error)

    def _refuse_unusable(self, volumes: Mapping[str, Any]) -> None:
        if self.exam is None:
            raise InputError(_("There is no scene to work on."))
        if not volumes:
            raise InputError(_("Choose the volume of at least one phase first."))
        names: dict[str, str] = {}
        for phase, node in volumes.items():
            if node.GetID() in names:
                raise InputError(
                    _("The {first} and the {second} phase are the same volume; choose another for one of them.").format(
                        first=PHASE_NAMES[names[node.GetID()]], second=PHASE_NAMES[phase]
                    )
                )
            names[node.GetID()] = phase
            if node.GetImageData() is None:
                raise InputError(_("The {phase} volume is empty; choose another.").format(phase=PHASE_NAMES[phase]))
        if sentence := exam_input.same_patient(list(volumes.values()), self._tags_of):
            raise InputError(sentence)

    # handing over -------------------------------------------------------------------------------------------------------------

    def _begin(self, run: _Run, folder: Path) -> None:
        if self._run is not run:
            return
        if folder != self._folder:
            self._folder, self._handed_over = folder, {}
        self._hand_over(run, [phase for phase in PHASES if phase in run.volumes])

    def _hand_over(self, run: _Run, phases: Sequence[str]) -> None:
        """Begin with the next phase that the worker does not have yet; send the request when there is none left."""
        try:
            left = list(phases)
            while left and self._is_handed_over(run, left[0]):
                left.pop(0)
            if not left:
                self._send(run)
                return
            phase, node = left[0], run.volumes[left[0]]
            self._handed_over.pop(phase, None)
            self._show(Step.PREPARING, _("Reading the {phase} volume").format(phase=PHASE_NAMES[phase]))
            key = exam_key({phase: node})
            run.writing = writing_phase(node, self._file(phase))
            self._later(0, lambda: self._write(run, key, left))
        except Exception as error:
            self._fail(error)

    def _is_handed_over(self, run: _Run, phase: str) -> bool:
        return self._handed_over.get(phase) == exam_key({phase: run.volumes[phase]}) and self._file(phase).exists()

    def _file(self, phase: str) -> Path:
        return self._folder / f"{phase}.nrrd"

    def _write(self, run: _Run, key: tuple, phases: Sequence[str]) -> None:
        """Write a slab of the first of these phases, and let the event loop have its turn."""
        if self._run is not run:
            run.writing.close()
            return
        try:
            part = next(run.writing)
            done = [phase for phase in PHASES if phase in run.volumes].index(phases[0])
            self._advance(run, "send", (done + part) / len(run.volumes))
            self.progressed()
        except StopIteration as end:
            if end.value:
                run.warnings.append(end.value)
            self._handed_over[phases[0]] = key
            self._hand_over(run, phases[1:])
        except Exception as error:
            self._fail(error)
        else:
            self._later(0, lambda: self._write(run, key, phases))

    def _send(self, run: _Run) -> None:
        files = {phase: str(self._file(phase)) for phase in run.volumes}
        body: dict[str, Any] = {"files": files, "bundle": run.bundle or None}
        if run.name == "diagnose":
            included = self.exam.included_rois()
            run.rois, run.asked = tuple(roi.GetID() for roi in included), self.exam.asked()
            run.output = run.output or self._folder / PRIVATE_OUTPUT
            rois = [exam_input.roi_body(roi) for roi in included] if included else None
            body |= {"rois": rois, "output": str(run.output), "report": run.report, "scene": False}
        self._show(Step.RUNNING, _("Starting"))
        run.request_id = self._worker.request(
            run.name,
            body,
            on_progress=lambda stage, fraction, text: self._progressed(run, stage, fraction, text),
            on_result=lambda result: self._answered(run, result),
            on_error=lambda kind, sentence: self._refused(run, kind, sentence),
        )

    # answers ------------------------------------------------------------------------------------------------------------------

    def _progressed(self, run: _Run, stage: str, fraction: float, text: str) -> None:
        if self._run is not run or self.step is Step.CANCELLING:
            return
        self._advance(run, stage, fraction)
        self.status = Status(text)
        self.progressed()

    def _advance(self, run: _Run, stage: str, fraction: float) -> None:
        self.fraction, self.seconds_left = run.progress.update(stage, fraction)

    def _answered(self, run: _Run, result: Mapping[str, Any]) -> None:
        """Read, show and tell each in a turn of the event loop of its own, so that none is late for the mouse."""
        if self._run is not run:
            return
        try:
            diagnosis = read_result(result, run.output) if run.name == "diagnose" else None
        except Exception as error:
            self._fail(error)
            return
        self._later(0, lambda: self._take(run, result, diagnosis))

    def _take(self, run: _Run, result: Mapping[str, Any], diagnosis: Any | None) -> None:
        if self._run is not run:
            return
        if self.step is Step.CANCELLING:
            # too late for the worker, not for the user
            self._refused(run, "cancelled", "")
            return
        self.is_showing = True
        try:
            text = self._place(result) if diagnosis is None else self._show_result(run, result, diagnosis)
        except Exception as error:
            self._fail(error)
            return
        finally:
            self.is_showing = False
        self._later(0, lambda: self._done(run, text))

    def _done(self, run: _Run, text: str) -> None:
        if self._run is run:
            self._end(text)
            if run.on_done:
                run.on_done(run.output)

    def _place(self, result: Mapping[str, Any]) -> str:
        found = result["rois"]
        self.exam.place_detected(found)
        if not found:
            return _("No lesion was found. Add an ROI where you see one.")
        return _("One lesion was found.") if len(found) == 1 else _("{n} lesions were found.").format(n=len(found))

    def _show_result(self, run: _Run, result: Mapping[str, Any], diagnosis: Diagnosis) -> str:
        roi_of = dict(result["rois"])
        present = {roi.GetID() for roi in self._rois()}
        # an ROI that was removed meanwhile takes its result with it
        gone = {lesion for lesion, roi in roi_of.items() if roi in run.rois and roi not in present}
        diagnosis = replace(diagnosis, lesions=tuple(lesion for lesion in diagnosis.lesions if lesion.id not in gone))
        if run.rois and not diagnosis.lesions:
            # nobody looked for lesions: a result without one would read as if none had been found
            self.exam.remove_all_results()
            return _lesion_removed()
        self.exam.show(diagnosis, {lesion: roi for lesion, roi in roi_of.items() if lesion not in gone}, run.output, asked=run.asked)
        self.results += 1
        left_out = set(run.rois) - set(roi_of.values())
        notes = [_("A lesion outside the images was left out.")] if left_out & present else []
        return " ".join([_diagnosed(len(diagnosis.lesions)), *notes, *run.warnings])

    def _refused(self, run: _Run, kind: str, sentence: str) -> None:
        if self._run is not run:
            return
        if kind == "cancelled":
            self._end(_("Cancelled. Nothing was changed."))
        else:
            self._failed_with(run, self._named(run, sentence))

    def _named(self, run: _Run, sentence: str) -> str:
        """Return a sentence of the worker, which counts ROIs, with the names that the table has for them."""

        def name(match: re.Match) -> str:
            number = int(match[2])
            node = self.exam.node(run.rois[number - 1]) if self.exam is not None and 0 < number <= len(run.rois) else None
            return node.GetName() if node is not None and node.GetName() else match[0]

        return re.sub(r"(\b[Tt]he )?\bROI (\d+)\b", name, sentence)

    def _failed_with(self, run: _Run, sentence: str) -> None:
        self._end(sentence, problem=True)
        self._failed = run

    def roi_changed(self, roi: Any) -> None:
        """Take back what was said of a run that failed when an ROI of it is another one now."""
        boxes = self._failed.asked.boxes if self._failed is not None and self._failed.asked is not None else {}
        if not self.is_busy and roi.GetID() in boxes and not is_same(shape_of(roi), boxes[roi.GetID()]):
            self._say("")

    def roi_removed(self) -> None:
        """Take back what was said of the last run after an ROI was removed."""
        if not self.is_busy:
            self._say("" if self._rois() else _lesion_removed())

    # ending -------------------------------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Give up what runs; harmless when nothing does."""
        run = self._run
        if run is None or self.step is Step.CANCELLING:
            return
        if run.request_id is None:
            # one that is not ready may never be; the next run starts another
            self._worker.abandon_start()
            self._end(_("Cancelled. Nothing was changed."))
            return
        self._show(Step.CANCELLING, _("Cancelling"))
        self._worker.cancel(run.request_id)

    def abandon(self, sentence: str) -> None:
        """Give up what runs because its exam has gone; its answer, should it still come, is not shown."""
        run = self._run
        if run is None:
            return
        self._end(sentence, problem=True)
        if run.request_id is not None:
            self._worker.cancel(run.request_id)
        else:
            self._worker.abandon_start()

    def volume_removed(self, node: Any) -> None:
        """Give up what runs when it is about a volume that is removed."""
        run = self._run
        for phase, volume in run.volumes.items() if run else ():
            if volume is node:
                self.abandon(_("The {phase} volume was removed, so the run was stopped.").format(phase=PHASE_NAMES[phase]))

    def worker_stopped(self, sentence: str) -> None:
        """End a run whose request was not sent yet: the worker ended unasked. One that was sent is told by its own on_error."""
        if self._run is not None and self._run.request_id is None:
            self._end(sentence, problem=True)

    def stop(self) -> None:
        """End everything, for good or until the next run."""
        self._run, self.step = None, Step.IDLE
        self._handed_over, self._folder = {}, None
        self._worker.stop()

    def say(self, text: str, *, problem: bool = False) -> None:
        """Show a sentence of another part of the panel, unless a run has the line."""
        if not self.is_busy:
            self._say(text, problem=problem)

    def _fail(self, error: Exception) -> None:
        if isinstance(error, InputError):
            self._end(str(error), problem=True)
            return
        # no text of the error: it may name a file or a volume, and with it a patient
        places = [f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]
        logging.error("PediatricLiverDx: the run failed with %s at %s", type(error).__name__, " < ".join(reversed(places)))
        self._end(_("The software failed ({name}); the log says where. Please report it.").format(name=type(error).__name__), problem=True)

    def _end(self, text: str, *, problem: bool = False) -> None:
        self._run, self.step = None, Step.IDLE
        self.fraction, self.seconds_left = 0.0, None
        self._say(text, problem=problem)

    def _show(self, step: Step, text: str) -> None:
        self.step = step
        self._say(text)

    def _say(self, text: str, *, problem: bool = False) -> None:
        self.status, self._failed = Status(text, problem), None
        self.changed()

    def _rois(self) -> list[Any]:
        return list(self.exam.rois()) if self.exam is not None else []


def _lesion_removed() -> str:
    return _("The lesion was removed. Diagnose looks anew.")


def _diagnosed(lesions: int) -> str:
    if not lesions:
        return _("No lesion was found.")
    return _("One lesion was diagnosed.") if lesions == 1 else _("{n} lesions were diagnosed.").format(n=lesions)
