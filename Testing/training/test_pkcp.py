"""PKCP chooses, encloses and averages as the paper says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PediatricLiverDxLib.vocabulary import CLASSES

from training.cache import build_cache
from training.classifiers import predict
from training.cohort import read_exams_csv
from training.configuration import CacheSettings
from training.pkcp import all_choices, choices_of, depth_matched_choices, enclosing_box, mean_over_composites


@pytest.mark.parametrize(("class_name", "count"), [("HH", 3), ("HB", 3), ("OBHT", 81), ("OMHT", 81)])
def test_minority_gives_81_composites_and_majority_3(class_name: str, count: int):
    choices = choices_of(class_name)
    assert len(choices) == len(set(choices)) == count
    assert {len(choice) for choice in choices} == {4} and {place for choice in choices for place in choice} == {0, 1, 2}


def test_without_rebalancing_every_class_gives_3():
    assert {len(choices_of(name, ())) for name in CLASSES} == {3}


def test_majority_composites_are_depth_matched():
    assert depth_matched_choices() == ((0, 0, 0, 0), (1, 1, 1, 1), (2, 2, 2, 2))
    assert set(depth_matched_choices()) < set(all_choices())


def test_box_encloses_the_boxes_of_the_chosen_slices_and_no_more():
    rng = np.random.default_rng(2)
    low = rng.uniform(0, 50, (4, 3, 2))
    boxes = np.concatenate([low, low + rng.uniform(1, 50, (4, 3, 2))], -1)
    for choice in choices_of("OBHT"):
        four = boxes[np.arange(4), choice]
        assert enclosing_box(four) == (four[:, 0].min(), four[:, 1].min(), four[:, 2].max(), four[:, 3].max())
    assert enclosing_box(np.array([[1, 2, 3, 4], [0, 3, 2, 9]])) == (0, 2, 3, 9)


def test_an_exams_prediction_is_the_mean_over_its_composites():
    values = np.array([[1.0, 0.0], [3.0, 0.0], [10.0, 2.0]])
    exams, means = mean_over_composites(values, np.array([7, 7, 2]))
    assert exams.tolist() == [2, 7]
    np.testing.assert_allclose(means, [[10, 2], [2, 0]])
    assert mean_over_composites(values.astype(np.float32), np.array([7, 7, 2]))[1].dtype == np.float32


def test_a_validation_lesions_logits_are_the_mean_over_its_composites(exams_csv: Path, tmp_path: Path):
    """Whatever the batch: two lesions an exam, one of them cut off from the other by a batch's end."""
    exams = build_cache(read_exams_csv(exams_csv)[1:6:2], tmp_path, CacheSettings(align_share=0.0))
    network = OfPixels()
    found = predict(network, exams, batch=9)
    expected = [network(torch.from_numpy(one / 255).float())[1].mean(0).numpy() for exam in exams for one in exam.composites]
    assert len(expected) == sum(len(exam.lesions) for exam in exams) > 3
    np.testing.assert_allclose(found.logits, expected, rtol=1e-5, atol=1e-6)
    assert found.ranks.tolist() == [rank for exam in exams for rank in range(len(exam.lesions))]


class OfPixels(torch.nn.Module):
    """In place of a backbone: three logits of an image's pixels."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        phases = images.mean((2, 3))
        return images, torch.stack([phases.sum(1), phases[:, 0] - phases[:, 3], images.amax((1, 2, 3))], 1)
