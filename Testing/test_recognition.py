"""Hints from words and times, phases from brightness in the order of the bolus, and names that the image contradicts."""

import math

import pytest
from PediatricLiverDxLib.enhancement import Enhancement
from PediatricLiverDxLib.recognition import SURE, contradictions, phases_from_images, read_hint
from PediatricLiverDxLib.vocabulary import PHASES

MEASURES = {
    "PC": Enhancement(45, 62, 66, 40),
    "AP": Enhancement(290, 82, 95, 160),
    "PVP": Enhancement(155, 113, 170, 175),
    "DP": Enhancement(118, 96, 116, 145),
}
NOTHING = Enhancement(*[math.nan] * 4)


def test_first_telling_text_wins():
    hint = read_hint([("series description", "Abdomen 5.0"), ("folder name", "venous"), ("protocol name", "arterial")])
    assert (hint.phase, hint.how) == ("PVP", "folder name 'venous'")


def test_delay_speaks_where_words_are_silent():
    assert read_hint([("series description", "Abdomen 5.0")], 35.0).phase == "AP"
    assert read_hint([("series description", "portal")], 35.0).phase == "PVP"


def test_contrast_without_phase_is_kept():
    hint = read_hint([("series description", "Abdomen C+")])
    assert hint.phase is None
    assert hint.enhanced


@pytest.mark.parametrize("order", [PHASES, PHASES[::-1], ("AP", "DP", "PC", "PVP")])
def test_four_volumes_fall_into_place(order):
    found = phases_from_images([MEASURES[p] for p in order], [None] * 4, [False] * 4, PHASES)
    assert tuple(phase for phase, _ in found) == order
    assert min(ahead for _, ahead in found) > SURE


def test_order_of_acquisition_decides_between_like_volumes():
    same = Enhancement(140, 104, 140, 160)
    found = phases_from_images([same, same], [200.0, 70.0], [False, False], PHASES)
    assert PHASES.index(found[0][0]) > PHASES.index(found[1][0])


def test_contrast_given_is_never_pre_contrast():
    assert phases_from_images([MEASURES["PC"]], [None], [True], PHASES)[0][0] != "PC"


def test_more_volumes_than_phases_leave_one_out():
    found = phases_from_images([MEASURES["PC"], MEASURES["PVP"]], [None, None], [False, False], ["PVP"])
    assert [phase for phase, _ in found] == [None, "PVP"]


def test_right_names_are_not_contradicted():
    assert contradictions(dict(MEASURES)) == []


def test_swapped_names_are_reported():
    swapped = {**MEASURES, "PC": MEASURES["AP"], "AP": MEASURES["PC"]}
    (warning,) = contradictions(swapped)
    assert "PC and AP look swapped" in warning
    assert warning.grave


def test_unenhanced_arterial_phase_is_reported():
    (warning,) = contradictions({"AP": MEASURES["PC"]})
    assert "looks unenhanced" in warning
    assert warning.grave


def test_unmeasured_volumes_contradict_nothing():
    assert contradictions({"PC": NOTHING, "AP": NOTHING}) == []
