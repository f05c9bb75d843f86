"""Which volume is which phase: four selectors, a button that finds out, and a line per phase on how it was recognised and how it fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from slicer.i18n import tr as _

from .. import exam_input
from ..exam_nodes import LESION_ATTRIBUTE
from ..vocabulary import PHASES, InputError
from ..volumes import MIN_SIMILARITY, PhaseAlignment

#: Node attribute of a volume: "PHASE: how it was recognised", so that a saved scene still says so.
HOW_ATTRIBUTE = "PediatricLiverDx.Recognised"


class PhasesSection:
    """Let the radiologist say which volume is which phase."""

    def __init__(self, panel: Any) -> None:
        self._panel = panel
        ui = panel.ui
        self._selectors = {"PC": ui.pcSelector, "AP": ui.apSelector, "PVP": ui.pvpSelector, "DP": ui.dpSelector}
        self._lines = {"PC": ui.pcStatus, "AP": ui.apStatus, "PVP": ui.pvpStatus, "DP": ui.dpStatus}
        self._note = ui.phasesNote
        self._button = ui.assignButton
        #: The steps of finding out that is under way.
        self._assigning: Iterator[None] | None = None
        self._button.clicked.connect(self.assign)

    def set_scene(self, scene: Any) -> None:
        for selector in self._selectors.values():
            selector.setMRMLScene(scene)

    def volumes(self) -> dict[str, Any]:
        """Return phase -> volume, of the phases that have one."""
        parameters = self._panel.parameters
        if parameters is None:
            return {}
        chosen = {phase: getattr(parameters, phase.lower()) for phase in PHASES}
        return {phase: node for phase, node in chosen.items() if node is not None}

    def volume_removed(self, node: Any) -> None:
        """Leave the phase of a removed volume without one: its selector would take the next volume in the list."""
        phases = [phase for phase, volume in self.volumes().items() if volume is node]
        if phases:
            self._panel.application.later(0, lambda: self._let_go(phases))

    def _let_go(self, phases: list[str]) -> None:
        if self._panel.parameters is not None:
            for phase in phases:
                setattr(self._panel.parameters, phase.lower(), None)

    def assign(self, *arguments: Any) -> None:
        """Recognise the phases of the loaded volumes and show them side by side."""
        if self._panel.parameters is None or self._panel.session.is_busy or self._assigning is not None:
            return
        self._note.setText("")
        self._assigning = exam_input.assigning_phases(self._candidates(), self._panel.application.tags_of)
        self._step(self._assigning)

    def stop_assigning(self) -> None:
        """Give up finding out: the scene is another one."""
        self._assigning = None

    def _step(self, steps: Iterator[None]) -> None:
        """Go one step on: where names tell nothing the images are looked at, which takes a while."""
        if steps is not self._assigning:
            return
        try:
            next(steps)
        except StopIteration as end:
            self._assigning = None
            self._take(*end.value)
        except InputError as error:
            self._assigning = None
            self._take({}, [str(error)])
        except Exception:
            self._assigning = None
            raise
        else:
            if not self._panel.text_of(self._note):
                self._note.setText(_("The names do not tell all phases: looking at the images…"))
                self._panel.refresh()
            self._panel.application.later(0, lambda: self._step(steps))

    def _take(self, found: Mapping[str, exam_input.PhaseAssignment], notes: list[str]) -> None:
        """Use what was found out, unless something runs by now or a volume has gone meanwhile."""
        parameters = self._panel.parameters
        gone = any(assignment.node.GetScene() is not self._panel.scene for assignment in found.values())
        if parameters is None or self._panel.session.is_busy or gone:
            found, notes = {}, [_("The volumes changed meanwhile. Click again.")]
        if found:
            for phase, assignment in found.items():
                how = assignment.how if assignment.sure else _("{how}, not certain").format(how=assignment.how)
                assignment.node.SetAttribute(HOW_ATTRIBUTE, f"{phase}: {how}")
            for phase in PHASES:
                setattr(parameters, phase.lower(), found[phase].node if phase in found else None)
            self._panel.show_exam()
        elif not notes:
            notes = [_("No CT volume is loaded. Load the exam first, for example from DICOM or Sample Data.")]
        self._note.setText("\n".join(notes))
        self._panel.refresh()

    def refresh(self) -> None:
        volumes = self.volumes()
        busy = self._panel.session.is_busy
        for phase, selector in self._selectors.items():
            selector.setEnabled(not busy)
            text = self._line(phase, volumes[phase]) if phase in volumes else ""
            self._lines[phase].setText(text)
            self._lines[phase].setVisible(bool(text))
        self._button.setEnabled(not busy and self._assigning is None and self._panel.parameters is not None)
        self._note.setVisible(bool(self._panel.text_of(self._note)))

    def _line(self, phase: str, volume: Any) -> str:
        of, _separator, how = (volume.GetAttribute(HOW_ATTRIBUTE) or "").partition(": ")
        recognised = _("From {how}").format(how=how) if of == phase and how else _("Chosen by you")
        diagnosis = self._panel.diagnosis()
        if diagnosis is not None and self._panel.session.exam.diagnosed_phases().get(phase) is not volume:
            return _("{how} · not diagnosed with it yet").format(how=recognised)
        summary = diagnosis.exam.phases.get(phase) if diagnosis else None
        if summary is None or summary.alignment is None:
            return recognised
        return f"{recognised} · {alignment_text(summary.alignment)}"

    def _candidates(self) -> list[Any]:
        """Return the loaded volumes that may be a phase: no label maps, and nothing that this module made."""
        scene, kind = self._panel.scene, "vtkMRMLScalarVolumeNode"
        volumes = [scene.GetNthNodeByClass(n, kind) for n in range(scene.GetNumberOfNodesByClass(kind))]
        return [
            volume
            for volume in volumes
            if not volume.IsA("vtkMRMLLabelMapVolumeNode")
            and volume.GetImageData() is not None
            and not volume.GetHideFromEditors()
            and volume.GetAttribute(LESION_ATTRIBUTE) is None
        ]


def alignment_text(alignment: PhaseAlignment) -> str:
    """Say in a few words how a phase came onto the grid of the others, and how well it fits."""
    if alignment.status == "reference":
        return _("reference phase")
    if alignment.status == "off":
        return _("not aligned")
    if alignment.similarity_after < MIN_SIMILARITY:
        return _("fits poorly, look twice")
    if alignment.status == "aligned":
        return _("moved {mm} mm, fits well").format(mm=f"{alignment.mean_displacement_mm:.0f}")
    return _("fits as acquired")
