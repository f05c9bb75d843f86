"""Why the networks said so: a phase's exact Shapley value, and class activation maps from the last feature maps of the same batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .classification import CoalitionOutputs, outcome_head, sigmoid, subtype_head
from .composites import composite_slices_of, crop_square, resampling_matrix

if TYPE_CHECKING:
    from .rois import Roi
    from .volumes import Grid


@dataclass(frozen=True)
class PhaseShapley:
    """Hold what each phase adds to one output.

    of: what the output is: "malignant", or a class such as "HB".
    baseline: output without any phase. total: output with every phase that the exam has.
    values: phase -> Shapley value, for the phases that the exam has; baseline + sum(values) = total.
    """

    of: str
    baseline: float
    total: float
    values: Mapping[str, float]


@dataclass(frozen=True)
class CamVolume:
    """Hold a class activation map on the part of the reference grid that a lesion's box covers.

    array: float32 (slice, row, column) in [0, 1]. start_xyz: index of its first voxel on the reference grid.
    """

    array: np.ndarray
    start_xyz: tuple[int, int, int]


def phase_shapley(phases: Sequence[str], values: np.ndarray, of: str) -> PhaseShapley:
    """Return the exact Shapley values of the phases.

    phi_i = sum over S without i of |S|! (p - |S| - 1)! / p! (v(S + i) - v(S))  (Shapley 1953), over all 2^p coalitions.

    phases: the p players. values: (2^p,) the output v of each coalition, index = bit mask over the players. of: name of the output.
    """
    p, values = len(phases), np.asarray(values, float)
    masks = np.arange(2**p)
    sizes = np.array([int(mask).bit_count() for mask in masks])
    weights = np.array([math.factorial(s) * math.factorial(p - s - 1) / math.factorial(p) if s < p else 0.0 for s in sizes])
    phi = {}
    for bit, phase in enumerate(phases):
        without = masks[(masks >> bit & 1) == 0]
        phi[phase] = float(np.sum(weights[without] * (values[without | 1 << bit] - values[without])))
    return PhaseShapley(of, float(values[0]), float(values[-1]), phi)


def lesion_shapley(outputs: CoalitionOutputs, decision: str) -> dict[str, PhaseShapley]:
    """Return the phases' Shapley values of a lesion's two outputs, both calibrated ensemble probabilities.

    "stage1": of malignant. "stage2": of the decided class given its side.
    """
    ensemble = outputs.ensemble
    head, sign = subtype_head(decision)
    return {
        "stage1": phase_shapley(outputs.phases, sigmoid(ensemble[:, 0]), "malignant"),
        "stage2": phase_shapley(outputs.phases, sigmoid(sign * ensemble[:, head]), decision),
    }


def class_activation(feature_map: np.ndarray, weight: np.ndarray, sign: float) -> np.ndarray:
    """Return Grad-CAM at the last feature map, float32 (slice, row, column) >= 0.

    ReLU(sum_c alpha_c F_c), alpha_c = mean over the map of d logit / d F_c (Selvaraju et al., ICCV 2017). A head of mean pooling and one
    linear layer makes alpha_c = weight_c / (h w), so no backward pass is needed.

    feature_map: (slice, channel, row, column). weight: (channel,) of the head. sign: -1 for the class on the logit's negative side.
    """
    alpha = sign * np.asarray(weight, np.float32) / np.float32(np.prod(feature_map.shape[2:]))
    return np.maximum(np.einsum("c,schw->shw", alpha, feature_map, optimize=True), 0)


def lesion_cam(outputs: CoalitionOutputs, weights: Mapping[str, np.ndarray], of: str, inside: np.ndarray) -> np.ndarray:
    """Return the ensemble's activation map of an outcome on the composites, float32 (slice, size, size) in [0, 1].

    Each backbone's map (of the logit that tells the outcome, with its sign) is enlarged linearly, divided by its largest value inside the
    box over the slices, and the backbones are averaged by their shares in that logit. What lies on the masked surround is no part of the
    patient, and is 0. All of it is 0 where nothing speaks for the outcome.

    of: "malignant", "benign" or one of CLASSES; a class stands against the other one of its side. inside: bool (size, size),
    composites.inside_box.
    """
    size, (head, sign) = len(inside), outcome_head(of)
    total = np.zeros((1, size, size), np.float32)
    for backbone, share in zip(outputs.backbones, outputs.shares[:, head], strict=True):
        feature_map = outputs.feature_maps[backbone]
        cam = class_activation(feature_map, weights[backbone][head], sign)
        height, width = cam.shape[1:]
        cam = resampling_matrix(height, 0, height / size, size) @ cam @ resampling_matrix(width, 0, width / size, size).T * inside
        total = total + np.float32(share) * cam / max(float(cam.max()), 1e-12)
    return np.clip(total, 0, 1)


def cam_volume(cam_slices: np.ndarray, roi: Roi, grid: Grid) -> CamVolume:
    """Put a lesion's activation maps back into the volume, over the voxels of its box.

    In-plane the composites' crop is undone linearly. Along the slices, the map goes over linearly from one of the three slices to the next;
    before the lowest and beyond the highest it stays as it is there. Outside the Roi it is not defined, so the volume ends there.
    """
    box = roi.clamp_to(grid)[0].index_box(grid)
    n_slices = grid.size_xyz[2]
    low = [min(int(np.floor(v + 1e-6)), n - 1) for v, n in zip(box[:3], grid.size_xyz, strict=True)]
    high = [max(min(int(np.ceil(v - 1e-6)), n), start + 1) for v, n, start in zip(box[3:], grid.size_xyz, low, strict=True)]
    size = cam_slices.shape[-1]
    start, step = crop_square((box[0], box[1], box[3], box[4]), grid.spacing_xyz[:2], size)
    across, down = (
        resampling_matrix(size, (low[axis] - start[axis]) / step[axis], 1 / step[axis], high[axis] - low[axis], hold_edges=True)
        for axis in (0, 1)
    )
    planes = down @ cam_slices @ across.T
    # in a thin lesion two or three of the slices are the same one
    known, first = np.unique(composite_slices_of(box, n_slices), return_index=True)
    between = np.interp(np.arange(low[2], high[2]), known, np.arange(len(known)))
    lower = np.minimum(between.astype(int), max(len(known) - 2, 0))
    upper = np.minimum(lower + 1, len(known) - 1)
    part = (between - lower)[:, None, None].astype(np.float32)
    blended = planes[first[lower]] * (1 - part) + planes[first[upper]] * part
    return CamVolume(np.clip(blended, 0, 1).astype(np.float32), (low[0], low[1], low[2]))
