"""Average precision and 3D matching count as they say."""

from __future__ import annotations

import numpy as np
import pytest
from PediatricLiverDxLib.detection import LinkParameters

from training.average_precision import average_precision
from training.lesion_matching import box_iou_3d, match
from training.tuning import ExamBoxes, choose_link

TRUTH = np.array([[10.0, 10, 30, 30]])


def test_right_boxes_score_one_and_none_scores_zero():
    right = np.array([[10.0, 10, 30, 30, 0.9]])
    assert average_precision([right, right], [TRUTH, TRUTH]) == 1
    assert average_precision([np.zeros((0, 5)), np.zeros((0, 5))], [TRUTH, TRUTH]) == 0
    assert np.isnan(average_precision([right], [np.zeros((0, 4))]))


def test_a_false_box_above_costs_and_below_does_not():
    right, false = [10.0, 10, 30, 30, 0.5], [50.0, 50, 60, 60]
    assert average_precision([np.array([right, [*false, 0.9]])], [TRUTH]) == pytest.approx(0.5)
    assert average_precision([np.array([right, [*false, 0.1]])], [TRUTH]) == pytest.approx(1)


def test_a_second_box_on_the_same_lesion_is_false():
    twice = np.array([[10.0, 10, 30, 30, 0.9], [10, 10, 30, 29, 0.8]])
    both = np.array([[10.0, 10, 30, 30], [60, 60, 80, 80]])
    assert average_precision([twice], [both]) == pytest.approx(0.5)


def test_overlap_decides_at_the_given_value():
    half = np.array([[10.0, 10, 30, 20, 0.9]])
    assert average_precision([half], [TRUTH], iou=0.5) == 1
    assert average_precision([half], [TRUTH], iou=0.51) == 0


def test_matching_in_3d_takes_the_largest_overlap_first():
    truths = [(0, 0, 0, 10, 10, 10), (20, 0, 0, 30, 10, 10)]
    found = [(0, 0, 0, 10, 10, 8), (0, 0, 0, 10, 10, 10), (50, 50, 50, 60, 60, 60)]
    matching = match(truths, found)
    assert matching.detections == (1, None)
    assert matching.false_positives == 2
    assert box_iou_3d(truths[0], found[0]) == pytest.approx(0.8)
    assert match([], found).false_positives == 3


def test_chosen_link_drops_weak_false_boxes():
    lesion, noise = [10.0, 10, 20, 20], [40.0, 40, 50, 50]
    slices = tuple(
        np.array([[*lesion, 0.8], [*noise, 0.25]]) if 3 <= z < 9 else np.array([[*noise, 0.25]]) for z in range(12)
    )
    exam = ExamBoxes(slices, (1.0, 1.0, 3.0), ((10, 10, 3, 20, 20, 9),))
    choice = choose_link([exam, exam])
    assert choice.sensitivity == 1 and choice.false_positives_per_exam == 0
    assert isinstance(choice.link, LinkParameters)


@pytest.mark.parametrize(("noisy", "weak", "found"), [(20, 1, True), (30, 1, False), (20, 0, False), (45, 3, False)])
def test_more_false_lesions_must_find_enough_more(noisy: int, weak: int, found: bool):
    """Of fifty exams' lesions `weak` are no stronger than false ones in `noisy` exams; one of fifty is worth 0.5 false ones an exam."""
    box, noise = [10.0, 10, 20, 20], [40.0, 40, 50, 50]
    exams = []
    for n in range(50):
        strong = np.array([[*box, 0.8 if n >= weak else 0.32]])
        slices = [np.concatenate([strong, [[*noise, 0.32]]]) if n < noisy else strong for _ in range(6)]
        exams.append(ExamBoxes(tuple(slices), (1.0, 1.0, 3.0), ((10, 10, 0, 20, 20, 6),)))
    choice = choose_link(exams)
    assert (choice.false_positives_per_exam > 0) is found
