"""A Diagnosis and its aligned exam become MRML nodes: phases, ROIs, CAM overlays, phase values, results, in one subject hierarchy folder.

Speaks MRML only (slicer, vtk), so it runs on slicer-core and inside Slicer alike. All positions are RAS mm.
"""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer

# by their own modules: vtk as a whole takes a third of a second and 50 MB more
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonCore import vtkDoubleArray, vtkStringArray
from vtkmodules.vtkCommonDataModel import vtkImageData
from vtkmodules.vtkCommonMath import vtkMatrix4x4

from . import wording
from .colours import CAM_OPACITY, CAM_THRESHOLD, PHASE_COLOURS, SIDES, cam_ramp
from .vocabulary import CLASS_NAMES, CLASSES, PHASE_NAMES, PHASES, WINDOWS

if TYPE_CHECKING:
    from .alignment import AlignedExam
    from .diagnosis import Diagnosis, LesionDiagnosis
    from .exam import Grid

#: Node attribute that says which lesion a node belongs to.
LESION_ATTRIBUTE = "PediatricLiverDx.Lesion"
#: Node attribute that says which phase a volume is.
PHASE_ATTRIBUTE = "PediatricLiverDx.Phase"

#: Slice views of Slicer's own 2 x 2 layout, in reading order, one a phase.
PHASE_VIEWS = ("Red", "Slice4", "Green", "Yellow")
#: The frame colours that the application gives these views; a view node read from a file would turn them grey.
VIEW_COLOURS = {
    "Red": (0.953, 0.290, 0.200),
    "Slice4": (0.549, 0.549, 0.549),
    "Green": (0.431, 0.690, 0.294),
    "Yellow": (0.929, 0.835, 0.298),
}

_CONSTANTS = slicer.vtkMRMLSubjectHierarchyConstants


@dataclass(frozen=True)
class LesionNodes:
    """Hold the nodes of one lesion."""

    roi: Any
    cam: Any
    phase_values: Any
    chart: Any


@dataclass(frozen=True)
class SceneContents:
    """Hold what build_scene added; overlay is the CAM of all lesions together (a lesion's own CAM when there is one, None without)."""

    folder: int
    volumes: Mapping[str, Any]
    lesions: Mapping[str, LesionNodes]
    overlay: Any
    cam_colours: Any
    results: Any
    summary: Any
    nodes: tuple[Any, ...] = field(repr=False)


def write_scene(diagnosis: Diagnosis, aligned: AlignedExam, path: Path) -> None:
    """Write an MRB that opens in Slicer with the four phases side by side, the ROIs and the CAM overlay shown."""
    path = Path(path).absolute()  # a scene is not saved into a relative folder
    scene = new_scene()
    contents = build_scene(scene, diagnosis, aligned)
    arrange_views(scene, contents, diagnosis, aligned)
    # beside the result, where its room is needed anyway, and not in a shared temporary folder
    with tempfile.TemporaryDirectory(prefix="scene-", dir=path.parent) as folder:
        bundle = Path(folder) / path.stem
        bundle.mkdir()
        if not scene.SaveSceneToSlicerDataBundleDirectory(str(bundle), None):
            raise OSError(f"The scene {path.name} could not be written; is there room left in its folder?")
        _zip(bundle, path)
    scene.Clear(1)


def new_scene() -> Any:
    """Return an empty scene that knows the node classes of a result and has the grey table that Slicer starts with."""
    scene = slicer.vtkMRMLScene()
    # outside the application only some of the markups classes are known to a scene
    for kind in ("ROINode", "ROIDisplayNode", "JsonStorageNode", "ROIJsonStorageNode"):
        name = f"vtkMRMLMarkups{kind}"
        if not scene.IsNodeClassRegistered(name):
            scene.RegisterNodeClass(getattr(slicer, name)())
    selection = slicer.vtkMRMLSelectionNode()
    selection.SetSingletonTag("Singleton")
    selection.SaveWithSceneOff()
    scene.AddNode(selection)
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    grey = slicer.vtkMRMLColorTableNode()
    grey.SetTypeToGrey()
    grey.SetSingletonTag("Grey")
    grey.SaveWithSceneOff()
    scene.AddNode(grey)
    return scene


