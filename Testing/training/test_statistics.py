"""Figures agree with scikit-learn, and intervals with theory."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from training.statistics import auc, auc_with_interval, bootstrap_interval, calibration_error


def test_auc_equals_scikit_learn_with_ties():
    rng = np.random.default_rng(0)
    for _ in range(20):
        positive, score = rng.random(50) < 0.4, rng.integers(0, 8, 50)
        assert auc(positive, score) == pytest.approx(roc_auc_score(positive, score))


def test_auc_without_a_side_is_nan():
    assert np.isnan(auc(np.ones(3, bool), np.arange(3)))


def test_interval_of_a_mean_is_that_of_theory():
    values = np.random.default_rng(1).normal(0, 1, 400)
    low, high = bootstrap_interval(lambda rows: float(values[rows].mean()), np.arange(400)).bounds
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_exams_of_one_patient_are_drawn_together():
    # ten copies of each of 40 patients tell no more than one of each
    values = np.repeat(np.random.default_rng(2).normal(0, 1, 40), 10)
    patients = np.repeat(np.arange(40), 10)
    by_patient = np.diff(bootstrap_interval(lambda rows: float(values[rows].mean()), patients).bounds)
    by_exam = np.diff(bootstrap_interval(lambda rows: float(values[rows].mean()), np.arange(400)).bounds)
    assert by_patient > 2.5 * by_exam


def test_figure_says_how_many_patients():
    patients = np.repeat(np.arange(20), 2)
    found = auc_with_interval(patients >= 10, patients, patients, draws=50)
    assert found == {"auc": 1.0, "ci95": [1.0, 1.0], "valid_draws": 50, "n": 40, "patients": 20, "positive": 20}


def test_draws_without_a_side_are_counted_and_too_many_of_them_give_no_interval():
    # one malignant patient of three is missing from 8 draws in 27
    found = auc_with_interval(np.array([0, 0, 1]), np.array([1, 2, 3]), np.array(["a", "b", "c"]), draws=500)
    assert found["auc"] == 1.0 and found["ci95"] is None
    assert found["valid_draws"] < 400


def test_one_side_alone_has_no_figure():
    found = auc_with_interval(np.ones(3, bool), np.arange(3), np.arange(3), draws=20)
    assert (found["auc"], found["ci95"], found["valid_draws"]) == (None, None, 0)


def test_calibration_error_of_a_calibrated_and_of_a_certain_score():
    rng = np.random.default_rng(3)
    probability = rng.random(20_000)
    positive = rng.random(20_000) < probability
    assert calibration_error(positive, probability) < 0.02
    assert calibration_error(positive, np.ones(20_000)) == pytest.approx(0.5, abs=0.02)
