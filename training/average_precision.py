"""Average precision of boxes on images, at one overlap: the area under precision over recall, with precision made monotonous."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PediatricLiverDxLib.detection import overlap


@dataclass(frozen=True)
class ImageMatches:
    """What one image adds: its predictions' scores, whether each is right, and the number of its truths."""

    scores: np.ndarray
    right: np.ndarray
    truths: int


def match_image(found: np.ndarray, truth: np.ndarray, iou: float) -> ImageMatches:
    """Match predictions (m, 5) x0, y0, x1, y1, score with truths (t, 4).

    A prediction is right when it overlaps a truth that no better prediction has taken by at least `iou`.
    """
    found, truth = np.asarray(found, float).reshape(-1, 5), np.asarray(truth, float).reshape(-1, 4)
    found = found[np.argsort(-found[:, 4], kind="stable")]
    overlaps = overlap(found[:, :4], truth) if len(truth) and len(found) else np.zeros((len(found), len(truth)))
    right = np.zeros(len(found), bool)
    for row in range(len(found)):
        if len(truth) and overlaps[row].max() >= iou:
            right[row] = True
            overlaps[:, overlaps[row].argmax()] = -1
    return ImageMatches(found[:, 4], right, len(truth))


def precision_area(images: Sequence[ImageMatches]) -> float:
    """Return the average precision over matched images (all-points interpolation); nan without any truth."""
    n_truths = sum(image.truths for image in images)
    if not n_truths:
        return float("nan")
    scores, right = np.concatenate([image.scores for image in images]), np.concatenate([image.right for image in images])
    if not len(scores):
        return 0.0
    hits = np.cumsum(right[np.argsort(-scores, kind="stable")])
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    return float(np.sum(np.diff(np.concatenate([[0.0], hits / n_truths])) * precision))


def average_precision(predictions: Sequence[np.ndarray], truths: Sequence[np.ndarray], iou: float = 0.40) -> float:
    """Return the average precision of predictions (m, 5) against truths (t, 4), one of each per image."""
    return precision_area([match_image(found, truth, iou) for found, truth in zip(predictions, truths, strict=True)])
