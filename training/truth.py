"""An exam of a cohort as the networks meet it: the aligned exam and the boxes of its marked lesions on the same grid."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PediatricLiverDxLib.alignment import align
from PediatricLiverDxLib.exam import read_exam
from PediatricLiverDxLib.rois import IndexBox
from PediatricLiverDxLib.vocabulary import InputError
from PediatricLiverDxLib.volumes import AlignedExam, Grid

from . import labelme
from .cohort import ExamRecord


@dataclass(frozen=True)
class Lesion:
    """A marked lesion: its label (a mask's value, or LabelMe's group_id), its box in voxel edges, and its box in every slice from z0 to z1.

    slice_boxes: (slice, 4) float32 (x0, y0, x1, y1) in voxel edges; a slice that a mask's label skips repeats its neighbour's box.
    marked: (slice,) bool, whether the lesion is in that slice: a mask's label can skip slices. A lesion from LabelMe is in all of them,
    drawn or not: its box there is known, and a slice within it is none that a detector should take for empty.
    """

    label: int
    box: IndexBox
    slice_boxes: np.ndarray
    marked: np.ndarray

    def slice_box(self, z: int) -> np.ndarray:
        """Return the box in slice z, or in the lesion's nearest slice."""
        return self.slice_boxes[min(max(z - int(self.box[2]), 0), len(self.slice_boxes) - 1)]


def load_exam(record: ExamRecord, *, align_phases: bool) -> tuple[AlignedExam, tuple[Lesion, ...]]:
    """Return the exam on its reference grid and its lesions by descending box volume. Raises InputError."""
    aligned = align(read_exam(files=record.phases), enabled=align_phases)
    return aligned, read_lesions(record, aligned.grid)


def read_lesions(record: ExamRecord, grid: Grid) -> tuple[Lesion, ...]:
    """Return the lesions of a record's mask volume or LabelMe folder by descending box volume.

    grid: of the exam's reference phase. Raises InputError for a folder that is not as `labelme` expects.
    """
    if record.lesions is None:
        return ()
    lesions = _labelme_lesions(record, grid) if record.lesions.is_dir() else _mask_lesions(record.lesions, grid)
    return tuple(sorted(lesions, key=lambda lesion: -_volume(lesion.box)))


def _labelme_lesions(record: ExamRecord, grid: Grid) -> list[Lesion]:
    try:
        found = labelme.read_boxes(record.lesions, record.phases, grid)
    except InputError as error:
        raise InputError(f"exam {record.exam_id}: {error}") from error
    return [_enclosed(group, first, boxes, np.ones(len(boxes), bool)) for group, (first, boxes) in found.items()]


def _mask_lesions(path: Path, grid: Grid) -> list[Lesion]:
    mask = sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")
    if not _same_grid(Grid.of(mask), grid):
        mask = sitk.Resample(mask, grid.image(np.zeros(grid.size_xyz[::-1], np.uint8)), sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    labels = sitk.GetArrayFromImage(mask)
    return [_mask_lesion(labels == label, int(label)) for label in np.unique(labels) if label]


def draw_uniform(seed: int, *names: str) -> float:
    """Return a number in [0, 1) that depends only on the seed and the names."""
    return int.from_bytes(hashlib.sha256("/".join((str(seed), *names)).encode()).digest()[:6], "big") / 2**48


def _mask_lesion(mask: np.ndarray, label: int) -> Lesion:
    slices = np.flatnonzero(mask.any((1, 2)))
    boxes = np.full((slices[-1] + 1 - slices[0], 4), np.nan, np.float32)
    for z in slices:
        rows, columns = np.flatnonzero(mask[z].any(1)), np.flatnonzero(mask[z].any(0))
        boxes[z - slices[0]] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    marked = ~np.isnan(boxes[:, 0])
    for place in np.flatnonzero(~marked):
        boxes[place] = boxes[place - 1]
    return _enclosed(label, int(slices[0]), boxes, marked)


def _enclosed(label: int, first: int, boxes: np.ndarray, marked: np.ndarray) -> Lesion:
    """Return the lesion of these slice boxes, the lowest of which is in slice `first`."""
    low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    box = (float(low[0]), float(low[1]), float(first), float(high[0]), float(high[1]), float(first + len(boxes)))
    return Lesion(label, box, boxes, marked)


def _volume(box: IndexBox) -> float:
    return float(np.prod(np.subtract(box[3:], box[:3])))


def _same_grid(one: Grid, other: Grid) -> bool:
    return one.size_xyz == other.size_xyz and all(
        np.allclose(a, b, atol=1e-3)
        for a, b in ((one.spacing_xyz, other.spacing_xyz), (one.origin_lps, other.origin_lps), (one.direction, other.direction))
    )
