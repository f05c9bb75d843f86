"""Phase-wise K-slice Cartesian product (PKCP, arXiv 2511.19478): which slices make a composite, what is its box, what is an exam's mean.

A composite is a 4-channel image of one of an exam's K slices from every phase. Minority classes give every choice, K^4 = 81 composites an
exam; majority classes only the depth-matched choices, K = 3. The box of a composite is the smallest that encloses the four slices' boxes.
What is said of an exam is the mean over its composites.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import product

import numpy as np
from PediatricLiverDxLib.vocabulary import PHASES, K

#: Classes that the paper expands to all composites.
MINORITY = ("OBHT", "OMHT")


def depth_matched_choices(k: int = K, phases: int = len(PHASES)) -> tuple[tuple[int, ...], ...]:
    """Return the k choices that take the same place in every phase."""
    return tuple((place,) * phases for place in range(k))


def all_choices(k: int = K, phases: int = len(PHASES)) -> tuple[tuple[int, ...], ...]:
    """Return all k ** phases choices of a place per phase, the last phase running fastest."""
    return tuple(product(range(k), repeat=phases))


def choices_of(class_name: str, expanded: Collection[str] = MINORITY) -> tuple[tuple[int, ...], ...]:
    """Return the choices that an exam of a class gives."""
    return all_choices() if class_name in expanded else depth_matched_choices()


def enclosing_box(boxes: np.ndarray) -> tuple[float, float, float, float]:
    """Return the smallest box around (n, 4) boxes (x0, y0, x1, y1)."""
    boxes = np.asarray(boxes, float)
    return (*boxes[:, :2].min(0).tolist(), *boxes[:, 2:].max(0).tolist())


def mean_over_composites(values: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average (n, ...) float values of composites by what each shows, its exam or one of an exam's lesions.

    shown: (n,) a number or name for each composite. Returns these once each in ascending order, and their means in the values' own type.
    """
    names, place = np.unique(shown, return_inverse=True)
    sums = np.zeros((len(names), *np.shape(values)[1:]), np.asarray(values).dtype)
    np.add.at(sums, place, values)
    counts = np.bincount(place, minlength=len(names)).astype(sums.dtype)
    return names, sums / counts.reshape(-1, *(1,) * (sums.ndim - 1))
