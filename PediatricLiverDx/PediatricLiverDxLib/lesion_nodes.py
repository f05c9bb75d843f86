"""A lesion's diagnosis fills MRML nodes: ROI box, table of phase values, charts, results. MRML only; positions are RAS mm."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from vtkmodules.vtkCommonCore import vtkDoubleArray, vtkStringArray
from vtkmodules.vtkCommonDataModel import vtkTable

from . import wording
from .colours import PHASE_COLOURS, SIDES
from .exam_folder import remove_node
from .rois import Roi, nearest_to_ras
from .vocabulary import CLASS_NAMES, CLASSES, PHASE_NAMES, InputError
from .volume_nodes import new_node, numpy_matrix, one_event, vtk_matrix

if TYPE_CHECKING:
    from .attribution import PhaseShapley
    from .diagnosis import Diagnosis, LesionDiagnosis

#: Stage of phase_shapley -> what its chart is called after the lesion's name.
STAGE_NAMES = {"stage1": "malignancy", "stage2": "subtype"}

#: Node attributes of a ROI that the detector found: its shape then, and the detector's confidence.
FOUND_ATTRIBUTE = "PediatricLiverDx.Found"
SCORE_ATTRIBUTE = "PediatricLiverDx.Score"

#: Two boxes or volumes closer than this, mm, are the same.
SAME_PLACE = 0.01

#: Colour of a box that was not diagnosed yet (Okabe and Ito's yellow), and of one that was moved since: of neither side, and seen on CT.
NEW_COLOUR, STALE_COLOUR = (240, 228, 66), (255, 255, 255)

#: Part of its place that a bar of a chart takes up, as VTK draws it.
_BAR_WIDTH = 0.8
#: Part of a chart's height that is kept free above its bars, for the legend.
_LEGEND_ROOM = 0.2

#: Role of a chart's series, in the order of the phases.
SERIES_ROLE = "PediatricLiverDx.Series"


def roi_of(node: Any, id: str = "L1") -> Roi:
    """Return a ROI node's box where it is shown, its parent transform included. Raises InputError when it is not drawn yet."""
    if not is_drawn(node):
        raise InputError("A ROI is not drawn yet, expected a box around the lesion; draw it or remove it.")
    axes, size = nearest_to_ras(*_edges(node))
    center = [0.0] * 3
    node.GetCenterWorld(center)
    if not is_detectors(node):
        return Roi(tuple(center), size, axes, id=id, source="radiologist")
    score = node.GetAttribute(SCORE_ATTRIBUTE)
    return Roi(tuple(center), size, axes, id=id, source="detector", score=float(score) if score else None)


def is_detectors(node: Any) -> bool:
    """Tell whether a ROI is a box that the detector found: one that was moved since is the radiologist's."""
    found = node.GetAttribute(FOUND_ATTRIBUTE)
    return found is not None and is_same(shape_of(node), np.array(json.loads(found)))


def is_drawn(node: Any) -> bool:
    """Tell whether a ROI has a place and a size."""
    return node.GetNumberOfDefinedControlPoints() > 0 and min(node.GetSize()) > 0


def shape_of(node: Any) -> np.ndarray:
    """Return a ROI's centre and its three edges from it, RAS mm, (4, 3), to be compared with another; NaN where it is not drawn."""
    if not is_drawn(node):
        return np.full((4, 3), np.nan)
    axes, size = nearest_to_ras(*_edges(node))
    center = [0.0] * 3
    node.GetCenterWorld(center)
    return np.vstack([center, np.asarray(axes) * np.asarray(size)[:, None] / 2])


def is_same(one: np.ndarray, other: np.ndarray) -> bool:
    """Tell whether two shapes or places are the same but for rounding; what is not drawn is like nothing."""
    return one.shape == other.shape and bool((np.abs(one - other) <= SAME_PLACE).all())


