"""Attribution: exact Shapley values and class activation maps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import IGNORED_PHASE, LESION_BOX
from PediatricLiverDxLib.attribution import cam_volume, class_activation, lesion_cam, lesion_shapley, phase_shapley
from PediatricLiverDxLib.classification import class_probabilities, classify, decide, malignant_probability
from PediatricLiverDxLib.composites import composites
from PediatricLiverDxLib.rois import Roi
from PediatricLiverDxLib.vocabulary import OUTCOMES, PHASES

ALL = (True, True, True, True)
SIDES = ("malignant", "benign")


@pytest.fixture(scope="module")
def outputs(networks, tiny_aligned):
    return classify(networks, composites(tiny_aligned, Roi.from_index_box(tiny_aligned.grid, LESION_BOX), 64), ALL)


@pytest.mark.parametrize("players", [1, 2, 3, 4])
def test_values_sum_to_the_output(players):
    values = np.random.default_rng(players).random(2**players)
    shapley = phase_shapley(PHASES[:players], values, "malignant")
    assert shapley.baseline + sum(shapley.values.values()) == pytest.approx(shapley.total, abs=1e-12)


def test_an_additive_game_gives_each_player_its_own_share():
    shares = np.array([0.1, -0.2, 0.3, 0.05])
    values = np.array([0.4 + sum(share for bit, share in enumerate(shares) if mask >> bit & 1) for mask in range(16)])
    shapley = phase_shapley(PHASES, values, "malignant")
    assert shapley.baseline == 0.4
    assert np.allclose(list(shapley.values.values()), shares)


def test_equal_players_share_equally_and_a_player_without_effect_gets_nothing():
    # AP and PVP together make 1, the others never matter
    values = np.array([float(mask >> 1 & 1 and mask >> 2 & 1) for mask in range(16)])
    shapley = phase_shapley(PHASES, values, "HB")
    assert shapley.values == pytest.approx({"PC": 0, "AP": 0.5, "PVP": 0.5, "DP": 0})


def test_glove_game():
    # Shapley 1953's classic: one left glove (PC), two right ones (AP, PVP): 2/3, 1/6, 1/6
    values = np.array([float(mask & 1 and mask >> 1 > 0) for mask in range(8)])
    shapley = phase_shapley(PHASES[:3], values, "malignant")
    assert list(shapley.values.values()) == pytest.approx([2 / 3, 1 / 6, 1 / 6])


def test_lesion_values_sum_to_the_reported_probability(outputs):
    logits = outputs.ensemble[-1]
    malignant, probabilities = malignant_probability(logits), class_probabilities(logits)
    decision = decide(probabilities, malignant)
    shapley = lesion_shapley(outputs, decision)
    assert shapley["stage1"].total == pytest.approx(malignant)
    side = malignant if decision in ("HB", "OMHT") else 1 - malignant
    assert shapley["stage2"].total == pytest.approx(probabilities[decision] / side)
    assert shapley["stage1"].of == "malignant" and shapley["stage2"].of == decision
    for stage in shapley.values():
        assert stage.baseline + sum(stage.values.values()) == pytest.approx(stage.total, abs=1e-6)


def test_a_phase_that_the_networks_ignore_is_worth_nothing(outputs):
    for stage in lesion_shapley(outputs, "HB").values():
        assert stage.values[IGNORED_PHASE] == pytest.approx(0, abs=1e-7)
        assert max(abs(value) for value in stage.values.values()) > 1e-3


def test_activation_is_the_gradient_weighted_map():
    """The head is linear in the mean of the map, so a difference quotient gives its gradient."""
    rng = np.random.default_rng(0)
    feature_map, weight = rng.random((1, 5, 3, 3)).astype(np.float32), rng.normal(size=5)

    def logit(f: np.ndarray) -> float:
        return float(weight @ f.mean((2, 3))[0])

    alpha = np.zeros(5)
    for c in range(5):
        for y in range(3):
            for x in range(3):
                moved = feature_map.astype(float).copy()
                moved[0, c, y, x] += 1
                alpha[c] += (logit(moved) - logit(feature_map.astype(float))) / 9
    expected = np.maximum(np.einsum("c,chw->hw", alpha, feature_map[0]), 0)
    assert np.allclose(class_activation(feature_map, weight, 1.0)[0], expected, atol=1e-6)
    assert np.allclose(class_activation(feature_map, weight, -1.0), class_activation(feature_map, -weight, 1.0))


def test_lesion_cam_is_scaled_and_differs_by_side(networks, outputs):
    inside = np.zeros((64, 64), bool)
    inside[10:50, 20:44] = True
    malignant, benign = (lesion_cam(outputs, networks.weights, side, inside) for side in SIDES)
    for cam in (malignant, benign):
        assert cam.shape == (3, 64, 64) and cam.dtype == np.float32
        assert cam.min() >= 0 and cam.max() <= 1
        assert not cam[:, ~inside].any()
    assert not np.allclose(malignant, benign)
    # one backbone's map alone reaches 1, and reaches it inside the box
    (name,) = outputs.backbones[:1]
    alone = replace(outputs, backbones=(name,), shares=np.ones((1, 3)))
    assert max(lesion_cam(alone, networks.weights, side, inside).max() for side in SIDES) == pytest.approx(1)


@pytest.mark.parametrize("of", OUTCOMES)
def test_lesion_cam_is_that_of_the_logit_that_tells_the_outcome(networks, outputs, of):
    inside = np.ones((64, 64), bool)
    (name,) = outputs.backbones[:1]
    head = {"HH": 1, "OBHT": 1, "HB": 2, "OMHT": 2}.get(of, 0)
    sign = -1.0 if of in ("benign", "HH", "HB") else 1.0
    # only the shares of that logit count
    shares = np.zeros((len(outputs.backbones), 3))
    shares[0, head] = 1.0
    own = class_activation(outputs.feature_maps[name], networks.weights[name][head], sign)
    scale = len(inside) // own.shape[1]
    found = lesion_cam(replace(outputs, shares=shares), networks.weights, of, inside)[:, scale // 2 :: scale, scale // 2 :: scale]
    assert np.corrcoef(found.ravel(), own.ravel())[0, 1] > 0.98 or not own.any()


def test_volume_has_the_slices_maps_at_the_slices(tiny_aligned):
    roi = Roi.from_index_box(tiny_aligned.grid, LESION_BOX)
    cam_slices = np.stack([np.full((64, 64), level, np.float32) for level in (0.2, 0.6, 1.0)])
    cam = cam_volume(cam_slices, roi, tiny_aligned.grid)
    assert cam.start_xyz == LESION_BOX[:3]
    assert cam.array.shape == (8, 16, 16)
    # slices 8 to 15, the three are 9, 12, 14
    assert np.allclose(cam.array[:, 8, 8], [0.2, 0.2, 1 / 3, 0.2 + 0.8 / 3, 0.6, 0.8, 1.0, 1.0], atol=1e-5)


def test_volume_puts_a_spot_where_it_belongs(tiny_aligned):
    roi = Roi.from_index_box(tiny_aligned.grid, LESION_BOX)
    cam_slices = np.zeros((3, 64, 64), np.float32)
    # upper left quarter of the crop
    cam_slices[:, :32, :32] = 1
    array = cam_volume(cam_slices, roi, tiny_aligned.grid).array
    assert array[4, :7, :7].min() > 0.9
    assert array[4, 9:].max() < 0.1 and array[4, :, 9:].max() < 0.1


def test_volume_of_a_roi_smaller_than_a_voxel(tiny_aligned):
    roi = Roi.from_index_box(tiny_aligned.grid, (30.2, 33.1, 10.2, 30.6, 33.4, 10.5))
    cam = cam_volume(np.ones((3, 64, 64), np.float32), roi, tiny_aligned.grid)
    assert cam.array.shape == (1, 1, 1)
    assert cam.array[0, 0, 0] == pytest.approx(1)
