"""PKCP expands exams as the paper says."""

from __future__ import annotations

import numpy as np
import pytest
from PediatricLiverDxLib.vocabulary import CLASSES

from training.pkcp import all_choices, choices_of, depth_matched_choices, enclosing_box, expand, mean_over_composites


def drawn_exam(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Slices whose pixels say which phase and place they are: 10 * phase + place; random boxes."""
    slices = (10 * np.arange(4)[:, None, None, None] + np.arange(3)[None, :, None, None]) * np.ones((1, 1, 5, 6))
    low = rng.uniform(0, 50, (4, 3, 2))
    return slices, np.concatenate([low, low + rng.uniform(1, 50, (4, 3, 2))], -1)


@pytest.mark.parametrize(("class_name", "count"), [("HH", 3), ("HB", 3), ("OBHT", 81), ("OMHT", 81)])
def test_minority_gives_81_composites_and_majority_3(class_name: str, count: int):
    slices, boxes = drawn_exam(np.random.default_rng(0))
    composites = list(expand(slices, boxes, class_name))
    assert len(composites) == count
    assert len({composite.choice for composite in composites}) == count


def test_without_rebalancing_every_class_gives_3():
    assert {len(choices_of(name, ())) for name in CLASSES} == {3}


def test_majority_composites_are_depth_matched():
    assert depth_matched_choices() == ((0, 0, 0, 0), (1, 1, 1, 1), (2, 2, 2, 2))
    assert set(depth_matched_choices()) < set(all_choices())


def test_each_channel_is_the_chosen_slice_of_its_phase():
    slices, boxes = drawn_exam(np.random.default_rng(1))
    for composite in expand(slices, boxes, "OMHT"):
        assert [channel[0, 0] for channel in composite.image] == [10 * phase + place for phase, place in enumerate(composite.choice)]


def test_box_encloses_the_four_boxes_and_no_more():
    slices, boxes = drawn_exam(np.random.default_rng(2))
    for composite in expand(slices, boxes, "OBHT"):
        four = boxes[np.arange(4), composite.choice]
        assert composite.box == (four[:, 0].min(), four[:, 1].min(), four[:, 2].max(), four[:, 3].max())
    assert enclosing_box(np.array([[1, 2, 3, 4], [0, 3, 2, 9]])) == (0, 2, 3, 9)


def test_an_exams_prediction_is_the_mean_over_its_composites():
    values = np.array([[1.0, 0.0], [3.0, 0.0], [10.0, 2.0]])
    exams, means = mean_over_composites(values, np.array([7, 7, 2]))
    assert exams.tolist() == [2, 7]
    np.testing.assert_allclose(means, [[10, 2], [2, 0]])
