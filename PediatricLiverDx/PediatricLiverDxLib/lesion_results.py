"""A lesion's result hangs on its ROI: CAM, tables and charts are nodes that the ROI refers to, filled anew each time. MRML only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from . import wording
from .exam_folder import begin_lesion_folder, end_lesion_folder, folder_of, put, remove_node
from .lesion_nodes import SERIES_ROLE, STAGE_NAMES, fill_bars, fill_chart, fill_phase_values, name_roi, shape_of
from .node_references import referred
from .vocabulary import OUTCOMES
from .volume_nodes import fill_volume, new_node, one_event, show_cam, threshold_of

if TYPE_CHECKING:
    from .diagnosis import LesionDiagnosis
    from .result_document import PlacedCam

#: Node attribute that says which lesion a node belongs to ("L1").
LESION_ATTRIBUTE = "PediatricLiverDx.Lesion"
#: Node attribute of a ROI: the shape (lesion_nodes.shape_of) that its result is of.
DIAGNOSED_ATTRIBUTE = "PediatricLiverDx.Diagnosed"

#: References of a ROI; those of charts and of the tables behind them have the stage at their end.
CAM_ROLE, TABLE_ROLE = "PediatricLiverDx.Cam", "PediatricLiverDx.PhaseValues"
#: With the outcome at its end: a map for another outcome than the decided side.
MAP_ROLE = "PediatricLiverDx.Map."
BARS_ROLE, CHART_ROLE = "PediatricLiverDx.Bars", "PediatricLiverDx.Chart"


def showing_lesion(
    roi: Any, lesion: LesionDiagnosis, cam: PlacedCam, colours: Any, exam_folder: int, shape: np.ndarray | None
) -> Iterator[None]:
    """Show a lesion's result at its ROI, with breaks; nodes that the ROI has already are filled anew.

    shape: of the box that the result is of; None where that is the ROI as it is now.
    """
    for of in OUTCOMES:
        # maps for other outcomes were of the former result
        if (other := roi.GetNodeReference(MAP_ROLE + of)) is not None:
            remove_node(other)
    name = wording.lesion_name(lesion)
    folder = begin_lesion_folder(roi, exam_folder, f"{name}: {wording.short_result(lesion)}")
    with one_event(roi):
        roi.SetAttribute(DIAGNOSED_ATTRIBUTE, json.dumps((shape_of(roi) if shape is None else shape).tolist()))
        roi.SetAttribute(LESION_ATTRIBUTE, lesion.id)
        name_roi(roi, name, lesion.id, wording.verdict(lesion))
    yield
    if roi.GetScene() is None:
        return
    yield from _showing_cam(_node_of(roi, CAM_ROLE, "ScalarVolumeNode", folder), lesion, "heat map", cam, colours)
    if roi.GetScene() is None:
        return
    table = _node_of(roi, TABLE_ROLE, "TableNode", folder)
    with _labelled(table, lesion, "phase values"):
        fill_phase_values(table, lesion)
    yield
    for stage in lesion.phase_shapley:
        if roi.GetScene() is None:
            return
        yield from _showing_chart(roi, lesion, stage, folder)


def show_map(roi: Any, lesion: LesionDiagnosis, of: str, cam: PlacedCam, colours: Any) -> Any:
    """Give a ROI the map of its lesion for another outcome than the decided side, and return its volume."""
    # which outcome was asked for is no result, so it may stand in the name of a file
    volume = _node_of(roi, MAP_ROLE + of, "ScalarVolumeNode", folder_of(roi))
    for _break in _showing_cam(volume, lesion, f"heat map {of}", cam, colours):
        pass
    return volume


def _showing_cam(volume: Any, lesion: LesionDiagnosis, what: str, cam: PlacedCam, colours: Any) -> Iterator[None]:
    threshold = threshold_of(volume)
    with _labelled(volume, lesion, what):
        fill_volume(volume, cam.array, cam.ijk_to_ras)
    yield
    if volume.GetScene() is not None:
        show_cam(volume, colours, threshold)
        yield


def _showing_chart(roi: Any, lesion: LesionDiagnosis, stage: str, folder: int) -> Iterator[None]:
    shapley = lesion.phase_shapley[stage]
    table = _node_of(roi, BARS_ROLE + stage, "TableNode", folder)
    chart = _node_of(roi, CHART_ROLE + stage, "PlotChartNode", folder)
    yield
    if roi.GetScene() is None:
        return
    # the chart hears of its bars, and they of the table
    with _labelled(chart, lesion, f"{STAGE_NAMES[stage]} chart"):
        with _labelled(table, lesion, f"{STAGE_NAMES[stage]} bars"):
            table.HideFromEditorsOn()  # places and heights of bars tell a reader nothing
            fill_bars(table, shapley)
        series = fill_chart(chart, table, shapley, wording.lesion_name(lesion))
    for bars in series:
        bars.SetAttribute(LESION_ATTRIBUTE, lesion.id)
        put(bars, folder)
    yield


def remove_result(roi: Any, exam_folder: int) -> None:
    """Remove what belongs to a ROI's lesion; the ROI stays as one that was not diagnosed."""
    if roi.GetAttribute(DIAGNOSED_ATTRIBUTE) is None:
        return
    for node in nodes_of(roi):
        remove_node(node)
    end_lesion_folder(roi, exam_folder)
    with one_event(roi):
        for attribute in (DIAGNOSED_ATTRIBUTE, LESION_ATTRIBUTE):
            roi.RemoveAttribute(attribute)


def nodes_of(roi: Any) -> list[Any]:
    """Return the nodes that belong to a ROI's lesion, of those that are still there."""
    stages = (role + stage for role in (BARS_ROLE, CHART_ROLE) for stage in STAGE_NAMES)
    roles = [CAM_ROLE, *(MAP_ROLE + of for of in OUTCOMES), TABLE_ROLE, *stages]
    nodes = [node for role in roles for node in referred(roi, role)]
    return [one for node in nodes for one in (*referred(node, SERIES_ROLE), node)]


def cam_of(roi: Any) -> Any | None:
    """Return the volume of a ROI's map for the decided side."""
    return roi.GetNodeReference(CAM_ROLE)


def map_of(roi: Any, of: str) -> Any | None:
    """Return the volume of a ROI's map for another outcome, where it was asked for."""
    return roi.GetNodeReference(MAP_ROLE + of)


def charts_of(roi: Any) -> dict[str, Any]:
    """Return "stage1" and "stage2" -> chart node, of those that are there."""
    return {stage: node for stage in STAGE_NAMES if (node := roi.GetNodeReference(CHART_ROLE + stage)) is not None}


def _node_of(roi: Any, role: str, kind: str, folder: int) -> Any:
    """Return the node that a ROI refers to in a role, made when it is not there."""
    node = roi.GetNodeReference(role)
    if node is None:
        node = new_node(roi.GetScene(), kind, "")
        roi.SetNodeReferenceID(role, node.GetID())
        put(node, folder)
    return node


@contextmanager
def _labelled(node: Any, lesion: LesionDiagnosis, what: str) -> Iterator[None]:
    """Name a node for its lesion and let it be filled; whoever observes it hears of all that at once."""
    with one_event(node):
        # the name of a file as well: no patient and no result in it
        node.SetName(f"{wording.lesion_name(lesion)} {what}")
        node.SetAttribute(LESION_ATTRIBUTE, lesion.id)
        yield
