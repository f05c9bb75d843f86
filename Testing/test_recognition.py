"""Hints from words and times, phases from brightness in the order of the bolus, and names that the image contradicts."""

import math

import pytest
from PediatricLiverDxLib.enhancement import Enhancement
from PediatricLiverDxLib.recognition import SURE, contradictions, phases_by_number, phases_from_images, read_hint
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


#: As bright as a late arterial or an early portal venous phase, and as a weak portal venous or a delayed one.
BETWEEN = [Enhancement(212, 97, 118, 148), Enhancement(130, 102, 128, 148)]


def phases_at(*seconds):
    return [phase for phase, _ in phases_from_images(BETWEEN, seconds, [True, True], PHASES, seconds)]


@pytest.mark.parametrize(("interval", "phases"), [(35, ["AP", "PVP"]), (45, ["AP", "PVP"]), (125, ["PVP", "DP"]), (240, ["PVP", "DP"])])
def test_the_interval_tells_what_brightness_does_not(interval, phases):
    assert phases_at(36_007.5, 36_007.5 + interval) == phases


@pytest.mark.parametrize(("interval", "phases"), [(0, ["AP", "PVP"]), (180, ["PVP", "DP"]), (300, ["PVP", "DP"])])
def test_intervals_of_times_cut_to_minutes(interval, phases):
    assert phases_at(36_000, 36_000 + interval) == phases


def test_a_portal_venous_phase_is_expected_but_its_absence_is_seen():
    late = Enhancement(133, 103, 132, 140)
    ((phase, ahead),) = phases_from_images([late], [None], [True], PHASES)
    assert late.log_likelihood("DP") > late.log_likelihood("PVP")
    assert phase == "PVP" and ahead < 0 < SURE, "the image says otherwise, so it is doubted"
    assert phases_from_images([MEASURES["AP"]], [None], [False], PHASES)[0][0] == "AP"


@pytest.mark.parametrize(
    ("numbers", "phases"),
    [
        ([1, 2, 3], ["AP", "PVP", "DP"]),
        ([2, None, 1], ["PVP", None, "AP"]),
        ([3, 3, 3], [None] * 3),
        ([1], [None]),
        ([2, 3], [None] * 2),
        ([1, 1, 2], [None] * 3),
    ],
)
def test_numbers_count_phases_only_where_they_count(numbers, phases):
    assert phases_by_number(numbers) == phases


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
