"""Phase-wise K-slice Cartesian product (PKCP, arXiv 2511.19478): an exam's slices per phase in, 4-channel composites out.

A composite takes one of an exam's K slices from every phase. Minority classes give every choice, K^4 = 81 composites an exam; majority
classes only the depth-matched choices, K = 3. The box of a composite is the smallest that encloses the four slices' boxes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from PediatricLiverDxLib.vocabulary import PHASES, K

#: Classes that the paper expands to all composites.
MINORITY = ("OBHT", "OMHT")


@dataclass(frozen=True)
class Composite:
    """One slice per phase: `choice` their places among the K, `image` (phase, row, column), `box` (x0, y0, x1, y1) in pixel edges."""

    choice: tuple[int, ...]
    image: np.ndarray
    box: tuple[float, float, float, float]


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


def expand(slices: np.ndarray, boxes: np.ndarray, class_name: str, expanded: Collection[str] = MINORITY) -> Iterator[Composite]:
    """Yield an exam's composites.

    slices: (phase, place, row, column), the K slices of each phase. boxes: (phase, place, 4), the lesion's box in each of them.
    """
    phases = np.arange(slices.shape[0])
    for choice in choices_of(class_name, expanded):
        places = np.array(choice)
        yield Composite(choice, slices[phases, places], enclosing_box(boxes[phases, places]))


def mean_over_composites(values: np.ndarray, exam: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average (n, ...) values of composites by exam: (exams in ascending order, (exams, ...) means)."""
    exams, place = np.unique(exam, return_inverse=True)
    sums = np.zeros((len(exams), *np.shape(values)[1:]))
    np.add.at(sums, place, values)
    counts = np.bincount(place).reshape(-1, *(1,) * (np.ndim(values) - 1))
    return exams, sums / counts