def build_scene(scene: Any, diagnosis: Diagnosis, aligned: AlignedExam) -> SceneContents:
    """Add a result to a scene and return its nodes; views and layout stay as they are."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    folder = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), "Liver tumour diagnosis (research only)")
    nodes: list[Any] = []

    def add(node: Any, name: str, parent: int, **attributes: str) -> Any:
        node.SetName(name)
        for key, value in attributes.items():
            node.SetAttribute({"lesion": LESION_ATTRIBUTE, "phase": PHASE_ATTRIBUTE}[key], value)
        node = scene.AddNode(node)
        hierarchy.CreateItem(parent, node)
        nodes.append(node)
        return node

    volumes = {}
    for phase, acquired, hu in zip(PHASES, aligned.present, aligned.hu, strict=True):
        if acquired:
            volume = add(slicer.vtkMRMLScalarVolumeNode(), PHASE_NAMES[phase].capitalize(), folder, phase=phase)
            voxels = np.empty(hu.shape, np.int16)
            _fill_volume(volume, np.rint(hu, out=voxels, casting="unsafe"), ijk_to_ras(aligned.grid))
            _show_phase(scene, volume, phase)
            volumes[phase] = volume

    cam_colours = _add_cam_colours(scene)
    nodes.append(cam_colours)
    lesions = {}
    for lesion in diagnosis.lesions:
        name = wording.lesion_name(lesion)
        below = hierarchy.CreateFolderItem(folder, f"{name}: {wording.short_result(lesion)}")
        roi = add(slicer.vtkMRMLMarkupsROINode(), f"{name}: {wording.short_result(lesion)}", below, lesion=lesion.id)
        _fill_roi(roi, lesion)
        cam = add(slicer.vtkMRMLScalarVolumeNode(), f"{name} CAM", below, lesion=lesion.id)
        _fill_volume(cam, lesion.cam.array, ijk_to_ras(aligned.grid, lesion.cam.start_xyz))
        _show_cam(cam, cam_colours, float(lesion.cam.array.max()))
        table = add(slicer.vtkMRMLTableNode(), f"{name} phase values", below, lesion=lesion.id)
        _fill_phase_values(table, lesion)
        chart = add(slicer.vtkMRMLPlotChartNode(), f"{name} phase chart", below, lesion=lesion.id)
        for series in _fill_chart(chart, table, lesion):
            chart.AddAndObservePlotSeriesNodeID(add(series, series.GetName(), below, lesion=lesion.id).GetID())
        hierarchy.SetItemExpanded(below, False)
        lesions[lesion.id] = LesionNodes(roi, cam, table, chart)

    overlay = next(iter(lesions.values())).cam if lesions else None
    if len(lesions) > 1:
        # a slice view has one overlay: all lesions have to share it to be seen together
        overlay = add(slicer.vtkMRMLScalarVolumeNode(), "CAM of all lesions", folder)
        array, offset = union_of_cams(diagnosis.lesions)
        _fill_volume(overlay, array, ijk_to_ras(aligned.grid, offset))
        _show_cam(overlay, cam_colours, 1.0)

    results = add(slicer.vtkMRMLTableNode(), "Results", folder)
    _fill_results(results, diagnosis)
    summary = add(slicer.vtkMRMLTextNode(), "Summary", folder)
    summary.SetText(summary_text(diagnosis))
    for node in nodes:
        if node.IsA("vtkMRMLStorableNode"):
            node.AddDefaultStorageNode()
            # compressing costs seconds for every phase, and Slicer opens what is not compressed at once
            node.GetStorageNode().SetUseCompression(0)
    return SceneContents(folder, volumes, lesions, overlay, cam_colours, results, summary, tuple(nodes))


def arrange_views(scene: Any, contents: SceneContents, diagnosis: Diagnosis, aligned: AlignedExam) -> None:
    """Show the phases side by side in Slicer's 2 x 2 layout, at the first lesion, with the CAM over them, all views linked."""
    to_ras = ijk_to_ras(aligned.grid)
    extent = np.linalg.norm(to_ras[:3, :2], axis=0) * aligned.grid.size_xyz[:2]
    center = (to_ras @ [*(np.asarray(aligned.grid.size_xyz) - 1) / 2, 1])[:3]
    if diagnosis.lesions:
        # the whole slice stays in view, only its height is the lesion's
        normal = to_ras[:3, 2] / np.linalg.norm(to_ras[:3, 2])
        center = center + normal * (normal @ (np.asarray(diagnosis.lesions[0].roi.center_ras_mm) - center))
    for phase, view in zip(PHASES, PHASE_VIEWS, strict=True):
        node = scene.CreateNodeByClass("vtkMRMLSliceNode")  # with the scene's named orientations, unlike a bare node
        node.UnRegister(None)
        node.SetName(view)
        node.SetLayoutName(view)
        node.SetLayoutLabel(phase)
        node.SetLayoutColor(*VIEW_COLOURS[view])
        node = scene.AddNode(node)
        _lay_slice(node, to_ras, center, float(extent.max()))
        composite = slicer.vtkMRMLSliceCompositeNode()
        composite.SetName(view)
        composite.SetLayoutName(view)
        composite = scene.AddNode(composite)
        if phase in contents.volumes:
            composite.SetBackgroundVolumeID(contents.volumes[phase].GetID())
            if contents.overlay is not None:
                composite.SetForegroundVolumeID(contents.overlay.GetID())
                composite.SetForegroundOpacity(CAM_OPACITY)
        composite.SetLinkedControl(1)
        composite.SetHotLinkedControl(1)
    if contents.lesions:
        plot = slicer.vtkMRMLPlotViewNode()
        plot.SetName("PlotView1")
        plot.SetLayoutName("PlotView1")
        scene.AddNode(plot).SetPlotChartNodeID(next(iter(contents.lesions.values())).chart.GetID())
    layout = slicer.vtkMRMLLayoutNode()
    layout.SetSingletonTag("vtkMRMLLayoutNode")
    layout = scene.AddNode(layout)
    # the description is the application's; without one registered here the node would only warn
    if not layout.IsLayoutDescription(layout.SlicerLayoutTwoOverTwoView):
        layout.AddLayoutDescription(layout.SlicerLayoutTwoOverTwoView, "<layout/>")
    layout.SetViewArrangement(layout.SlicerLayoutTwoOverTwoView)


