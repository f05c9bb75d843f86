"""A Diagnosis and its aligned exam become scene.mrb: the nodes of the panel's exam, shown in Slicer's own 2 x 2 layout.

Speaks MRML only (slicer, vtk), so it runs on slicer-core and inside Slicer alike. All positions are RAS mm.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer

from .colours import CAM_OPACITY
from .exam_nodes import ExamNodes
from .exam_views import lay_slice, slices_of
from .node_references import of_class
from .result_document import grid_to_ras, place_cam
from .vocabulary import PHASE_NAMES, PHASES
from .volume_nodes import fill_volume, new_node
from .volumes import rounded

if TYPE_CHECKING:
    from .diagnosis import Diagnosis
    from .volumes import AlignedExam

#: Slice views of Slicer's own 2 x 2 layout, in reading order, one a phase.
PHASE_VIEWS = ("Red", "Slice4", "Green", "Yellow")
#: The frame colours that the application gives these views; a view node read from a file would turn them grey.
VIEW_COLOURS = {
    "Red": (0.953, 0.290, 0.200),
    "Slice4": (0.549, 0.549, 0.549),
    "Green": (0.431, 0.690, 0.294),
    "Yellow": (0.929, 0.835, 0.298),
}


def write_scene(diagnosis: Diagnosis, aligned: AlignedExam, path: Path) -> None:
    """Write an MRB that opens in Slicer with the four phases side by side, the ROIs and the CAM overlay shown."""
    path = Path(path).absolute()  # a scene is not saved into a relative folder
    scene = new_scene()
    exam = build_scene(scene, diagnosis, aligned)
    arrange_views(scene, exam)
    for node in of_class(scene, "vtkMRMLStorableNode"):
        node.AddDefaultStorageNode()
        # compressing costs seconds for every phase, and Slicer opens what is not compressed at once
        if node.GetStorageNode() is not None:
            node.GetStorageNode().SetUseCompression(0)
    # beside the result, where its room is needed anyway, and not in a shared temporary folder
    with tempfile.TemporaryDirectory(prefix="scene-", dir=path.parent) as folder:
        bundle = Path(folder) / path.stem
        bundle.mkdir()
        with _silence():
            saved = scene.SaveSceneToSlicerDataBundleDirectory(str(bundle), None)
        if not saved:
            raise OSError(f"The scene {path.name} could not be written; is there room left in its folder?")
        _zip(bundle, path)
    scene.Clear(1)


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what ITK and VTK write of a full disk off standard error: pages with paths, where one sentence of ours is to stand."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def new_scene() -> Any:
    """Return an empty scene that knows the node classes of a result and has the grey table that Slicer starts with."""
    scene = slicer.vtkMRMLScene()
    # outside the application only some of the modules' classes are known to a scene
    markups = (f"Markups{kind}" for kind in ("ROINode", "ROIDisplayNode", "JsonStorageNode", "ROIJsonStorageNode"))
    for kind in (*markups, "ColorLegendDisplayNode"):
        name = f"vtkMRML{kind}"
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


def build_scene(scene: Any, diagnosis: Diagnosis, aligned: AlignedExam) -> ExamNodes:
    """Add an exam with its result to a scene; views and layout stay as they are. Voxels that are int16 already are shared with it."""
    volumes = {}
    for phase, acquired, hu in zip(PHASES, aligned.present, aligned.hu, strict=True):
        if acquired:
            volumes[phase] = new_node(scene, "ScalarVolumeNode", PHASE_NAMES[phase].capitalize())
            fill_volume(volumes[phase], rounded(hu), grid_to_ras(aligned.grid))
    exam = ExamNodes.of(scene)
    exam.set_phases(volumes)
    placed = tuple(replace(lesion, cam=place_cam(lesion.cam, aligned.grid)) for lesion in diagnosis.lesions)
    exam.show(replace(diagnosis, lesions=placed), {})
    return exam


def arrange_views(scene: Any, exam: ExamNodes) -> None:
    """Show the phases side by side in Slicer's 2 x 2 layout, at the first lesion, with the CAM over them, all views linked."""
    volumes, rois, overlay = exam.phases(), exam.rois(), exam.cam_node()
    axes, center, extent, step = slices_of(next(iter(volumes.values())))
    if rois:
        # the whole slice stays in view, only its height is the lesion's
        lesion = [0.0] * 3
        rois[0].GetCenterWorld(lesion)
        center = center + axes[2] * (axes[2] @ (np.array(lesion) - center))
    for phase, view in zip(PHASES, PHASE_VIEWS, strict=True):
        node = scene.CreateNodeByClass("vtkMRMLSliceNode")  # with the scene's named orientations, unlike a bare node
        node.UnRegister(None)
        node.SetName(view)
        node.SetLayoutName(view)
        node.SetLayoutLabel(phase)
        node.SetLayoutColor(*VIEW_COLOURS[view])
        node = scene.AddNode(node)
        node.SetDimensions(400, 400, 1)
        lay_slice(node, axes, center, extent, step)
        composite = slicer.vtkMRMLSliceCompositeNode()
        composite.SetName(view)
        composite.SetLayoutName(view)
        composite = scene.AddNode(composite)
        if phase in volumes:
            composite.SetBackgroundVolumeID(volumes[phase].GetID())
            if overlay is not None:
                composite.SetForegroundVolumeID(overlay.GetID())
                composite.SetForegroundOpacity(CAM_OPACITY)
        composite.SetLinkedControl(1)
        composite.SetHotLinkedControl(1)
    if rois:
        plot = slicer.vtkMRMLPlotViewNode()
        plot.SetName("PlotView1")
        plot.SetLayoutName("PlotView1")
        scene.AddNode(plot).SetPlotChartNodeID(exam.chart_nodes(rois[0])["stage1"].GetID())
    layout = slicer.vtkMRMLLayoutNode()
    layout.SetSingletonTag("vtkMRMLLayoutNode")
    layout = scene.AddNode(layout)
    # the description is the application's; without one registered here the node would only warn
    if not layout.IsLayoutDescription(layout.SlicerLayoutTwoOverTwoView):
        layout.AddLayoutDescription(layout.SlicerLayoutTwoOverTwoView, "<layout/>")
    layout.SetViewArrangement(layout.SlicerLayoutTwoOverTwoView)


def _zip(folder: Path, path: Path) -> None:
    """Pack a scene's folder as MRB. Volumes go in as they are: CT is noise, packing it to a half costs ten times the time of writing it."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                method = zipfile.ZIP_STORED if file.suffix == ".nrrd" else zipfile.ZIP_DEFLATED
                archive.write(file, file.relative_to(folder.parent).as_posix(), method)
