"""Why the networks said so: a phase's exact Shapley value, and class activation maps from the last feature maps of the same batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


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
