"""The detector's network: a fine level added to trained weights, layers that stay as they are, images of any size once exported."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PediatricLiverDxLib.vocabulary import InputError
from safetensors.torch import load_file, save_file

from training.configuration import Configuration, DetectorSettings
from training.detector import build_detector, train_detector
from training.onnx_export import export_detector, open_session
from training.steps.cohort_arguments import cached_cohort

COARSE, FINE = DetectorSettings(), DetectorSettings(fine_level=True)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a network without the fine level, with statistics of normalisation that are not those of the beginning."""
    torch.manual_seed(4)
    model = build_detector(COARSE).train()
    for _ in range(2):
        model(torch.rand(2, 4, 64, 64))
    path = tmp_path_factory.mktemp("weights") / "coarse.safetensors"
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return path


@torch.inference_mode()
def predictions(model: torch.nn.Module, images: torch.Tensor) -> np.ndarray:
    return model.eval()(images)[0].numpy()


def test_the_fine_level_adds_places_every_4_pixels_and_leaves_the_others_as_they_were(weights: Path):
    images = torch.rand(1, 4, 64, 96)
    coarse, fine = (predictions(build_detector(settings, weights), images) for settings in (COARSE, FINE))
    assert fine.shape[-1] - coarse.shape[-1] == (64 // 4) * (96 // 4)
    np.testing.assert_allclose(fine[..., : coarse.shape[-1]], coarse, atol=1e-3)


def test_weights_with_the_fine_level_are_read_again_and_fit_no_network_without(weights: Path, tmp_path: Path):
    model = build_detector(FINE, weights)
    path = tmp_path / "fine.safetensors"
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    images = torch.rand(1, 4, 64, 64)
    np.testing.assert_allclose(predictions(build_detector(FINE, path), images), predictions(model, images), atol=1e-3)
    with pytest.raises(InputError, match=r"fine\.safetensors does not hold"):
        build_detector(COARSE, path)


def test_frozen_layers_keep_weights_and_statistics_and_the_others_learn(exams_csv: Path, weights: Path, tmp_path: Path):
    settings = DetectorSettings(epochs=1, images_per_epoch=4, batch=2, view=0.5, fine_level=True, frozen_layers=10)
    configuration = dataclasses.replace(Configuration(), detector=settings)
    arguments = argparse.Namespace(exams=[exams_csv], run=tmp_path, cache=None, workers=1)
    exams = cached_cohort(arguments, configuration)
    trained = load_file(train_detector(exams, configuration, tmp_path / "detector", device="cpu", start=weights))
    before = load_file(weights)
    kept = [key for key in before if int(key.split(".")[1]) < 10]
    assert len(kept) > 100 and all(torch.equal(before[key], trained[key]) for key in kept)
    # the last layer moved by three
    changed = [key for key in before if not key.startswith("model.22.") and int(key.split(".")[1]) >= 10]
    assert any(not torch.equal(before[key], trained[key]) for key in changed)


@pytest.mark.parametrize("settings", [COARSE, FINE], ids=["coarse", "fine"])
def test_the_exported_network_takes_images_of_any_size(settings: DetectorSettings, weights: Path, tmp_path: Path):
    model = build_detector(settings, weights).eval()
    export_detector(model, tmp_path / "detector.onnx", 64)
    session = open_session(tmp_path / "detector.onnx", 1)
    assert session.get_inputs()[0].shape == ["n", 4, "height", "width"]
    for height, width in ((64, 64), (32, 96), (128, 64)):
        images = torch.rand(3, 4, height, width)
        (found,) = session.run(["predictions"], {"images": images.numpy()})
        expected = predictions(model, images)
        assert found.shape == expected.shape
        # weights are stored coarsely; a place that were wrong would be off by 4 pixels or more
        np.testing.assert_allclose(found[:, :2], expected[:, :2], atol=2.0)
    assert torch.is_tensor(model.model[-1].anchors) and not model.model[-1].dynamic
