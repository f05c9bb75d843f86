"""Classification: coalitions, calibrated probabilities, decisions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import CHANNELS, LESION_BOX
from PediatricLiverDxLib.classification import (
    class_probabilities,
    classify,
    coalition_composites,
    decide,
    malignant_probability,
    sigmoid,
    subtype_head,
)
from PediatricLiverDxLib.composites import composites
from PediatricLiverDxLib.rois import Roi
from PediatricLiverDxLib.vocabulary import BACKBONES, CLASSES

ALL = (True, True, True, True)


@pytest.fixture(scope="module")
def images(tiny_aligned) -> np.ndarray:
    return composites(tiny_aligned, Roi.from_index_box(tiny_aligned.grid, LESION_BOX), 64)


def test_every_coalition_shows_its_phases_only():
    one = np.arange(1, 3 * 4 * 4 + 1, dtype=np.float32).reshape(3, 4, 2, 2)
    batch = coalition_composites(one, ALL).reshape(16, 3, 4, 2, 2)
    for mask in range(16):
        for phase in range(4):
            expected = one[:, phase] if mask >> phase & 1 else 0 * one[:, phase]
            assert np.array_equal(batch[mask, :, phase], expected)


def test_absent_phases_are_no_players():
    one = np.ones((3, 4, 2, 2), np.float32)
    batch = coalition_composites(one, (True, False, True, False)).reshape(4, 3, 4, 2, 2)
    assert batch[-1, 0, :, 0, 0].tolist() == [1, 0, 1, 0]
    assert batch[2, 0, :, 0, 0].tolist() == [0, 0, 1, 0]
    assert not batch[0].any()


def test_outputs_are_those_of_one_composite_at_a_time(networks, images):
    outputs = classify(networks, images, ALL)
    assert outputs.logits.shape == (3, 16, 3)
    assert outputs.phases == ("PC", "AP", "PVP", "DP")
    for n, backbone in enumerate(BACKBONES):
        session = networks.classifiers[backbone]
        single = [session.run(None, {"composites": images[k : k + 1]}) for k in range(3)]
        logits = np.mean([one[1][0] for one in single], 0) / networks.temperatures[backbone]
        assert np.allclose(outputs.logits[n, -1], logits, atol=1e-5)
        assert outputs.feature_maps[backbone].shape == (3, CHANNELS, 4, 4)
        assert np.allclose(outputs.feature_maps[backbone], np.concatenate([one[0] for one in single]), atol=1e-5)
    assert np.allclose(outputs.ensemble, outputs.logits.mean(0))
    shares = np.array([[0.5, 0.2, 1.0], [0.3, 0.7, 0.0], [0.2, 0.1, 0.0]])
    expected = sum(share * logits for share, logits in zip(shares[:, None], outputs.logits, strict=True))
    assert np.allclose(replace(outputs, shares=shares).ensemble, expected)


@pytest.mark.parametrize("present", [(True, False, False, False), (False, True, True, False), (True, True, False, True)])
def test_any_number_of_phases(networks, images, present):
    outputs = classify(networks, images * np.array(present)[None, :, None, None], present)
    assert outputs.logits.shape == (3, 2 ** sum(present), 3)
    assert outputs.feature_maps["vit"].shape[0] == 3


def test_probabilities_sum_to_one_and_follow_the_formula():
    logits = np.array([0.7, -1.2, 2.0])
    p1, pb, pm = (1 / (1 + np.exp(-logits))).tolist()
    probabilities = class_probabilities(logits)
    assert tuple(probabilities) == CLASSES
    assert sum(probabilities.values()) == pytest.approx(1)
    assert probabilities["OMHT"] == pytest.approx(p1 * pm)
    assert probabilities["HH"] == pytest.approx((1 - p1) * (1 - pb))
    assert malignant_probability(logits) == pytest.approx(probabilities["HB"] + probabilities["OMHT"])


def test_sigmoid_does_not_overflow():
    with np.errstate(over="raise", invalid="raise"):
        assert sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist() == [0.0, 0.5, 1.0]


def test_the_side_is_decided_first():
    # HH is the likeliest single class, yet malignant is the likelier side
    probabilities = {"HH": 0.45, "OBHT": 0.0, "HB": 0.3, "OMHT": 0.25}
    assert decide(probabilities, 0.55) == "HB"
    assert decide({"HH": 0.2, "OBHT": 0.4, "HB": 0.4, "OMHT": 0.0}, 0.4) == "OBHT"


@pytest.mark.parametrize(("decision", "expected"), [("HH", (1, -1)), ("OBHT", (1, 1)), ("HB", (2, -1)), ("OMHT", (2, 1))])
def test_subtype_head_and_sign(decision, expected):
    assert subtype_head(decision) == expected


def test_progress_goes_from_nothing_to_all(networks, images):
    told: list[float] = []
    classify(networks, images, ALL, told.append)
    assert told == sorted(told) and told[-1] == pytest.approx(1)
