"""Which detected lesion is which true one: 3D boxes in voxel edges, matched greedily by overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PediatricLiverDxLib.rois import IndexBox

#: A detection finds a lesion when their boxes' 3D intersection over union is at least this.
HIT_IOU = 0.25


@dataclass(frozen=True)
class Matching:
    """For each truth the place of its detection or None; and how many detections found nothing."""

    detections: tuple[int | None, ...]
    false_positives: int


def box_iou_3d(one: IndexBox, other: IndexBox) -> float:
    """Return the intersection over union of two boxes (x0, y0, z0, x1, y1, z1)."""
    one, other = np.asarray(one, float), np.asarray(other, float)
    shared = np.clip(np.minimum(one[3:], other[3:]) - np.maximum(one[:3], other[:3]), 0, None).prod()
    union = (one[3:] - one[:3]).prod() + (other[3:] - other[:3]).prod() - shared
    return float(shared / union) if union > 0 else 0.0


def longest_side_mm(box: IndexBox, spacing_xyz: Sequence[float]) -> float:
    """Return a box's longest side in mm."""
    return float((np.subtract(box[3:], box[:3]) * np.asarray(spacing_xyz)).max())


def match(truths: Sequence[IndexBox], detections: Sequence[IndexBox], iou: float = HIT_IOU) -> Matching:
    """Match each truth to at most one detection and the reverse, largest overlap first."""
    overlaps = np.array([[box_iou_3d(truth, found) for found in detections] for truth in truths]).reshape(len(truths), len(detections))
    result: list[int | None] = [None] * len(truths)
    while overlaps.size and overlaps.max() >= iou:
        row, column = np.unravel_index(overlaps.argmax(), overlaps.shape)
        result[row] = int(column)
        overlaps[row], overlaps[:, column] = -1, -1
    return Matching(tuple(result), len(detections) - sum(place is not None for place in result))