def _edges(node: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the unit axes of a ROI in space, one a row, and its sizes along them, mm."""
    columns = numpy_matrix(node.GetObjectToWorldMatrix())[:3, :3].T
    scale = np.linalg.norm(columns, axis=1)
    return columns / scale[:, None], np.asarray(node.GetSize()) * scale


def place_roi(node: Any, roi: Roi) -> None:
    """Move a ROI node that has no parent transform to a box."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.transpose(roi.axes_ras)
    matrix[:3, 3] = roi.center_ras_mm
    with one_event(node):
        node.SetAndObserveObjectToNodeMatrix(vtk_matrix(matrix))
        node.SetSize(*roi.size_mm)
        if roi.source == "detector":
            node.SetAttribute(FOUND_ATTRIBUTE, json.dumps(shape_of(node).tolist()))
            node.SetAttribute(SCORE_ATTRIBUTE, None if roi.score is None else repr(float(roi.score)))


def prepare_roi(node: Any) -> None:
    """Let a ROI be dragged, and show it as a thin box with its short name."""
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    with one_event(display):
        display.SetFillVisibility(False)
        display.SetHandlesInteractive(True)
        # a box that is turned against the slices is hard to judge
        display.SetRotationHandleVisibility(False)
        # a whole result written over the lesion hides it: its short name is enough there
        display.SetPropertiesLabelVisibility(False)
        display.SetPointLabelsVisibility(True)
        display.SetTextScale(2.5)
        display.SetGlyphScale(0.6)


def name_roi(node: Any, name: str, label: str, description: str) -> None:
    """Name a ROI for the list of nodes, and in short for the views; the name is that of its file as well, so it is plain."""
    with one_event(node):
        node.SetName(name)
        node.SetDescription(description)
        if node.GetNumberOfControlPoints():
            node.SetNthControlPointLabel(0, label)


def colour_roi(node: Any, look: str, included: bool = True) -> None:
    """Colour a ROI by its look: "benign", "malignant", "new" or "stale"; one that is left out is faint."""
    display = node.GetDisplayNode()
    if display is None:
        return
    colour = [channel / 255 for channel in {**SIDES, "new": NEW_COLOUR, "stale": STALE_COLOUR}[look]]
    with one_event(display):
        display.SetSelectedColor(*colour)
        display.SetColor(*colour)
        display.SetOpacity(1.0 if included else 0.35)


def fill_phase_values(table: Any, lesion: LesionDiagnosis) -> None:
    """Fill a table with what each phase adds to the probability of malignant and of the subtype, one row a phase, in percent (points)."""
    stages = list(lesion.phase_shapley.values())
    phases = list(stages[0].values)
    _fill_table(table, {
        "Phase": ["Without any phase", *(f"{PHASE_NAMES[phase].capitalize()} adds" for phase in phases), "With all acquired phases"],
        **{
            f"{wording.outcome(shapley.of).capitalize()} (%)": [
                part * 100 for part in (shapley.baseline, *(shapley.values[phase] for phase in phases), shapley.total)
            ]
            for shapley in stages
        },
    })


def fill_bars(table: Any, shapley: PhaseShapley) -> None:
    """Fill the table behind a chart: for each phase where its bar stands and how high it is.

    A chart packs all its bars side by side at their places; they are placed so that they come to stand on 1, 2, ..., as wide as 0.8. The
    second row, beyond the chart's end, is what the chart takes that width from.
    """
    columns, n = {}, len(shapley.values)
    for k, (phase, value) in enumerate(shapley.values.items()):
        place = k + 1 + ((n - 1) / 2 - k) * _BAR_WIDTH
        columns[_place_column(phase)] = [place, place + n]
        columns[PHASE_NAMES[phase].capitalize()] = [value * 100, 0.0]
        columns[_label_column(phase)] = [f"{wording.points(value)} percentage points", ""]
    _fill_table(table, columns)


def fill_chart(chart: Any, table: Any, shapley: PhaseShapley, lesion_name: str) -> list[Any]:
    """Give a chart one bar a phase from the table of fill_bars; returns their series nodes.

    Slicer cannot write words along an axis; a legend says which bar is which.
    """
    scene, series = chart.GetScene(), []
    for n, phase in enumerate(shapley.values):
        name = PHASE_NAMES[phase].capitalize()
        bars = chart.GetNthNodeReference(SERIES_ROLE, n)
        if bars is None:
            bars = new_node(scene, "PlotSeriesNode", name)
            chart.SetNthNodeReferenceID(SERIES_ROLE, n, bars.GetID())
        with one_event(bars):
            bars.SetName(name)
            bars.SetAndObserveTableNodeID(table.GetID())
            bars.SetPlotType(bars.PlotTypeScatterBar)
            bars.SetXColumnName(_place_column(phase))
            bars.SetYColumnName(name)
            bars.SetLabelColumnName(_label_column(phase))
            bars.SetColor(*[channel / 255 for channel in PHASE_COLOURS[phase]])
        series.append(bars)
    for n in reversed(range(len(series), chart.GetNumberOfNodeReferences(SERIES_ROLE))):
        remove_node(chart.GetNthNodeReference(SERIES_ROLE, n))
        chart.RemoveNthNodeReferenceID(SERIES_ROLE, n)
    with one_event(chart):
        # short enough for a chart beside the slices
        chart.SetTitle(f"{lesion_name}: {wording.noun(shapley.of)}")
        chart.SetTitleFontSize(14)
        chart.SetXAxisTitle("")
        chart.SetYAxisTitle("percentage points that the phase adds")
        chart.SetAxisTitleFontSize(12)
        chart.SetGridVisibility(True)
        chart.SetLegendVisibility(True)
        chart.SetXAxisRangeAuto(False)
        chart.SetXAxisRange(0.5, len(series) + 0.5)
        chart.SetYAxisRangeAuto(False)
        chart.SetYAxisRange(*_round_range([value * 100 for value in shapley.values.values()]))
        shown = [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]
        if shown != series:
            chart.RemoveAllPlotSeriesNodeIDs()
            for bars in series:
                chart.AddAndObservePlotSeriesNodeID(bars.GetID())
    return series


def _place_column(phase: str) -> str:
    return f"{phase} place"


def _label_column(phase: str) -> str:
    return f"{phase} label"


def _round_range(values: Sequence[float]) -> tuple[float, float]:
    """Return a range from and to round numbers that holds 0 and all values, with room above for the legend."""
    low, high = min(0.0, *values), max(0.0, *values)
    high += _LEGEND_ROOM * (high - low)
    step = next((step for step in (1, 2, 5) if high - low <= 8 * step), 10)
    return (math.floor(low / step - 0.2) * step if low else 0, math.ceil(high / step) * step if high else 0)


def fill_results(table: Any, diagnosis: Diagnosis) -> None:
    """Fill a table with one row a lesion."""
    lesions = diagnosis.lesions
    _fill_table(table, {
        "Lesion": [wording.lesion_name(lesion) for lesion in lesions],
        "Result": [wording.verdict(lesion) for lesion in lesions],
        "Malignant (%)": [lesion.malignant_probability * 100 for lesion in lesions],
        **{f"{CLASS_NAMES[c].capitalize()} (%)": [lesion.class_probabilities[c] * 100 for lesion in lesions] for c in CLASSES},
        "Size (mm)": [wording.lesion_size(lesion) for lesion in lesions],
        "Trust": [diagnosis.gate.verdict for _ in lesions],
    })


def summary_text(diagnosis: Diagnosis) -> str:
    """Return the result as a few lines of plain text."""
    lines = [wording.RESEARCH_ONLY, "", wording.GATE_TITLES[diagnosis.gate.verdict] + "."]
    lines += [f"- {reason}" for reason in diagnosis.gate.reasons]
    lines.append("")
    lines += [f"{wording.lesion_name(lesion)} ({wording.lesion_size(lesion)}): {wording.verdict(lesion)}" for lesion in diagnosis.lesions]
    if not diagnosis.lesions:
        lines.append(wording.NO_LESION)
    lines += [f"Warning: {warning}" for warning in diagnosis.warnings]
    lines += ["", f"Model {diagnosis.bundle.name} {diagnosis.bundle.version}: {diagnosis.bundle.intended_use}"]
    return "\n".join(lines)


def _fill_table(node: Any, columns: dict[str, Sequence[Any]]) -> None:
    """Replace what a table holds, at once; numbers are rounded to two digits."""
    table = vtkTable()
    for name, values in columns.items():
        column = vtkDoubleArray() if values and isinstance(values[0], float) else vtkStringArray()
        column.SetName(name)
        for value in values:
            column.InsertNextValue(round(value, 2) if isinstance(value, float) else value)
        table.AddColumn(column)
    with one_event(node):
        node.SetUseColumnTitleAsColumnHeader(True)
        node.SetAndObserveTable(table)
