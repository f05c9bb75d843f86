"""Arrays become volume nodes: a phase in its window, a CAM in colours of its own. MRML only; positions are RAS mm."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import slicer

# by their own modules: vtk as a whole takes a third of a second and 50 MB more
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkImageData
from vtkmodules.vtkCommonMath import vtkMatrix4x4
from vtkmodules.vtkCommonTransforms import vtkGeneralTransform

from .colours import CAM_THRESHOLD, cam_ramp
from .result_document import PlacedCam
from .vocabulary import WINDOWS

#: Name of the colour table of every CAM.
CAM_COLOURS = "Heat map colours"


@contextmanager
def one_event(node: Any) -> Iterator[None]:
    """Let whoever observes a node hear of all changes inside at once."""
    was_modifying = node.StartModify()
    try:
        yield
    finally:
        node.EndModify(was_modifying)


def new_node(scene: Any, kind: str, name: str) -> Any:
    """Add a node of a class ("MarkupsROINode") with the defaults that the user chose for it."""
    return scene.AddNewNodeByClass(f"vtkMRML{kind}", name)


def fill_volume(volume: Any, array: np.ndarray, ijk_to_ras: np.ndarray) -> None:
    """Give a volume its voxels (slice, row, column) and their place (4 x 4, from column, row, slice to RAS mm)."""
    array = np.ascontiguousarray(array)
    image = vtkImageData()
    image.SetDimensions(*array.shape[::-1])
    # shares memory: the VTK array holds on to the numpy one
    image.GetPointData().SetScalars(numpy_to_vtk(array.ravel()))
    with one_event(volume):
        volume.SetIJKToRASMatrix(vtk_matrix(ijk_to_ras))
        volume.SetAndObserveImageData(image)


def vtk_matrix(matrix: np.ndarray) -> Any:
    copy = vtkMatrix4x4()
    copy.DeepCopy(np.asarray(matrix, float).ravel().tolist())
    return copy


def numpy_matrix(matrix: Any) -> np.ndarray:
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def voxels_to_ras(volume: Any) -> np.ndarray:
    """Return the 4 x 4 matrix of a volume itself, without its parent transform."""
    matrix = vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return numpy_matrix(matrix)


def place_of_volume(volume: Any) -> np.ndarray:
    """Return where a volume is shown, (9, 3) RAS mm: its centre and corners, parent transforms applied, linear or not."""
    image = volume.GetImageData()
    if image is None:
        return np.full((9, 3), np.nan)
    size = np.array(image.GetDimensions()) - 1
    indices = np.array([(0.5, 0.5, 0.5), *itertools.product((0, 1), repeat=3)]) * size
    points = (voxels_to_ras(volume) @ np.vstack([indices.T, np.ones(9)]))[:3].T
    if volume.GetParentTransformNode() is None:
        return points
    to_world = vtkGeneralTransform()
    volume.GetParentTransformNode().GetTransformToWorld(to_world)
    return np.array([to_world.TransformPoint(point) for point in points])


def placed_cam(volume: Any) -> PlacedCam | None:
    """Return what a CAM volume holds, None when that is nothing."""
    image = volume.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None:
        return None
    array = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
    return PlacedCam(array, voxels_to_ras(volume))


def show_phase(volume: Any, phase: str) -> None:
    """Show a volume in the window of its phase, grey."""
    if volume.GetScalarVolumeDisplayNode() is None:
        volume.CreateDefaultDisplayNodes()
    display = volume.GetScalarVolumeDisplayNode()
    level, width = WINDOWS[phase]
    with one_event(display):
        display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
        display.AutoWindowLevelOff()
        display.SetWindowLevel(width, level)


def show_cam(volume: Any, colours: Any, threshold: float = CAM_THRESHOLD) -> None:
    """Show a CAM in colours up to its largest value, unseen below `threshold`, a part of that value."""
    if volume.GetScalarVolumeDisplayNode() is None:
        volume.CreateDefaultDisplayNodes()
    display = volume.GetScalarVolumeDisplayNode()
    with one_event(display):
        display.SetAndObserveColorNodeID(colours.GetID())
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(0.0, largest_value(volume))
        display.AutoThresholdOff()
        display.ApplyThresholdOn()
    set_threshold(volume, threshold)


def set_threshold(volume: Any, threshold: float) -> None:
    """Leave out what lies below `threshold`, a part of the volume's largest value."""
    largest, display = largest_value(volume), volume.GetScalarVolumeDisplayNode()
    # what is 0 is no part of any map, even when everything else is wanted
    display.SetThreshold(max(threshold, 1e-3) * largest, largest)


def voxels_state(volume: Any) -> tuple:
    """Return what stays the same as long as nobody writes into a volume's voxels, in this session."""
    image = volume.GetImageData()
    scalars = image.GetPointData().GetScalars() if image is not None else None
    return (image.GetMTime(), scalars.GetMTime()) if scalars is not None else ()


def threshold_of(volume: Any) -> float:
    """Return the part of its largest value below which a CAM volume is not shown."""
    display = volume.GetScalarVolumeDisplayNode()
    return display.GetLowerThreshold() / largest_value(volume) if display is not None and display.GetApplyThreshold() else CAM_THRESHOLD


def is_empty_map(volume: Any) -> bool:
    """Tell whether a CAM volume is 0 everywhere: nothing speaks for what it is for."""
    image = volume.GetImageData() if volume is not None else None
    return image is not None and image.GetScalarRange()[1] <= 0


def largest_value(volume: Any) -> float:
    """Return the largest value of a CAM volume; 1 where that is 0, so that nothing of it is shown."""
    image = volume.GetImageData()
    return (float(image.GetScalarRange()[1]) if image is not None else 0.0) or 1.0


def cam_colours(scene: Any) -> Any:
    """Return the colour table of CAMs, made when the scene has none: only 0 is transparent in it, the rest is the display's threshold."""
    table = scene.GetFirstNodeByName(CAM_COLOURS)
    if table is not None and table.IsA("vtkMRMLColorTableNode"):
        return table
    table = slicer.vtkMRMLColorTableNode()
    table.SetTypeToUser()
    table.SetName(CAM_COLOURS)
    table.HideFromEditorsOff()
    ramp = cam_ramp() / 255
    table.SetNumberOfColors(len(ramp))
    for index, (red, green, blue) in enumerate(ramp):
        table.SetColor(index, f"{index / (len(ramp) - 1):.3f}", red, green, blue, 1.0 if index else 0.0)
    table.GetLookupTable().SetRange(0, 1)
    return scene.AddNode(table)


def union_of_cams(cams: Sequence[PlacedCam]) -> PlacedCam:
    """Return CAMs on parts of the same grid in one box around them, each scaled to at most 1.

    Where they overlap, the larger value stays.
    """
    to_first = np.linalg.inv(cams[0].ijk_to_ras)
    starts = np.array([np.rint((to_first @ cam.ijk_to_ras)[:3, 3]).astype(int) for cam in cams])
    low = starts.min(0)
    high = np.max([start + cam.array.shape[::-1] for start, cam in zip(starts, cams, strict=True)], 0)
    union = np.zeros((high - low)[::-1], np.float32)
    for start, cam in zip(starts - low, cams, strict=True):
        part = tuple(slice(first, first + n) for first, n in zip(start[::-1], cam.array.shape, strict=True))
        np.maximum(union[part], cam.array / max(float(cam.array.max()), 1e-12), out=union[part])
    matrix = cams[0].ijk_to_ras.copy()
    matrix[:3, 3] = (cams[0].ijk_to_ras @ [*low, 1])[:3]
    return PlacedCam(union, matrix)
