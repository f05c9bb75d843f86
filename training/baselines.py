"""What must not be enough: logistic regression on a lesion's mean HU in the phases, its diameter, the child's age."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PediatricLiverDxLib.vocabulary import PHASES
from PediatricLiverDxLib.volumes import AlignedExam

from .cache import CROP_SIZE, FRACTIONS, CachedExam, crop, crop_place
from .truth import Lesion

_DIAMETER, _AGE = 2 * len(PHASES), 2 * len(PHASES) + 1

#: Name of each baseline -> its columns in a row of features (mean HU by phase, phase present, diameter, age).
BASELINES: Mapping[str, tuple[int, ...]] = {
    "mean HU of the lesion's box in four phases": tuple(range(2 * len(PHASES))),
    "diameter": (_DIAMETER,),
    "age": (_AGE,),
    "diameter and age": (_DIAMETER, _AGE),
    "mean HU, diameter and age": tuple(range(_AGE + 1)),
}


def lesion_features(aligned: AlignedExam, lesion: Lesion) -> dict[str, Any]:
    """Return {"mean_hu": by phase or None, "diameter_mm"} of a lesion's box."""
    place = crop_place(aligned, lesion)
    box = np.array(lesion.box)[[0, 1, 3, 4]]
    spacing = np.array(aligned.grid.spacing_xyz[:2])
    return _features(crop(aligned, lesion, place), box, np.array(place[0]), place[1], spacing, aligned.present)


def cached_features(exam: CachedExam) -> dict[str, Any]:
    """Return the same of a cached exam's largest lesion."""
    lesion = exam.lesions[0]
    return _features(exam.crops[0], lesion.box[[0, 1, 3, 4]], lesion.origin, lesion.step, exam.spacing_xy, exam.present)


def baseline_scores(
    train: Sequence[tuple[dict[str, Any], float | None]], malignant: np.ndarray, test: Sequence[tuple[dict[str, Any], float | None]]
) -> dict[str, np.ndarray]:
    """Fit each baseline on (features, age) of training exams and return its probability of malignant for each test exam."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    known, new = _table(train), _table(test)
    # what is missing takes the training mean; that it is missing is a column of its own
    there = ~np.isnan(known)
    means = np.where(there, known, 0).sum(0) / np.maximum(there.sum(0), 1)
    known, new = (np.where(np.isnan(table), means, table) for table in (known, new))
    scores = {}
    for name, columns in BASELINES.items():
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(known[:, columns], malignant)
        scores[name] = model.predict_proba(new[:, columns])[:, 1]
    return scores


def _features(crops: np.ndarray, box: np.ndarray, origin: np.ndarray, step: float, spacing: np.ndarray, present: Sequence[bool]) -> dict:
    edges = np.clip(np.rint((box.reshape(2, 2) - origin) / step).astype(int), 0, CROP_SIZE)
    (x0, y0), (x1, y1) = edges[0], np.maximum(edges[1], edges[0] + 1)
    inside = crops[(FRACTIONS > 0) & (FRACTIONS < 1), :, y0:y1, x0:x1]
    means = inside.astype(float).mean((0, 2, 3))
    return {
        "mean_hu": [round(float(mean), 2) if there else None for mean, there in zip(means, present, strict=True)],
        "diameter_mm": round(float(((box[2:] - box[:2]) * spacing).max()), 2),
    }


def _table(rows: Sequence[tuple[dict[str, Any], float | None]]) -> np.ndarray:
    return np.array([
        [
            *(np.nan if value is None else value for value in features["mean_hu"]),
            *(float(value is not None) for value in features["mean_hu"]),
            features["diameter_mm"], np.nan if age is None else age,
        ]
        for features, age in rows
    ], float)
