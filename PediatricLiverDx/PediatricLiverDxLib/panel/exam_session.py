"""What runs for the exam: volumes and ROIs go to the worker, its answer comes back into the scene. One run at a time, never blocking.

No Qt in here: the worker, the event loop's timer and the dialogs are given. Every way a run can end leaves one sentence in `status` and a
session that can start the next run.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from .. import exam_input, wording
from ..diagnosis import Diagnosis
from ..lesion_nodes import is_same, shape_of
from ..result_document import PlacedCam, read_cam, read_result
from ..vocabulary import PHASE_NAMES, InputError
from ..worker_requests import roi_document
from .handover import Handover
from .run import Installation, Run, Status, Step, Worker

#: Folder of a run's results, and file of a map, inside the worker's private folder; gone when the worker ends.
PRIVATE_OUTPUT, PRIVATE_MAP = "result", "map.nrrd"


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
        #: Goes up with every result, so that others can tell whether what they saved is still the newest.
        self.results = 0
        self._run: Run | None = None
        #: The run that the status tells the failure of.
        self._failed: Run | None = None
        self._handover = Handover(later)
        #: Private folder of the worker.
        self._folder: Path | None = None

    @property
    def is_busy(self) -> bool:
        return self._run is not None

    @property
    def is_showing(self) -> bool:
        """Whether nodes change because a result is being shown, and not by the user."""
        return self.step is Step.SHOWING

    @property
    def is_warm(self) -> bool:
        """Whether the worker was given what the exam's result is of already, so that more of the same comes fast."""
        volumes = self.exam.diagnosed_phases() if self.exam is not None else {}
        return self._worker.is_running and bool(volumes) and self._handover.holds(volumes)

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
        self._start(Run("diagnose", dict(volumes), bundle, output, report, on_done=on_done))

    def detect(self, volumes: Mapping[str, Any], bundle: str = "") -> None:
        """Look for lesions; those that the detector placed before give way, the radiologist's own stay."""
        self._start(Run("detect", dict(volumes), bundle))

    def map(self, volumes: Mapping[str, Any], bundle: str, roi: Any, of: str, *, on_failed: Callable[[], None]) -> None:
        """Compute the heat map of a diagnosed ROI for an outcome (vocabulary.OUTCOMES), of its box as it was diagnosed.

        on_failed: called when there will be none: refused, cancelled, or the worker could not.
        """
        run = Run("map", dict(volumes), bundle, map_of=(roi, of), on_failed=on_failed)
        if self.exam is None or self.exam.lesion_of(roi) is None or self.exam.is_outdated():
            on_failed()
            self.say(_("The phases or the model changed. Diagnose again."), problem=True)
            return
        self._start(run)

    def _start(self, run: Run) -> None:
        if self.is_busy:
            return  # a second click
        try:
            self._refuse_unusable(run.volumes)
            if not self._installation.is_complete() and not self._installation.ask_and_install(self._ask):
                raise InputError(_("Nothing was installed, so nothing can be computed. Click again to install it."))
        except Exception as error:
            if run.on_failed:
                run.on_failed()
            self._fail(error)
            return
        self._run = run
        try:
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

    # asking the worker ---------------------------------------------------------------------------------------------------------

    def _begin(self, run: Run, folder: Path) -> None:
        if self._run is not run:
            return
        self._folder = folder
        self._handover.begin(
            folder,
            run.volumes,
            is_wanted=lambda: self._run is run,
            on_phase=lambda phase: self._show(Step.PREPARING, _("Reading the {phase} volume").format(phase=PHASE_NAMES[phase])),
            on_part=lambda part: self._handed_over(run, part),
            on_done=lambda warnings: self._send(run, warnings),
            on_error=self._fail,
        )

    def _handed_over(self, run: Run, part: float) -> None:
        self._advance(run, "send", part)
        self.progressed()

    def _send(self, run: Run, warnings: list[str]) -> None:
        run.warnings += warnings
        body: dict[str, Any] = {"files": self._handover.files(run.volumes), "bundle": run.bundle or None}
        if run.name == "diagnose":
            included = self.exam.included_rois()
            run.rois, run.asked = tuple(roi.GetID() for roi in included), self.exam.asked()
            run.output = run.output or self._folder / PRIVATE_OUTPUT
            rois = [exam_input.roi_body(roi) for roi in included] if included else None
            body |= {"rois": rois, "output": str(run.output), "report": run.report, "scene": False}
        if run.name == "map":
            roi, of = run.map_of
            lesion = self.exam.lesion_of(roi) if roi.GetScene() is not None else None
            if lesion is None:
                raise InputError(_("The lesion was removed, so its heat map was not computed."))
            # the box that the result is of, wherever the ROI is now
            body |= {"roi": roi_document(lesion.roi), "of": of, "output": str(self._folder / PRIVATE_MAP)}
        self._show(Step.RUNNING, _("Computing the heat map") if run.name == "map" else _("Starting"))
        run.request_id = self._worker.request(
            run.name,
            body,
            on_progress=lambda stage, fraction, text: self._progressed(run, stage, fraction, text),
            on_result=lambda result: self._answered(run, result),
            on_error=lambda kind, sentence: self._refused(run, kind, sentence),
        )

    # answers ------------------------------------------------------------------------------------------------------------------

    def _progressed(self, run: Run, stage: str, fraction: float, text: str) -> None:
        if self._run is not run or self.step is Step.CANCELLING:
            return
        self._advance(run, stage, fraction)
        self.status = Status(text)
        self.progressed()

    def _advance(self, run: Run, stage: str, fraction: float) -> None:
        self.fraction, self.seconds_left = run.progress.update(stage, fraction)

    def _answered(self, run: Run, result: Mapping[str, Any]) -> None:
        """Read the answer and show it, in many turns of the event loop, so that none is late for the mouse."""
        if self._run is not run:
            return
        try:
            if run.name == "map":
                steps = self._showing_map(run, read_cam(self._folder / result["file"]))
            elif run.name == "diagnose":
                steps = self._showing_result(run, result, read_result(result, run.output))
            else:
                steps = self._placing(result)
        except Exception as error:
            self._fail(error)
            return
        self._later(0, lambda: self._take(run, steps))

    def _take(self, run: Run, steps: Generator[None, None, str]) -> None:
        """Show the next part of an answer."""
        if self._run is not run:
            return
        if self.step is Step.CANCELLING:
            # too late for the worker, not for the user
            self._refused(run, "cancelled", "")
            return
        if self.step is not Step.SHOWING:
            self.step = Step.SHOWING
            self.changed()
        try:
            next(steps)
        except StopIteration as end:
            text = end.value
            self._later(0, lambda: self._done(run, text))
        except Exception as error:
            self._fail(error)
        else:
            self._later(0, lambda: self._take(run, steps))

    def _done(self, run: Run, text: str) -> None:
        if self._run is run:
            self._end(text, done=True)
            if run.on_done:
                run.on_done(run.output)

    def _placing(self, result: Mapping[str, Any]) -> Generator[None, None, str]:
        found = result["rois"]
        yield from self.exam.placing_detected(found)
        if not found:
            return _("No lesion was found. Add an ROI where you see one.")
        return _("One lesion was found.") if len(found) == 1 else _("{n} lesions were found.").format(n=len(found))

    def _showing_map(self, run: Run, cam: PlacedCam) -> Generator[None, None, str]:
        roi, of = run.map_of
        yield
        if roi.GetScene() is not None:
            self.exam.show_map(roi, of, cam)
        diagnosis = self.exam.diagnosis()
        return _diagnosed(diagnosis) if diagnosis is not None else ""

    def _showing_result(self, run: Run, result: Mapping[str, Any], diagnosis: Diagnosis) -> Generator[None, None, str]:
        roi_of = dict(result["rois"])
        present = {roi.GetID() for roi in self._rois()}
        # an ROI that was removed meanwhile takes its result with it
        gone = {lesion for lesion, roi in roi_of.items() if roi in run.rois and roi not in present}
        diagnosis = replace(diagnosis, lesions=tuple(lesion for lesion in diagnosis.lesions if lesion.id not in gone))
        if run.rois and not diagnosis.lesions:
            # nobody looked for lesions: a result without one would read as if none had been found
            self.exam.remove_all_results()
            return _lesion_removed()
        ids = {lesion: roi for lesion, roi in roi_of.items() if lesion not in gone}
        yield from self.exam.showing(diagnosis, ids, run.output, asked=run.asked)
        self.results += 1
        left_out = set(run.rois) - set(roi_of.values())
        notes = [_("A lesion outside the images was left out.")] if left_out & present else []
        return " ".join([_diagnosed(diagnosis), *notes, *run.warnings])

    def _refused(self, run: Run, kind: str, sentence: str) -> None:
        if self._run is not run:
            return
        if kind == "cancelled":
            self._end(_("Cancelled. Nothing was changed."))
        else:
            self._failed_with(run, self._named(run, sentence))

    def _named(self, run: Run, sentence: str) -> str:
        """Return a sentence of the worker, which counts ROIs, with the names that the table has for them."""

        def name(match: re.Match) -> str:
            number = int(match[2])
            node = self.exam.node(run.rois[number - 1]) if self.exam is not None and 0 < number <= len(run.rois) else None
            return node.GetName() if node is not None and node.GetName() else match[0]

        return re.sub(r"(\b[Tt]he )?\bROI (\d+)\b", name, sentence)

    def _failed_with(self, run: Run, sentence: str) -> None:
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
        if run is None or self.step in (Step.CANCELLING, Step.SHOWING):
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
        # an answer that is being shown needs no volume any more
        for phase, volume in run.volumes.items() if run and not self.is_showing else ():
            if volume is node:
                self.abandon(_("The {phase} volume was removed, so the run was stopped.").format(phase=PHASE_NAMES[phase]))

    def worker_stopped(self, sentence: str) -> None:
        """End a run whose request was not sent yet: the worker ended unasked. One that was sent is told by its own on_error."""
        if self._run is not None and self._run.request_id is None:
            self._end(sentence, problem=True)

    def stop(self) -> None:
        """End everything, for good or until the next run."""
        self._run, self.step = None, Step.IDLE
        self._folder = None
        self._handover.forget()
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

    def _end(self, text: str, *, problem: bool = False, done: bool = False) -> None:
        run, self._run, self.step = self._run, None, Step.IDLE
        self.fraction, self.seconds_left = 0.0, None
        if run is not None and run.on_failed and not done:
            run.on_failed()
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


def _diagnosed(diagnosis: Diagnosis) -> str:
    """Say the result in a line: of one lesion what it is, of several how many are malignant."""
    lesions = diagnosis.lesions
    if not lesions:
        return _("No lesion was found.")
    if len(lesions) == 1:
        # a number and its percent sign stay on one line
        result = wording.short_result(lesions[0]).replace(" %", "\N{NO-BREAK SPACE}%")
        return _("{lesion}: {result}.").format(lesion=wording.lesion_name(lesions[0]), result=result)
    malignant = sum(wording.side_of(lesion) == "malignant" for lesion in lesions)
    return _("{n} lesions: {malignant} judged malignant, {benign} benign.").format(
        n=len(lesions), malignant=malignant or _("none"), benign=len(lesions) - malignant or _("none")
    )
