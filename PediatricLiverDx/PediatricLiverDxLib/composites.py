"""What the networks see: an aligned exam and a Roi come in, windowed 4-phase images in [0, 1] go out, the same for training and diagnosis.

Axis order (slice, phase, row, column); phases in the order of PHASES; an absent phase is zeros.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from .rois import IndexBox, Roi
from .vocabulary import PHASES, WINDOWS, K

if TYPE_CHECKING:
    from .volumes import AlignedExam

#: Side of a classifier's input in pixels.
COMPOSITE_SIZE = 128
#: Side of a detector's input in pixels.
DETECTOR_SIZE = 320
#: Its images' sides are multiples of this many pixels, which is what its coarsest places see.
DETECTOR_STRIDE = 32
#: A composite shows at least the Roi's longer in-plane side times this.
ROI_MARGIN = 1.10
#: A Roi of this longer side, with its margin, fills its composite, mm; a smaller one is shown smaller (composite_side).
FULL_COMPOSITE_MM = 160.0
#: A detector input shows the body's longer in-plane side times this.
BODY_MARGIN = 1.04
#: What a network was trained with and has to be given again; a bundle says it.
GEOMETRY = MappingProxyType({"roi_margin": ROI_MARGIN, "full_composite_mm": FULL_COMPOSITE_MM, "body_margin": BODY_MARGIN})
#: HU above which a voxel counts as body.
BODY_HU = -300.0
#: Coarse grid on which the body is searched, mm.
BODY_GRID_MM = 4.0

__all__ = [
    "COMPOSITE_SIZE",
    "DETECTOR_SIZE",
    "DETECTOR_STRIDE",
    "DetectorTransform",
    "Roi",
    "body_mask",
    "composite_side",
    "composite_slices",
    "composites",
    "crop_plane",
    "inside_box",
    "resampling_matrix",
    "window",
]


def window(hu: np.ndarray, phase: str) -> np.ndarray:
    """Map HU to float32 in [0, 1]: (hu - (level - width / 2)) / width, clipped, with the phase's window (arXiv 2511.19478)."""
    level, width = WINDOWS[phase]
    scaled = np.asarray(hu, np.float32) * np.float32(1 / width)
    scaled -= np.float32((level - width / 2) / width)
    return np.clip(scaled, 0, 1, out=scaled)


def resampling_matrix(n_source: int, start: float, step: float, n_target: int, *, hold_edges: bool = False) -> np.ndarray:
    """Return the (n_target, n_source) float32 matrix of antialiased linear resampling along one axis.

    Target pixel t is centred at start + (t + 0.5) * step in source edges (source pixel s is centred at s + 0.5). The kernel is a triangle
    of half-width max(1, step) source pixels, so that shrinking averages and enlarging interpolates. A target pixel whose
    centre lies outside the source is 0, or with hold_edges the source's edge.
    """
    width = max(1.0, step)
    centres = start + (np.arange(n_target) + 0.5) * step
    held = np.clip(centres, 0, n_source)
    # the source is extended by its edge pixels as far as any kernel reaches, then the extension is folded back
    reach = int(np.ceil(width)) + 1
    positions = np.arange(-reach, n_source + reach) + 0.5
    weights = np.clip(1 - np.abs(positions - held[:, None]) / width, 0, None)
    weights /= np.maximum(weights.sum(1, keepdims=True), 1e-12)
    matrix = weights[:, reach : reach + n_source].copy()
    matrix[:, 0] += weights[:, :reach].sum(1)
    matrix[:, -1] += weights[:, reach + n_source :].sum(1)
    if not hold_edges:
        matrix[(centres < 0) | (centres > n_source)] = 0
    return matrix.astype(np.float32)


def crop_plane(
    hu_slice: np.ndarray,
    spacing_xy: Sequence[float],
    box_xyxy: Sequence[float],
    size: int = COMPOSITE_SIZE,
    phase: str = "PVP",
) -> np.ndarray:
    """Return one channel of a composite, (size, size) float32 in [0, 1].

    hu_slice: (row, column) in HU. spacing_xy: mm along column and row index. box_xyxy: (x0, y0, x1, y1) in voxel edges.
    The crop is a square in mm around the box's centre, composite_side wide; HU are windowed first and then resampled, and pixels whose
    centre lies outside the box are 0.
    """
    start, step = crop_square(box_xyxy, spacing_xy, size)
    across = _axis_crop(hu_slice.shape[1], start[0], step[0], size, box_xyxy[0], box_xyxy[2])
    down = _axis_crop(hu_slice.shape[0], start[1], step[1], size, box_xyxy[1], box_xyxy[3])
    rows, columns = _used(down), _used(across)
    return down[:, rows] @ window(hu_slice[rows, columns], phase) @ across[:, columns].T


