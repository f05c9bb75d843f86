"""Average precision of boxes on images, at one overlap: the area under precision over recall, with precision made monotonous."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PediatricLiverDxLib.detection import overlap


def average_precision(predictions: Sequence[np.ndarray], truths: Sequence[np.ndarray], iou: float = 0.40) -> float:
    """Return the average precision over all images (all-points interpolation, as COCO and Ultralytics at one overlap).

    predictions: per image (m, 5) x0, y0, x1, y1, score. truths: per image (t, 4). A prediction is right when it overlaps a truth that no
    better prediction has taken by at least `iou`. Returns nan without any truth.
    """
    n_truths = sum(len(truth) for truth in truths)
    if not n_truths:
        return float("nan")
    scores, right = [], []
    for found, truth in zip(predictions, truths, strict=True):
        taken: set[int] = set()
        found = found[np.argsort(-found[:, 4], kind="stable")]
        overlaps = overlap(found[:, :4], np.asarray(truth, float).reshape(-1, 4)) if len(truth) else np.zeros((len(found), 0))
        for row, score in enumerate(found[:, 4]):
            candidates = [(value, column) for column, value in enumerate(overlaps[row]) if value >= iou and column not in taken]
            if candidates:
                taken.add(max(candidates)[1])
            scores.append(score)
            right.append(bool(candidates))
    if not scores:
        return 0.0
    order = np.argsort(-np.array(scores), kind="stable")
    hits = np.cumsum(np.array(right)[order])
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    recall = hits / n_truths
    return float(np.sum(np.diff(np.concatenate([[0.0], recall])) * precision))
