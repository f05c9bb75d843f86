"""Volumes as the scene shows them become files that the worker reads. MRML only; positions are RAS mm."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonMath import vtkMatrix4x4
from vtkmodules.vtkCommonTransforms import vtkGeneralTransform, vtkTransform

from .vocabulary import InputError
from .volume_nodes import numpy_matrix, voxels_state, voxels_to_ras, vtk_matrix

#: Bytes that are written between two breaths of the window: a few ms.
SLAB_BYTES = 1 << 22

#: Axes whose cosine is above this are not at right angles; NRRD readers refuse those.
_LEAST_SKEW = 1e-4

#: HU of what a bent volume does not cover, and how far beyond its own box it may reach, in parts of it.
_AIR, _REACH = -1024, 0.5

#: numpy kind and size -> NRRD's word.
_TYPES = {
    "i1": "int8", "u1": "uint8", "i2": "int16", "u2": "uint16", "i4": "int32", "u4": "uint32", "i8": "int64", "u8": "uint64", "f4": "float",
}  # fmt: skip


@dataclass(frozen=True)
class ShownVolume:
    """Voxels (slice, row, column), where they are (4 x 4, from column, row, slice to RAS mm), and a word where they were resampled."""

    voxels: np.ndarray
    to_ras: np.ndarray
    warning: str | None = None


def shown_volume(node: Any, label: str) -> ShownVolume:
    """Return a volume as it is shown: linear parent transforms move its grid, others and shearing ones resample it (linear, in HU).

    The voxels are the node's own where nothing is resampled: not to be written to. Raises InputError, beginning with label, where the
    volume is empty or not one number a voxel.
    """
    voxels, to_ras = voxels_of(node, label), voxels_to_ras(node)
    transform = node.GetParentTransformNode()
    if transform is None:
        return ShownVolume(voxels, to_ras)
    if transform.IsTransformToWorldLinear():
        to_world = vtkMatrix4x4()
        transform.GetMatrixTransformToWorld(to_world)
        moved = numpy_matrix(to_world) @ to_ras
        if is_right_angled(moved):
            return ShownVolume(voxels, moved)
        bending = vtkTransform()
        bending.SetMatrix(to_world)
    else:
        bending = vtkGeneralTransform()
        transform.GetTransformToWorld(bending)
    bent, place = _resampled(node.GetImageData(), to_ras, bending)
    return ShownVolume(bent, place, f"{label}: its transform bends or shears it, so it was resampled as it is shown.")


def voxels_of(node: Any, label: str) -> np.ndarray:
    """Return a volume node's own voxels (slice, row, column); raises InputError where there are none, or several numbers in each."""
    image = node.GetImageData()
    scalars = image.GetPointData().GetScalars() if image is not None else None
    if scalars is None or image.GetNumberOfPoints() == 0:
        raise InputError(f"{label}: expected a CT volume, got an empty one; load it again or choose another.")
    if scalars.GetNumberOfComponents() != 1:
        raise InputError(f"{label}: expected one HU value a voxel, got {scalars.GetNumberOfComponents()} (colour); choose the CT itself.")
    return vtk_to_numpy(scalars).reshape(image.GetDimensions()[::-1])


def is_right_angled(to_ras: np.ndarray) -> bool:
    """Tell whether the three axes of a grid are at right angles."""
    axes = to_ras[:3, :3] / np.linalg.norm(to_ras[:3, :3], axis=0)
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() < _LEAST_SKEW)


