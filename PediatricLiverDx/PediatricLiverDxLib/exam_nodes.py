"""One exam in the scene: its phases, ROIs and results as MRML nodes in one subject hierarchy folder, found again in a scene that was saved.

Nothing is kept outside the scene. An exam hangs on one text node, which holds result.json: its references name the phases, the ROIs in the
order of the table, and what belongs to no lesion; a ROI's references name what belongs to its lesion. MRML only; positions are RAS mm.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import wording
from .exam_anchor import (
    DIAGNOSED_ROLE,
    PHASE_ROLE,
    ROI_ROLE,
    anchor_of_volumes,
    anchors,
    by_phase,
    new_anchor,
    phases_changed,
    remember_phases,
)
from .exam_folder import EXAM_FOLDER_NAME, folder_of, keep_study, put, remove_node
from .exam_results import ShownResult, remove_leftovers, remove_results, show_together, showing_result, shown_result
from .lesion_nodes import colour_roi, is_detectors, is_same, name_roi, place_roi, prepare_roi, roi_of, shape_of
from .lesion_results import CAM_ROLE, DIAGNOSED_ATTRIBUTE, LESION_ATTRIBUTE, cam_of, charts_of, map_of, remove_result, show_map
from .node_references import refer, referred
from .result_document import diagnosis_of, read_cam
from .rois import IDENTITY, Roi
from .vocabulary import PHASES, InputError
from .volume_nodes import cam_colours, new_node, one_event, place_of_volume, show_phase, voxels_state

if TYPE_CHECKING:
    from .diagnosis import Diagnosis, LesionDiagnosis
    from .result_document import PlacedCam

__all__ = ["EXAM_FOLDER_NAME", "LESION_ATTRIBUTE", "PHASE_ATTRIBUTE", "Asked", "ExamNodes", "LesionRow"]

#: Node attribute that says which phase a volume is.
PHASE_ATTRIBUTE = "PediatricLiverDx.Phase"
#: Node attribute of a ROI that the radiologist leaves out.
LEFT_OUT_ATTRIBUTE = "PediatricLiverDx.LeftOut"

#: Reference of the panel's parameters to their exam.
EXAM_ROLE = "PediatricLiverDx.Exam"

#: Size of a box that is added without one, mm.
NEW_SIZE = (40.0, 40.0, 40.0)


@dataclass(frozen=True)
class LesionRow:
    """Hold a row of the table of lesions, in words. fresh: "fresh", "stale" or "new"; a new one has no result texts."""

    name: str
    size_text: str
    side_text: str
    subtype_text: str
    fresh: str
    include: bool


@dataclass(frozen=True)
class Asked:
    """Hold what a diagnosis was asked for.

    boxes: ROI node ID -> its shape; phases: phase -> volume ID and its place; voxels: phase -> volume_nodes.voxels_state.
    """

    boxes: Mapping[str, np.ndarray]
    phases: Mapping[str, tuple[str, np.ndarray]]
    voxels: Mapping[str, tuple]


class ExamNodes:
    """The panel's exam in a scene; every method is harmless when nodes that it needs are gone, or the scene was closed."""

    def __init__(self, scene: Any, parameter_node: Any | None = None) -> None:
        self._scene, self._parameters = scene, parameter_node
        self._read: tuple[str, Diagnosis | None] = ("", None)
        #: Hash of the chosen model's bundle.json; None where it is not known.
        self._model: str | None = None
        #: Whether a result is being shown: what is there is of neither run as a whole.
        self._is_half_shown = False

    @classmethod
    def of(cls, scene: Any, parameter_node: Any | None = None) -> ExamNodes:
        """Return the exam that a parameter node (vtkMRMLNode) refers to, else the one that was last added to the scene, else a new one."""
        exam = cls(scene, parameter_node)
        exam._anchor()
        return exam

    # phases -------------------------------------------------------------------------------------------------------------------

    def set_phases(self, nodes_by_phase: Mapping[str, Any]) -> None:
        """Make volumes the phases of the exam: windows, one folder. Without any the exam stays as it is.

        Volumes that have nothing to do with the present exam begin another one, or go back to it when the scene holds it.
        """
        volumes = {phase: node for phase in PHASES if (node := nodes_by_phase.get(phase)) is not None and self._holds(node)}
        if not volumes:
            return
        anchor = self._go_to_exam_of(set(volumes.values()))
        for volume in self.phases().values():
            if volume not in volumes.values():
                volume.RemoveAttribute(PHASE_ATTRIBUTE)
        keep_study(anchor, list(volumes.values()))
        for phase in PHASES:
            volume = volumes.get(phase)
            refer(anchor, PHASE_ROLE + phase, volume)
            if volume is None:
                continue
            # the window is set once: the radiologist may choose another
            if volume.GetAttribute(PHASE_ATTRIBUTE) != phase:
                volume.SetAttribute(PHASE_ATTRIBUTE, phase)
                show_phase(volume, phase)
            put(volume, folder_of(anchor))
        self.refresh_all()

    def phases(self) -> dict[str, Any]:
        """Return phase -> volume node, of those that are still there."""
        return by_phase(self._anchor(), PHASE_ROLE)

    def diagnosed_phases(self) -> dict[str, Any]:
        """Return phase -> volume node of what the result is of, of those that are still there."""
        return by_phase(self._anchor(), DIAGNOSED_ROLE)

    @property
    def id(self) -> str:
        """ID of the node that the exam hangs on, to tell exams of a scene apart; "" for one that nothing is known of yet."""
        anchor = self._anchor()
        return anchor.GetID() if anchor is not None else ""

    def set_model(self, sha256: str | None) -> None:
        """Say which model is chosen (hash of its bundle.json, None where it is not known): a result of another one is stale."""
        if sha256 != self._model:
            self._model = sha256
            self.refresh_all()

    # ROIs ---------------------------------------------------------------------------------------------------------------------

    def rois(self) -> list[Any]:
        """Return the ROI nodes in the order of the table."""
        return referred(self._anchor(), ROI_ROLE)

    def included_rois(self) -> list[Any]:
        """Return the ROI nodes that are not left out, in the order of the table."""
        return [roi for roi in self.rois() if not roi.GetAttribute(LEFT_OUT_ATTRIBUTE)]

    def add_roi(self, center_ras: Sequence[float], size_mm: Sequence[float] = NEW_SIZE) -> Any:
        """Add a radiologist's box along the axes of the body and return its node."""
        return self.add_box(Roi(tuple(center_ras), tuple(size_mm), IDENTITY))

    def adopt_roi(self, node: Any) -> None:
        """Take a ROI node that somebody else made, drawn or not, into the exam."""
        if node in self.rois():
            return
        anchor = self._anchor(make=True)
        with one_event(node):
            prepare_roi(node)
            if not node.GetName() or node.GetAttribute(LESION_ATTRIBUTE) is None:
                names = {roi.GetName() for roi in self.rois()}
                name_roi(node, next(name for n in range(1, 10_000) if (name := f"New lesion {n}") not in names), "new", "")
        anchor.AddNodeReferenceID(ROI_ROLE, node.GetID())
        put(node, folder_of(anchor))
        self.refresh(node)

    def remove_roi(self, roi: Any) -> None:
        """Remove a box with everything that belongs to its lesion."""
        if roi is not None and self._holds(roi):
            remove_result(roi, folder_of(self._anchor(make=True)))
            remove_node(roi)
            self.tidy()

    def place_detected(self, rois: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Show boxes that the detector found, at once, and return their nodes; see `placing_detected`."""
        return _finished(self.placing_detected(rois))

    def placing_detected(self, rois: Sequence[Mapping[str, Any]]) -> Generator[None, None, list[Any]]:
        """Show boxes that the detector found (worker_requests.roi_document), with breaks for the event loop, and return their nodes.

        They take the place of its earlier ones; what the radiologist drew or moved stays.
        """
        for node in self.rois():
            if is_detectors(node):
                self.remove_roi(node)
                yield
        nodes = []
        for r in rois:
            box = Roi(tuple(r["center_ras_mm"]), tuple(r["size_mm"]), tuple(map(tuple, r["axes_ras"])), source="detector", score=r["score"])
            nodes.append((yield from self._adding_roi(box)))
        return [node for node in nodes if node is not None]

    def set_included(self, roi: Any, included: bool) -> None:
        """Leave a box out of the next diagnosis and of the map of all lesions, or take it in again."""
        if self._holds(roi):
            roi.SetAttribute(LEFT_OUT_ATTRIBUTE, None if included else "1")
            self.refresh(roi)
            self._show_overlay()

    def asked(self) -> Asked:
        """Return what a diagnosis that is asked for now is of, to be given to show when it is there."""
        phases = {phase: (volume.GetID(), place_of_volume(volume)) for phase, volume in self.phases().items()}
        voxels = {phase: voxels_state(volume) for phase, volume in self.phases().items()}
        return Asked({roi.GetID(): shape_of(roi) for roi in self.rois()}, phases, voxels)

    # what the panel shows -----------------------------------------------------------------------------------------------------

    def row_of(self, roi: Any) -> LesionRow:
        """Return a ROI as a row of the table; its size is that of the box as it is now."""
        try:
            size = wording.box_size(roi_of(roi).size_mm)
        except InputError:
            size = ""
        name, include = roi.GetName() or "", not roi.GetAttribute(LEFT_OUT_ATTRIBUTE)
        lesion = self.lesion_of(roi)
        if lesion is None:
            return LesionRow(name, size, "", "", "new", include)
        fresh = "stale" if self.is_stale(roi) else "fresh"
        return LesionRow(name, size, wording.side_result(lesion), wording.subtype_result(lesion), fresh, include)

    def is_stale(self, roi: Any) -> bool:
        """Tell whether a ROI was diagnosed and it, a phase or the model has been changed since."""
        diagnosed = roi.GetAttribute(DIAGNOSED_ATTRIBUTE)
        return diagnosed is not None and (not is_same(shape_of(roi), np.array(json.loads(diagnosed))) or self.is_outdated())

    def is_outdated(self) -> bool:
        """Tell whether the exam was diagnosed and its phases, or the model, are others now."""
        diagnosis = self.diagnosis()
        if diagnosis is None:
            return False
        return (self._model is not None and self._model != diagnosis.bundle.sha256) or phases_changed(self._anchor())

    def refresh(self, roi: Any) -> str:
        """Colour a ROI after it was moved and return "fresh", "stale" or "new"; cheap enough for every step of the mouse."""
        lesion = self.lesion_of(roi)
        state = "new" if lesion is None else "stale" if self.is_stale(roi) else "fresh"
        colour_roi(roi, wording.side_of(lesion) if state == "fresh" else state, not roi.GetAttribute(LEFT_OUT_ATTRIBUTE))
        return state

    def refresh_all(self) -> None:
        """Colour all ROIs after phases were changed or moved."""
        for roi in self.rois():
            self.refresh(roi)

    def diagnosis(self) -> Diagnosis | None:
        """Return the exam's result from the scene, without CAM arrays; None when there is none that can be read."""
        anchor = self._anchor()
        text = (anchor.GetText() or "") if anchor is not None else ""
        if text != self._read[0]:
            self._read = (text, _read(text))
        return self._read[1]

    def lesion_of(self, roi: Any) -> LesionDiagnosis | None:
        """Return what is known of a ROI's lesion, None for one that was not diagnosed."""
        diagnosis, id = self.diagnosis(), roi.GetAttribute(LESION_ATTRIBUTE)
        if diagnosis is None or roi.GetAttribute(DIAGNOSED_ATTRIBUTE) is None:
            return None
        return next((lesion for lesion in diagnosis.lesions if lesion.id == id), None)

    def cam_node(self, roi: Any | None = None, of: str = "") -> Any | None:
        """Return a ROI's CAM volume; without a ROI that of all lesions together, which is its own when there is only one.

        of: the outcome that it is for (vocabulary.OUTCOMES), "" for the decided side; None for one that was not asked for yet.
        """
        if roi is not None:
            lesion = self.lesion_of(roi)
            side = wording.side_of(lesion) if lesion is not None else ""
            # the map of the result may have been removed and asked for again
            return (cam_of(roi) or map_of(roi, side)) if of in ("", side) or not side else map_of(roi, of)
        cams = [*referred(self._anchor(), CAM_ROLE), *filter(None, map(cam_of, self.included_rois()))]
        return cams[0] if cams else None

    def chart_nodes(self, roi: Any) -> dict[str, Any]:
        """Return "stage1" and "stage2" -> chart node, of those that are there."""
        return charts_of(roi)

    # results ------------------------------------------------------------------------------------------------------------------

    def show(
        self, diagnosis: Diagnosis, roi_ids: Mapping[str, str], output: Path | None = None, *, asked: Asked | None = None
    ) -> None:
        """Show a result at once; see `showing`."""
        _finished(self.showing(diagnosis, roi_ids, output, asked=asked))

    def showing(
        self, diagnosis: Diagnosis, roi_ids: Mapping[str, str], output: Path | None = None, *, asked: Asked | None = None
    ) -> Iterator[None]:
        """Show a result with breaks for the event loop; nodes that are there already are filled anew, so a rerun keeps every node's ID.

        roi_ids: lesion -> node ID of the ROI that it was asked with; a lesion without one gets a ROI of its own, one whose ROI was removed
        meanwhile gets nothing. output: where the CAMs lie that the diagnosis does not hold.
        asked: what the exam was like when it was asked for; without it as it is now, and a ROI moved meanwhile is taken for fresh.
        Raises InputError for a missing CAM.
        """
        wanted = [one for one in diagnosis.lesions if not roi_ids.get(one.id) or self.node(roi_ids[one.id]) is not None]
        cams = {lesion.id: lesion.cam or read_cam(Path(output or "") / lesion.cam_file) for lesion in wanted}
        anchor = self._anchor(make=True)
        rois = {}
        for lesion in diagnosis.lesions:
            if id := roi_ids.get(lesion.id):
                roi = self._scene.GetNodeByID(id)
            else:
                roi = yield from self._adding_roi(lesion.roi)
            if roi is not None:
                rois[lesion.id] = roi
        asked = asked or self.asked()
        self._is_half_shown = True
        try:
            # first, so that a ROI is never taken for stale while the result is filled in
            remember_phases(anchor, asked.phases, asked.voxels)
            yield from showing_result(anchor, rois, diagnosis, cams, asked.boxes)
        finally:
            self._is_half_shown = False
        self._show_overlay()
        self.refresh_all()

    def show_map(self, roi: Any, of: str, cam: PlacedCam) -> None:
        """Show the map of a ROI's lesion for another outcome than the decided side, beside that of the result."""
        lesion = self.lesion_of(roi)
        if lesion is not None and self._holds(roi):
            show_map(roi, lesion, of, cam, cam_colours(self._scene))

    def shown(self) -> ShownResult | None:
        """Return the result as it is shown, to be shown again with `show_again`; None while half of it is."""
        anchor = self._anchor()
        return shown_result(anchor, self.diagnosis()) if anchor is not None and not self._is_half_shown else None

    def show_again(self, shown: ShownResult, instead: Mapping[str, str]) -> None:
        """Show a result as it was, unless there is another one. instead: ID of a ROI that was removed -> that of the one in its place."""
        if (self._anchor(make=True).GetText() or "") in ("", shown.text):
            ids = {lesion: instead.get(id, id) for lesion, id in shown.roi_ids.items()}
            boxes = {instead.get(id, id): box for id, box in shown.boxes.items()}
            self.show(shown.diagnosis, ids, asked=Asked(boxes, shown.phases, shown.voxels))

    def remove_all_results(self) -> None:
        """Remove what came from a diagnosis; phases and ROIs stay, the ROIs as new ones."""
        anchor = self._anchor()
        if anchor is not None:
            remove_results(anchor)
            self.refresh_all()

    def tidy(self) -> None:
        """Remove what is left of lesions whose ROI is gone: call it after a ROI was removed by somebody else.

        A result whose last lesion is gone goes as well: nothing may read as if none had been found. Not one that is being shown, whose
        lesions are still to come.
        """
        anchor = self._anchor()
        if anchor is None:
            return
        remove_leftovers(anchor)
        self._show_overlay()
        diagnosis = self.diagnosis() if not self._is_half_shown else None
        if diagnosis is not None and diagnosis.lesions and not any(self.lesion_of(roi) for roi in self.rois()):
            self.remove_all_results()

    def add_box(self, roi: Roi) -> Any:
        """Add a box and return its node."""
        return _finished(self._adding_roi(roi))

    def _adding_roi(self, roi: Roi) -> Generator[None, None, Any | None]:
        """Add a box, with breaks: the first one of a scene takes the views a while. Returns its node, None where it was removed in one."""
        node = new_node(self._scene, "MarkupsROINode", "")
        yield
        if self._holds(node):
            place_roi(node, roi)
            yield
        if self._holds(node):
            self.adopt_roi(node)
            yield
        return node if self._holds(node) else None

    def _show_overlay(self) -> None:
        """Make one map of all included lesions: a slice view has one overlay, so they have to share it to be seen together."""
        anchor = self._anchor()
        if anchor is not None:
            show_together(anchor, [cam for cam in map(cam_of, self.included_rois()) if cam is not None])

    # the exam -----------------------------------------------------------------------------------------------------------------

    def _anchor(self, make: bool = False) -> Any | None:
        """Return the text node that the exam hangs on."""
        parameters = self._present_parameters()
        anchor = parameters.GetNodeReference(EXAM_ROLE) if parameters is not None else None
        if anchor is None:
            known = anchors(self._scene)
            anchor = known[-1] if known else new_anchor(self._scene) if make else None
            if anchor is not None and parameters is not None:
                parameters.SetNodeReferenceID(EXAM_ROLE, anchor.GetID())
        return anchor

    def _present_parameters(self) -> Any | None:
        """Return the parameter node unless it was removed with its scene."""
        return self._parameters if self._parameters is not None and self._parameters.GetScene() is self._scene else None

    def _go_to_exam_of(self, volumes: set[Any]) -> Any:
        """Make the exam that volumes belong to the present one, and show its ROIs instead of the former's."""
        former = self._anchor()
        anchor = anchor_of_volumes(self._scene, former, volumes)
        if anchor is not former:
            _set_visible(self.rois(), False)
            _set_visible(referred(anchor, ROI_ROLE), True)
            if self._present_parameters() is not None:
                self._parameters.SetNodeReferenceID(EXAM_ROLE, anchor.GetID())
        return anchor

    def node(self, id: str) -> Any | None:
        """Return a node of the scene, None where it is gone."""
        return self._scene.GetNodeByID(id)

    def _holds(self, node: Any) -> bool:
        return node is not None and node.GetID() is not None and self._scene.GetNodeByID(node.GetID()) is node


def _finished(steps: Generator[None, None, Any]) -> Any:
    """Take all steps at once and return what comes of them."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def _read(text: str) -> Diagnosis | None:
    try:
        return diagnosis_of(json.loads(text)) if text else None
    except (InputError, ValueError):
        return None


def _set_visible(rois: Sequence[Any], visible: bool) -> None:
    for roi in rois:
        if roi.GetDisplayNode() is not None:
            roi.GetDisplayNode().SetVisibility(visible)
