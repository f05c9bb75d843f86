"""A diagnosis in the scene: each lesion's result at its ROI, and what the lesions share, filled in steps. MRML only.

Everything hangs on the text node of the exam (exam_anchor), which holds result.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .exam_anchor import ROI_ROLE, remembered_phases
from .exam_folder import folder_of, put, remove_from_lesion_folders, remove_node
from .lesion_nodes import fill_results, summary_text
from .lesion_results import CAM_ROLE, DIAGNOSED_ATTRIBUTE, LESION_ATTRIBUTE, cam_of, nodes_of, remove_result, showing_lesion
from .node_references import refer_to_all, referred
from .volume_nodes import cam_colours, fill_volume, new_node, placed_cam, show_cam, threshold_of, union_of_cams

if TYPE_CHECKING:
    from .diagnosis import Diagnosis
    from .result_document import PlacedCam

#: References of an exam's text node beside those to its phases and ROIs.
RESULTS_ROLE, SUMMARY_ROLE = "PediatricLiverDx.Results", "PediatricLiverDx.Summary"

#: Stands for the ID of a ROI that is gone.
_NOBODY = "none"

#: Name of the heat map of all lesions.
ALL_LESIONS = "Heat map of all lesions"


@dataclass(frozen=True)
class ShownResult:
    """Hold a result as it is shown, to be shown again.

    text: result.json. diagnosis: with the CAMs of those lesions that have their ROI. roi_ids: lesion -> its ROI's node ID; a lesion whose
    ROI was removed before has one that is nobody's. boxes: ROI node ID -> the shape that the result is of. phases, voxels: see
    exam_anchor.remember_phases.
    """

    text: str
    diagnosis: Diagnosis
    roi_ids: Mapping[str, str]
    boxes: Mapping[str, np.ndarray]
    phases: Mapping[str, tuple[str, np.ndarray]]
    voxels: Mapping[str, tuple]


def shown_result(anchor: Any, diagnosis: Diagnosis | None) -> ShownResult | None:
    """Return the result that hangs on an exam's text node (diagnosis: what its text says), None where there is none."""
    if diagnosis is None:
        return None
    rois = [roi for roi in referred(anchor, ROI_ROLE) if roi.GetAttribute(DIAGNOSED_ATTRIBUTE) is not None]
    by_lesion = {roi.GetAttribute(LESION_ATTRIBUTE): roi for roi in rois}
    lesions = tuple(
        replace(lesion, cam=placed_cam(cam_of(by_lesion[lesion.id])))
        if lesion.id in by_lesion and cam_of(by_lesion[lesion.id]) is not None
        else lesion
        for lesion in diagnosis.lesions
    )
    return ShownResult(
        text=anchor.GetText(),
        diagnosis=replace(diagnosis, lesions=lesions),
        roi_ids={lesion.id: by_lesion[lesion.id].GetID() if lesion.cam is not None else _NOBODY for lesion in lesions},
        boxes={roi.GetID(): np.array(json.loads(roi.GetAttribute(DIAGNOSED_ATTRIBUTE))) for roi in rois},
        **remembered_phases(anchor),
    )


def showing_result(
    anchor: Any, rois: Mapping[str, Any], diagnosis: Diagnosis, cams: Mapping[str, PlacedCam], boxes: Mapping[str, np.ndarray]
) -> Iterator[None]:
    """Show a result, with a break after every few nodes; nodes that are there already are filled anew.

    rois: lesion -> its ROI; what was removed in a break is passed over. boxes: ROI node ID -> the shape that the result is of; of those
    that are missing as they are now.
    """
    anchor.SetText(json.dumps(diagnosis.to_dict(), ensure_ascii=False, allow_nan=False))
    others = [roi for roi in referred(anchor, ROI_ROLE) if roi not in rois.values()]
    for roi in others:
        remove_result(roi, folder_of(anchor))
    colours = cam_colours(anchor.GetScene())
    yield
    for lesion in diagnosis.lesions:
        roi = rois.get(lesion.id)
        if roi is not None and roi.GetScene() is not None:
            shape = boxes.get(roi.GetID())
            yield from showing_lesion(roi, lesion, cams[lesion.id], colours, folder_of(anchor), shape)
    refer_to_all(anchor, ROI_ROLE, [roi for roi in (*rois.values(), *others) if roi.GetScene() is not None])
    _fill_shared(anchor, "TableNode", "Results", RESULTS_ROLE, lambda node: fill_results(node, diagnosis))
    yield
    _fill_shared(anchor, "TextNode", "Summary", SUMMARY_ROLE, lambda node: node.SetText(summary_text(diagnosis)))
    yield


def remove_results(anchor: Any) -> None:
    """Remove what came from a diagnosis; phases and ROIs stay, the ROIs as new ones."""
    anchor.SetText("")
    for roi in referred(anchor, ROI_ROLE):
        remove_result(roi, folder_of(anchor))
    for role in (RESULTS_ROLE, SUMMARY_ROLE, CAM_ROLE):
        for node in referred(anchor, role):
            remove_node(node)
    anchor.RemoveAttribute(DIAGNOSED_ATTRIBUTE)


def remove_leftovers(anchor: Any) -> None:
    """Remove what is left of lesions whose ROI is gone."""
    rois = referred(anchor, ROI_ROLE)
    refer_to_all(anchor, ROI_ROLE, rois)
    kept = {node for roi in rois for node in (roi, *nodes_of(roi))}
    # what somebody else put there stays
    remove_from_lesion_folders(anchor, lambda node: node not in kept and node.GetAttribute(LESION_ATTRIBUTE) is not None)


def show_together(anchor: Any, cams: Sequence[Any]) -> None:
    """Make one map of several CAM volumes, for views of one overlay; there is none where there are less than two."""
    filled = [cam for cam in cams if placed_cam(cam) is not None]
    together = anchor.GetNodeReference(CAM_ROLE)
    if len(filled) < 2:
        if together is not None:
            remove_node(together)
        return
    if together is None:
        together = new_node(anchor.GetScene(), "ScalarVolumeNode", ALL_LESIONS)
        anchor.SetNodeReferenceID(CAM_ROLE, together.GetID())
        put(together, folder_of(anchor))
        threshold = threshold_of(filled[0])
    else:
        threshold = threshold_of(together)
    # made here, and not to be taken for a phase
    together.SetAttribute(LESION_ATTRIBUTE, ALL_LESIONS)
    union = union_of_cams([placed_cam(cam) for cam in filled])
    fill_volume(together, union.array, union.ijk_to_ras)
    show_cam(together, cam_colours(anchor.GetScene()), threshold)


def _fill_shared(anchor: Any, kind: str, name: str, role: str, fill: Callable[[Any], None]) -> None:
    node = anchor.GetNodeReference(role)
    if node is None:
        node = new_node(anchor.GetScene(), kind, name)
        anchor.SetNodeReferenceID(role, node.GetID())
        put(node, folder_of(anchor))
    fill(node)