def writing_phase(node: Any, path: Path) -> Iterator[float]:
    """Write a volume in slabs, with time for the event loop in between; yields the part that is done, returns a sentence where it had to
    be resampled.

    The file is there only when it is whole; closing the iterator early leaves nothing. Its name (the phase) is how messages call it.

    Raises:
        InputError: an empty or colour volume, or a disk that is full or not to be written to.
    """
    volume = shown_volume(node, path.stem)
    beside = path.with_name(f".{path.name}.part")
    try:
        with beside.open("wb") as file:
            yield from _written(file, volume)
        beside.replace(path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        megabytes = volume.voxels.nbytes / 1e6
        raise InputError(
            f"{path.stem}: the volume could not be handed over ({reason}); it takes {megabytes:.0f} MB, "
            "so make room on the disk of the temporary files, or choose another folder for them in the application's settings."
        ) from None
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
    return volume.warning


def exam_key(nodes_by_phase: Mapping[str, Any]) -> tuple:
    """Return what stays the same exactly as long as the volumes' voxels, places and transforms do: files of them need not be rewritten."""
    return tuple((phase, *_state(node)) for phase, node in nodes_by_phase.items())


def _state(node: Any) -> tuple:
    transform = node.GetParentTransformNode()
    if transform is None:
        shown: tuple = ()
    elif transform.IsTransformToWorldLinear():
        to_world = vtkMatrix4x4()
        transform.GetMatrixTransformToWorld(to_world)
        shown = tuple(numpy_matrix(to_world).ravel().tolist())
    else:
        shown = (transform.GetID(), transform.GetTransformToWorldMTime())
    return node.GetID(), voxels_state(node), tuple(voxels_to_ras(node).ravel().tolist()), shown


def _written(file: BinaryIO, volume: ShownVolume) -> Iterator[float]:
    voxels = volume.voxels
    kind = np.dtype(np.float32) if voxels.dtype == np.float64 else voxels.dtype
    file.write(_header(voxels.shape[::-1], kind, volume.to_ras))
    step = max(1, SLAB_BYTES // (voxels[0].size * kind.itemsize))
    for start in range(0, len(voxels), step):
        slab = np.ascontiguousarray(voxels[start : start + step], dtype=kind)
        file.write(memoryview(slab).cast("B"))
        yield min(1.0, (start + step) / len(voxels))


def _header(size_xyz: tuple[int, ...], kind: np.dtype, to_ras: np.ndarray) -> bytes:
    to_lps = np.diag([-1.0, -1.0, 1.0]) @ to_ras[:3] + 0.0

    def vector(column: int) -> str:
        return f"({','.join(repr(float(v)) for v in to_lps[:, column])})"

    lines = (
        "NRRD0004",
        f"type: {_TYPES[f'{kind.kind}{kind.itemsize}']}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(str(n) for n in size_xyz)}",
        f"space directions: {vector(0)} {vector(1)} {vector(2)}",
        "kinds: domain domain domain",
        f"endian: {sys.byteorder}",
        "encoding: raw",
        f"space origin: {vector(3)}",
        "",
        "",
    )
    return "\n".join(lines).encode("ascii")


def _resampled(image: Any, to_ras: np.ndarray, to_world: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return voxels and place of an image bent by a transform, on a grid of the image's own axes and spacing that holds all of it."""
    from vtkmodules.vtkImagingCore import vtkImageReslice

    size = np.array(image.GetDimensions())
    low, high = _bent_box(size, to_ras, to_world)
    start = np.ceil(np.maximum(low, -_REACH * size) - 1e-3).astype(int)
    end = np.floor(np.minimum(high, (1 + _REACH) * size) + 1e-3).astype(int)
    # from where a voxel is shown back to where it comes from; three times as fast where it is known to be linear
    back = vtkTransform() if isinstance(to_world, vtkTransform) else vtkGeneralTransform()
    back.PostMultiply()
    back.Concatenate(vtk_matrix(to_ras))
    back.Concatenate(to_world.GetInverse())
    back.Concatenate(vtk_matrix(np.linalg.inv(to_ras)))
    reslice = vtkImageReslice()
    reslice.SetInputData(image)
    reslice.SetResliceTransform(back)
    reslice.TransformInputSamplingOff()
    reslice.SetInterpolationModeToLinear()
    reslice.SetBackgroundLevel(max(_AIR, image.GetScalarTypeMin()))
    reslice.SetOutputSpacing(1, 1, 1)
    reslice.SetOutputOrigin(0, 0, 0)
    reslice.SetOutputExtent(*(int(v) for pair in zip(start, end, strict=True) for v in pair))
    reslice.Update()
    bent = reslice.GetOutput()
    place = to_ras.copy()
    place[:, 3] = to_ras @ [*start, 1]
    return vtk_to_numpy(bent.GetPointData().GetScalars()).reshape(bent.GetDimensions()[::-1]), place


def _bent_box(size: np.ndarray, to_ras: np.ndarray, to_world: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and largest voxel index (x, y, z) that a bent volume reaches, by its grid of 9 x 9 x 9 points."""
    back = np.linalg.inv(to_ras)
    reached = []
    for part in itertools.product(np.linspace(0, 1, 9), repeat=3):
        point = to_ras @ [*(np.array(part) * (size - 1)), 1]
        reached.append((back @ [*to_world.TransformPoint(point[:3]), 1])[:3])
    return np.min(reached, 0), np.max(reached, 0)