def composite_side(box_side_mm: np.ndarray | float) -> np.ndarray | float:
    """Return the side in mm of the square that a composite shows of a box, given the box's longer in-plane side in mm.

    Were every box as large as its composite, no network could tell 2 cm from 15. So a box fills the share (side / FULL_COMPOSITE_MM)^(1/4)
    of its composite, margin included, and all of it from FULL_COMPOSITE_MM on: its masked surround tells its size, and a small lesion
    still has most of the pixels.
    """
    side = np.maximum(box_side_mm, 1e-3) * ROI_MARGIN
    return side * np.maximum(FULL_COMPOSITE_MM / side, 1) ** 0.25


def crop_square(
    box_xyxy: Sequence[float], spacing_xy: Sequence[float], size: int = COMPOSITE_SIZE
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return where a composite lies: voxel edge of its first pixel's edge, and voxels per pixel, both (x, y)."""
    x0, y0, x1, y1 = (float(v) for v in box_xyxy)
    side_mm = float(composite_side(max((x1 - x0) * spacing_xy[0], (y1 - y0) * spacing_xy[1])))
    extent = (side_mm / spacing_xy[0], side_mm / spacing_xy[1])
    return ((x0 + x1 - extent[0]) / 2, (y0 + y1 - extent[1]) / 2), (extent[0] / size, extent[1] / size)


def inside_box(box_xyxy: Sequence[float], spacing_xy: Sequence[float], size: int) -> np.ndarray:
    """Return which pixels of a composite have their centre inside the box, bool (size, size)."""
    start, step = crop_square(box_xyxy, spacing_xy, size)
    across, down = (
        (centres >= box_xyxy[axis]) & (centres <= box_xyxy[axis + 2])
        for axis in (0, 1)
        for centres in [start[axis] + (np.arange(size) + 0.5) * step[axis]]
    )
    return down[:, None] & across[None]


def _axis_crop(n_source: int, start: float, step: float, size: int, low: float, high: float) -> np.ndarray:
    """Return the resampling matrix of one axis with the rows outside [low, high] set to 0."""
    matrix = resampling_matrix(n_source, start, step, size)
    centres = start + (np.arange(size) + 0.5) * step
    matrix[(centres < low) | (centres > high)] = 0
    return matrix


def _used(matrix: np.ndarray) -> slice:
    """Return the range of source pixels that a resampling matrix reads."""
    columns = np.flatnonzero(matrix.any(0))
    return slice(int(columns[0]), int(columns[-1]) + 1) if len(columns) else slice(0, 1)


def composite_slices(z0: float, z1: float) -> tuple[int, int, int]:
    """Return the slices at the centres of the lower, middle and upper third of [z0, z1) in voxel edges; equal ones when it is thin."""
    low, middle, high = (int(np.floor(z0 + (z1 - z0) * (2 * k + 1) / (2 * K))) for k in range(K))
    return low, middle, high


def composites(aligned: AlignedExam, roi: Roi, size: int = COMPOSITE_SIZE) -> np.ndarray:
    """Return a lesion's K composites, float32 (slice, phase, size, size) in [0, 1].

    The Roi is cut at the volume's edge (Roi.clamp_to, InputError when outside); a Roi turned against the grid counts as its enclosing
    index box. Outside the box, and for an absent phase, the image is 0.
    """
    box = roi.clamp_to(aligned.grid)[0].index_box(aligned.grid)
    out = np.zeros((K, len(PHASES), size, size), np.float32)
    for k, z in enumerate(composite_slices_of(box, aligned.grid.size_xyz[2])):
        for p, phase in enumerate(PHASES):
            if aligned.present[p]:
                out[k, p] = crop_plane(aligned.hu[p, z], aligned.grid.spacing_xyz[:2], (box[0], box[1], box[3], box[4]), size, phase)
    return out


def composite_slices_of(box: IndexBox, n_slices: int) -> tuple[int, int, int]:
    """Return composite_slices of an index box, held inside the volume."""
    low, middle, high = (min(max(z, 0), n_slices - 1) for z in composite_slices(box[2], box[5]))
    return low, middle, high


@dataclass(frozen=True)
class DetectorTransform:
    """Map pixels of an image of width x height to voxel edges of the aligned grid and back: voxel = start + pixel * step, in both axes."""

    start_xy: tuple[float, float]
    step_xy: tuple[float, float]
    width: int
    height: int

    def to_index(self, boxes_xyxy: np.ndarray) -> np.ndarray:
        """Map (..., 4) boxes from detector pixels to voxel edges."""
        return np.asarray(boxes_xyxy, float) * np.tile(self.step_xy, 2) + np.tile(self.start_xy, 2)

    def to_detector(self, boxes_xyxy: np.ndarray) -> np.ndarray:
        """Map (..., 4) boxes from voxel edges to detector pixels."""
        return (np.asarray(boxes_xyxy, float) - np.tile(self.start_xy, 2)) / np.tile(self.step_xy, 2)


def body_mask(hu: np.ndarray, spacing_xyz: Sequence[float]) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Find the body in (slice, row, column) HU on a coarse grid: (mask (slice, row, column) bool, stride of that grid in voxels).

    The body is the largest connected part above BODY_HU after an in-plane opening that drops couch and sheets. Without any such
    part everything counts as body.
    """
    import SimpleITK as sitk  # 130 MB, which whoever asks an AlignedExam for its body may do without

    stride = tuple(max(1, round(BODY_GRID_MM / s)) for s in reversed(spacing_xyz))
    coarse = hu[tuple(slice(s // 2, None, s) for s in stride)]
    if not coarse.size:  # thinner than the coarse grid
        stride = tuple(min(s, n) for s, n in zip(stride, hu.shape, strict=True))
        coarse = hu[:: stride[0], :: stride[1], :: stride[2]]
    opened = _grown(~_grown(~(coarse > BODY_HU)))
    labels = sitk.ConnectedComponent(sitk.GetImageFromArray(opened.astype(np.uint8)))
    largest = sitk.RelabelComponent(labels, sortByObjectSize=True) == 1
    mask = sitk.GetArrayFromImage(largest).astype(bool)
    return (mask if mask.any() else np.ones(coarse.shape, bool)), stride


def _grown(mask: np.ndarray) -> np.ndarray:
    """Return a mask (slice, row, column) grown by one pixel in-plane, diagonals included; the border counts as its neighbour."""
    mask = np.pad(mask, ((0, 0), (1, 1), (1, 1)), mode="edge")
    mask = mask[:, :-2] | mask[:, 1:-1] | mask[:, 2:]
    return mask[:, :, :-2] | mask[:, :, 1:-1] | mask[:, :, 2:]


def body_midline(aligned: AlignedExam) -> float:
    """Return the middle of the body's bounding box along x, in voxel edges."""
    mask, stride = aligned.body
    columns = np.flatnonzero(mask.any((0, 1)))
    return float(columns[0] + columns[-1] + 1) / 2 * stride[2]


def detector_transform(aligned: AlignedExam, size: int = DETECTOR_SIZE, multiple: int | None = None) -> DetectorTransform:
    """Return the square in mm around the body, over all slices, that the detector sees as size x size pixels.

    multiple: leave out what lies beside the body as far as both sides stay a multiple of that many pixels.
    """
    mask, stride = aligned.body
    spacing = aligned.grid.spacing_xyz
    centre, extent_mm = [], []
    for axis, (others, step) in enumerate((((0, 1), stride[2]), ((0, 2), stride[1]))):
        found = np.flatnonzero(mask.any(others))
        low, high = found[0] * step, min((found[-1] + 1) * step, aligned.grid.size_xyz[axis])
        centre.append((low + high) / 2)
        extent_mm.append((high - low) * spacing[axis])
    side = max(extent_mm) * BODY_MARGIN
    needed = [size if multiple is None else multiple * math.ceil(one * BODY_MARGIN / side * size / multiple) for one in extent_mm]
    width, height = (min(pixels, size) for pixels in needed)
    step_xy = tuple(float(side / spacing[axis] / size) for axis in (0, 1))
    start = tuple(float(c - pixels * step / 2) for c, pixels, step in zip(centre, (width, height), step_xy, strict=True))
    return DetectorTransform(start, step_xy, width, height)


def detector_images(aligned: AlignedExam, transform: DetectorTransform, slices: range) -> np.ndarray:
    """Return the detector's images of some slices, windowed and resampled: float32 (slice, phase, height, width) in [0, 1]."""
    across = resampling_matrix(aligned.grid.size_xyz[0], transform.start_xy[0], transform.step_xy[0], transform.width)
    down = resampling_matrix(aligned.grid.size_xyz[1], transform.start_xy[1], transform.step_xy[1], transform.height)
    rows, columns = _used(down), _used(across)
    down, across = down[:, rows], np.ascontiguousarray(across[:, columns].T)
    out = np.zeros((len(slices), len(PHASES), transform.height, transform.width), np.float32)
    for p, phase in enumerate(PHASES):
        if aligned.present[p]:
            for n, z in enumerate(slices):
                np.matmul(down @ window(aligned.hu[p, z, rows, columns], phase), across, out=out[n, p])
    return out
