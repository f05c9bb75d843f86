"""The detector's network: weights read again, what the shipped one is, images of any size once exported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PediatricLiverDxLib.alignment import align
from PediatricLiverDxLib.composites import detector_images, detector_transform
from PediatricLiverDxLib.exam import read_exam
from PediatricLiverDxLib.shipped_files import shipped_folder
from PediatricLiverDxLib.vocabulary import PHASES, InputError
from safetensors.torch import save_file

from training.bundle_weights import load_bundle_weights
from training.configuration import DetectorSettings
from training.detector import build_detector
from training.onnx_export import export_detector, open_session


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, with statistics of normalisation that are not those of the beginning."""
    torch.manual_seed(4)
    model = build_detector(DetectorSettings()).train()
    for _ in range(2):
        model(torch.rand(2, 4, 64, 64))
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return path


@torch.inference_mode()
def predictions(model: torch.nn.Module, images: torch.Tensor) -> np.ndarray:
    return model.eval()(images)[0].numpy()


def test_weights_of_another_architecture_are_refused(weights: Path):
    with pytest.raises(InputError, match=r"weights\.safetensors does not hold the weights of yolov8s\.yaml"):
        build_detector(DetectorSettings(architecture="yolov8s.yaml"), weights)


def test_a_network_that_needs_other_image_sizes_is_refused():
    with pytest.raises(InputError, match="in steps of 64 pixels"):
        build_detector(DetectorSettings(architecture="yolov8n-p6.yaml"))


def test_training_goes_on_from_what_a_bundle_answers():
    """Normalisations were folded away; back again they change nothing, and expect what the images give them."""
    path = shipped_folder("Models") / "phantom" / "detector.onnx"
    sample = shipped_folder("SampleCase")
    aligned = align(read_exam(files={phase: sample / f"{phase}.nrrd" for phase in PHASES}), enabled=False)
    transform = detector_transform(aligned, 160)
    middle = aligned.grid.size_xyz[2] // 2
    shown, others = (torch.from_numpy(detector_images(aligned, transform, range(z, z + 4))) for z in (middle - 4, middle))
    torch.manual_seed(1)
    model = build_detector(DetectorSettings())
    load_bundle_weights(model, path, shown)
    (expected,) = open_session(path, 1).run(["predictions"], {"images": others.numpy()})
    assert expected[:, 4].max() > 0.5, "the lesion is seen"
    np.testing.assert_allclose(predictions(model, others), expected, atol=2e-3)
    # in training each batch is normalised by itself: the images that the statistics are of give the same
    with torch.inference_mode():
        same = [model.train(training)(shown) for training in (True, False)]
    torch.testing.assert_close(same[0]["scores"], same[1][1]["scores"], atol=0.01, rtol=0.01)


def test_a_bundle_with_another_network_is_no_start(weights: Path, tmp_path: Path):
    export_detector(build_detector(DetectorSettings(), weights), tmp_path / "detector.onnx", 64)
    other = build_detector(DetectorSettings(architecture="yolov8s.yaml"))
    with pytest.raises(InputError, match=r"detector\.onnx holds another network"):
        load_bundle_weights(other, tmp_path / "detector.onnx", torch.rand(1, 4, 64, 64))


def test_the_shipped_detector_is_what_its_document_says():
    shipped_bundle = shipped_folder("Models") / "phantom"
    document = json.loads((shipped_bundle / "bundle.json").read_text(encoding="utf-8"))
    model = build_detector(DetectorSettings(architecture=document["training"]["configuration"]["detector"]["architecture"]))
    images = torch.rand(1, 4, document["detector"]["size"], document["detector"]["size"])
    (found,) = open_session(shipped_bundle / "detector.onnx", 1).run(["predictions"], {"images": images.numpy()})
    assert found.shape == predictions(model, images).shape


def test_the_exported_network_takes_images_of_any_size(weights: Path, tmp_path: Path):
    model = build_detector(DetectorSettings(), weights).eval()
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
