"""Words: probabilities are never certainties, verdicts and contributions say what the numbers say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from example_diagnosis import example_aligned, example_diagnosis
from PediatricLiverDxLib import wording
from PediatricLiverDxLib.attribution import PhaseShapley
from PediatricLiverDxLib.gate import VERDICTS


@pytest.mark.parametrize(
    ("probability", "words"),
    [(0.934, "93 %"), (0.995, "> 99 %"), (1.0, "> 99 %"), (0.99, "99 %"), (0.004, "< 1 %"), (0.0, "< 1 %"), (0.5, "50 %")],
)
def test_percent(probability, words):
    assert wording.percent(probability) == words


@pytest.mark.parametrize(("difference", "words"), [(0.312, "+31"), (-0.04, "−4"), (0.004, "0"), (-0.004, "0")])
def test_points(difference, words):
    assert wording.points(difference) == words


def test_verdict_names_side_and_class():
    first, second = example_diagnosis(example_aligned(), 2).lesions
    assert wording.verdict(first) == "Probably malignant (93 %), most likely hepatoblastoma (90 %)."
    assert wording.verdict(second) == "Probably benign (88 %), most likely hepatic hemangioma (57 %)."
    assert wording.lesion_name(first) == "Lesion 1"


@pytest.mark.parametrize(
    ("malignant", "words"),
    [
        (0.97, "Very probably malignant (97 %), most likely another malignant tumour"),
        (0.7, "More likely malignant than benign (70 %), most likely"),
        (0.35, "More likely benign than malignant (65 %), most likely"),
        (0.5, "Undecided, slightly more likely malignant (50 %), most likely"),
        (0.001, "Very probably benign (> 99 %), most likely"),
    ],
)
def test_verdict_says_how_sure(malignant, words):
    lesion = replace(example_diagnosis(example_aligned(), 1).lesions[0], malignant_probability=malignant, decision="OMHT")
    assert wording.verdict(lesion).startswith(words)


@pytest.mark.parametrize(
    ("values", "of", "sentence"),
    [
        (
            {"PC": 0.03, "AP": 0.3, "PVP": -0.05, "DP": 0.2},
            "malignant",
            "The arterial phase speaks most, for malignancy; the portal venous phase speaks against it.",
        ),
        (
            {"PC": 0.0, "AP": -0.2, "PVP": -0.1, "DP": 0.01},
            "malignant",
            "The arterial phase speaks most, for a benign lesion; no phase clearly speaks against it.",
        ),
        (
            {"PC": 0.05, "AP": 0.1, "PVP": -0.4, "DP": 0.02},
            "HB",
            "The portal venous phase speaks most, for another malignant tumour; "
            "the pre-contrast, arterial and delayed phases speak against it.",
        ),
        ({"PVP": 0.4}, "HH", "Only the portal venous phase was acquired; it speaks for hepatic hemangioma."),
        ({"AP": 0.004, "DP": -0.003}, "malignant", "No phase moves the probability of malignancy by as much as half a percentage point."),
    ],
)
def test_contribution(values, of, sentence):
    assert wording.contribution(PhaseShapley(of, 0.4, 0.4 + sum(values.values()), values)) == sentence


def test_every_verdict_has_a_title():
    assert set(wording.GATE_TITLES) == set(VERDICTS)