def ijk_to_ras(grid: Grid, start_xyz: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
    """Return the 4 x 4 matrix from voxel index (column, row, slice) to RAS mm, of the part of the grid that starts at start_xyz."""
    corners = np.asarray(start_xyz, float) + np.vstack([np.zeros(3), np.eye(3)])
    ras = grid.index_to_ras(corners)
    matrix = np.eye(4)
    matrix[:3, :3] = (ras[1:] - ras[0]).T
    matrix[:3, 3] = ras[0]
    return matrix


def union_of_cams(lesions: tuple[LesionDiagnosis, ...]) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Return all lesions' CAMs, each scaled to at most 1, on the box around them (slice, row, column), and its first index (x, y, z).

    Where boxes overlap, the larger value stays.
    """
    low = np.min([lesion.cam.start_xyz for lesion in lesions], 0)
    high = np.max([np.asarray(lesion.cam.start_xyz) + lesion.cam.array.shape[::-1] for lesion in lesions], 0)
    union = np.zeros((high - low)[::-1], np.float32)
    for lesion in lesions:
        part = tuple(slice(start, start + n) for start, n in zip((lesion.cam.start_xyz - low)[::-1], lesion.cam.array.shape, strict=True))
        scaled = lesion.cam.array / max(float(lesion.cam.array.max()), 1e-12)
        np.maximum(union[part], scaled, out=union[part])
    return union, tuple(int(v) for v in low)


def summary_text(diagnosis: Diagnosis) -> str:
    """Return the result as a few lines of plain text."""
    lines = [wording.RESEARCH_ONLY, "", wording.GATE_TITLES[diagnosis.gate.verdict] + "."]
    lines += [f"- {reason}" for reason in diagnosis.gate.reasons]
    lines.append("")
    lines += [f"{wording.lesion_name(lesion)} ({wording.lesion_size(lesion)}): {wording.verdict(lesion)}" for lesion in diagnosis.lesions]
    if not diagnosis.lesions:
        lines.append(wording.NO_LESION)
    lines += [f"Warning: {warning}" for warning in diagnosis.warnings]
    lines += ["", f"Bundle {diagnosis.bundle.name} {diagnosis.bundle.version}: {diagnosis.bundle.intended_use}"]
    return "\n".join(lines)


def _fill_volume(volume: Any, array: np.ndarray, to_ras: np.ndarray) -> None:
    array = np.ascontiguousarray(array)
    image = vtkImageData()
    image.SetDimensions(*array.shape[::-1])
    # shares memory: the VTK array holds on to the numpy one
    image.GetPointData().SetScalars(numpy_to_vtk(array.ravel()))
    matrix = vtkMatrix4x4()
    matrix.DeepCopy(to_ras.ravel().tolist())
    volume.SetIJKToRASMatrix(matrix)
    volume.SetAndObserveImageData(image)


def _show_phase(scene: Any, volume: Any, phase: str) -> None:
    volume.CreateDefaultDisplayNodes()
    display = volume.GetDisplayNode()
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
    display.AutoWindowLevelOff()
    level, width = WINDOWS[phase]
    display.SetWindowLevel(width, level)


def _show_cam(volume: Any, colours: Any, largest: float) -> None:
    """Show a CAM in colours up to its largest value, unseen below a part of it; one that is 0 everywhere stays unseen."""
    largest = largest or 1.0
    volume.CreateDefaultDisplayNodes()
    display = volume.GetDisplayNode()
    display.SetAndObserveColorNodeID(colours.GetID())
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0.0, largest)
    display.AutoThresholdOff()
    display.SetThreshold(CAM_THRESHOLD * largest, largest)
    display.ApplyThresholdOn()


def _add_cam_colours(scene: Any) -> Any:
    table = slicer.vtkMRMLColorTableNode()
    table.SetTypeToUser()
    table.SetName("CAM colours")
    table.HideFromEditorsOff()
    ramp = cam_ramp() / 255
    table.SetNumberOfColors(len(ramp))
    for index, (red, green, blue) in enumerate(ramp):
        value = index / (len(ramp) - 1)
        table.SetColor(index, f"{value:.3f}", red, green, blue, 0.0 if value < CAM_THRESHOLD else 1.0)
    table.GetLookupTable().SetRange(0, 1)
    return scene.AddNode(table)


def _fill_roi(roi: Any, lesion: LesionDiagnosis) -> None:
    matrix = vtkMatrix4x4()
    for column, axis in enumerate(lesion.roi.axes_ras):
        for row in range(3):
            matrix.SetElement(row, column, axis[row])
    for row in range(3):
        matrix.SetElement(row, 3, lesion.roi.center_ras_mm[row])
    roi.SetAndObserveObjectToNodeMatrix(matrix)
    roi.SetSize(*lesion.roi.size_mm)
    roi.SetNthControlPointLabel(0, lesion.id)
    roi.SetDescription(wording.verdict(lesion))
    roi.CreateDefaultDisplayNodes()
    display = roi.GetDisplayNode()
    colour = [channel / 255 for channel in SIDES[wording.side_of(lesion)]]
    display.SetSelectedColor(*colour)
    display.SetColor(*colour)
    display.SetFillVisibility(False)
    display.SetHandlesInteractive(False)
    # a whole result written over the lesion hides it: its short name is enough there
    display.SetPropertiesLabelVisibility(False)
    display.SetPointLabelsVisibility(True)
    display.SetTextScale(2.5)
    display.SetGlyphScale(0.6)


def _fill_phase_values(table: Any, lesion: LesionDiagnosis) -> None:
    """One row a stage, one column a phase, in percentage points, so that every phase is a series with a name of its own in the chart."""
    stages = list(lesion.phase_shapley.values())
    _add_column(table, "Probability of", [wording.outcome(shapley.of) for shapley in stages])
    _add_column(table, "Without any phase (%)", [shapley.baseline * 100 for shapley in stages])
    for phase in stages[0].values:
        _add_column(table, PHASE_NAMES[phase].capitalize(), [shapley.values[phase] * 100 for shapley in stages])
    _add_column(table, "With all acquired phases (%)", [shapley.total * 100 for shapley in stages])


def _fill_chart(chart: Any, table: Any, lesion: LesionDiagnosis) -> list[Any]:
    chart.SetTitle(f"{wording.lesion_name(lesion)}: what each phase adds to the probability")
    stages = list(lesion.phase_shapley.values())
    groups = [f"{index}: {wording.outcome(shapley.of)}" for index, shapley in enumerate(stages)]
    chart.SetXAxisTitle("   ".join(groups))
    chart.SetYAxisTitle("percentage points")
    chart.SetGridVisibility(True)
    chart.SetLegendVisibility(True)
    series = []
    for phase in stages[0].values:
        name = PHASE_NAMES[phase].capitalize()
        bars = slicer.vtkMRMLPlotSeriesNode()
        bars.SetName(name)
        bars.SetAndObserveTableNodeID(table.GetID())
        bars.SetPlotType(bars.PlotTypeBar)
        bars.SetYColumnName(name)
        bars.SetLabelColumnName("Probability of")
        bars.SetColor(*[channel / 255 for channel in PHASE_COLOURS[phase]])
        series.append(bars)
    return series


def _fill_results(table: Any, diagnosis: Diagnosis) -> None:
    lesions = diagnosis.lesions
    _add_column(table, "Lesion", [wording.lesion_name(lesion) for lesion in lesions])
    _add_column(table, "Result", [wording.verdict(lesion) for lesion in lesions])
    _add_column(table, "Malignant (%)", [lesion.malignant_probability * 100 for lesion in lesions])
    for label in CLASSES:
        _add_column(table, f"{CLASS_NAMES[label].capitalize()} (%)", [lesion.class_probabilities[label] * 100 for lesion in lesions])
    _add_column(table, "Size (mm)", [wording.lesion_size(lesion) for lesion in lesions])
    _add_column(table, "Trust", [diagnosis.gate.verdict for _ in lesions])


def _add_column(table: Any, name: str, values: list[Any]) -> None:
    table.SetUseColumnTitleAsColumnHeader(True)
    column = vtkDoubleArray() if values and isinstance(values[0], float) else vtkStringArray()
    column.SetName(name)
    for value in values:
        column.InsertNextValue(round(value, 2) if isinstance(value, float) else value)
    table.AddColumn(column)


def _lay_slice(node: Any, to_ras: np.ndarray, center: np.ndarray, side_mm: float) -> None:
    """Lay a slice view into the plane of the volume's own slices, patient's right on the left, seen whole."""
    axes = to_ras[:3, :3] / np.linalg.norm(to_ras[:3, :3], axis=0)
    matrix = node.GetSliceToRAS()
    for row in range(3):
        for column, value in enumerate((axes[row, 0], -axes[row, 1], axes[row, 2], center[row])):
            matrix.SetElement(row, column, float(value))
    node.SetDimensions(400, 400, 1)
    node.SetFieldOfView(side_mm, side_mm, float(np.linalg.norm(to_ras[:3, 2])))
    node.UpdateMatrices()


def _zip(folder: Path, path: Path) -> None:
    """Pack a scene's folder as MRB. Volumes go in as they are: CT is noise, packing it to a half costs ten times the time of writing it."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                method = zipfile.ZIP_STORED if file.suffix == ".nrrd" else zipfile.ZIP_DEFLATED
                archive.write(file, file.relative_to(folder.parent).as_posix(), method)
