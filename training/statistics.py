"""Figures with their uncertainty: areas under the ROC curve, bootstrap intervals over patients, calibration error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

#: With a smaller share of draws in which the figure exists, those that are left would not stand for the cohort.
FEWEST_VALID = 0.95


@dataclass(frozen=True)
class Interval:
    """A bootstrap interval: its bounds, None where too few draws were valid, and how many of the draws were."""

    bounds: tuple[float, float] | None
    draws: int
    valid: int


def auc(positive: np.ndarray, score: np.ndarray) -> float:
    """Return the area under the ROC curve (Mann-Whitney, ties count one half); nan when a side is empty.

    positive: (n,) bool. score: (n,), higher means more positive.
    """
    positive = np.asarray(positive, bool)
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return float("nan")
    _, place, counts = np.unique(np.asarray(score, float), return_inverse=True, return_counts=True)
    rank_of_value = np.cumsum(counts) - (counts - 1) / 2
    return float((rank_of_value[place][positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def bootstrap_interval(
    statistic: Callable[[np.ndarray], float], patients: np.ndarray, *, draws: int = 2000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Return the percentile interval of `statistic` when patients, not exams, are drawn with replacement.

    statistic: takes the rows (indexes into `patients`, repeats included) of one draw and returns a number, nan where that draw has none
    (an area under the curve without a positive exam). Below a share of FEWEST_VALID numbers there is no interval.
    patients: (n,) patient of each row.
    """
    if not len(patients):
        return Interval(None, draws, 0)
    _, owner = np.unique(np.asarray(patients), return_inverse=True)
    rows_of = np.split(np.argsort(owner, kind="stable"), np.cumsum(np.bincount(owner))[:-1])
    rng = np.random.default_rng(seed)
    values = np.array([
        statistic(np.concatenate([rows_of[patient] for patient in rng.integers(len(rows_of), size=len(rows_of))])) for _ in range(draws)
    ])
    values = values[np.isfinite(values)]
    if len(values) < FEWEST_VALID * draws:
        return Interval(None, draws, len(values))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval((float(low), float(high)), draws, len(values))


def auc_with_interval(positive: np.ndarray, score: np.ndarray, patients: np.ndarray, *, draws: int = 2000, seed: int = 0) -> dict:
    """Return {"auc", "ci95", "valid_draws", "n", "patients", "positive"} with a patient-level bootstrap interval.

    auc and ci95 are None where there is none: a side without exams, or too few draws that have both sides.
    """
    positive, score, patients = np.asarray(positive, bool), np.asarray(score, float), np.asarray(patients)
    found = auc(positive, score)
    interval = bootstrap_interval(lambda rows: auc(positive[rows], score[rows]), patients, draws=draws, seed=seed)
    return {
        "auc": found if np.isfinite(found) else None,
        "ci95": list(interval.bounds) if interval.bounds else None,
        "valid_draws": interval.valid,
        "n": len(score),
        "patients": len(np.unique(patients)),
        "positive": int(positive.sum()),
    }


def calibration_error(positive: np.ndarray, probability: np.ndarray, bins: int = 10) -> float:
    """Return the expected calibration error: |mean probability - share of positives| over equally filled bins, weighted by size."""
    positive, probability = np.asarray(positive, float), np.asarray(probability, float)
    if not len(positive):
        return float("nan")
    parts = np.array_split(np.argsort(probability, kind="stable"), min(bins, len(positive)))
    return float(sum(len(part) * abs(probability[part].mean() - positive[part].mean()) for part in parts) / len(positive))
