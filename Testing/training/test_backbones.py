"""The three backbones have the shapes of the bundle, the closed-form CAM is MONAI's Grad-CAM, phase Shapley is captum's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from captum.attr import ShapleyValues
from monai.visualize import GradCAM
from PediatricLiverDxLib.attribution import class_activation, phase_shapley
from PediatricLiverDxLib.classification import coalition_composites, sigmoid
from PediatricLiverDxLib.shipped_files import shipped_folder
from PediatricLiverDxLib.vocabulary import BACKBONES, HEADS, PHASES, InputError
from safetensors.torch import save_file
from torch import nn

from training.backbones import Backbone, build_backbone
from training.bundle_weights import load_bundle_weights
from training.onnx_export import open_session


class OneLogit(nn.Module):
    """A backbone with only the logits, as CAM methods want it."""

    def __init__(self, model: Backbone) -> None:
        super().__init__()
        self.model = model

    def forward(self, composites: torch.Tensor) -> torch.Tensor:
        return self.model(composites)[1]


@pytest.fixture(scope="module", params=BACKBONES)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    torch.manual_seed(0)
    model = build_backbone(request.param).eval()
    # a head far from 0 and mostly positive, so that CAM and Shapley have something to show
    nn.init.uniform_(model.head.weight, -0.1, 0.3)
    return model


@pytest.fixture(scope="module")
def composites() -> torch.Tensor:
    return torch.rand(3, 4, 128, 128, generator=torch.Generator().manual_seed(1))


def test_outputs_have_the_shapes_of_the_bundle(backbone: Backbone, composites: torch.Tensor):
    with torch.inference_mode():
        feature_map, logits = backbone(composites)
    assert logits.shape == (3, len(HEADS))
    assert feature_map.shape[:2] == (3, backbone.head.in_features)
    torch.testing.assert_close(logits, backbone.head(feature_map.mean((2, 3))))


@pytest.mark.parametrize("name", BACKBONES)
def test_training_goes_on_from_what_a_bundle_answers(name: str, composites: torch.Tensor):
    """Normalisations were folded away; back again they change nothing, and expect what the images give them."""
    model, path = build_backbone(name), shipped_folder("Models") / "phantom" / f"{name}.onnx"
    shown = torch.rand(8, 4, 128, 128, generator=torch.Generator().manual_seed(2))
    load_bundle_weights(model, path, shown)
    (expected,) = open_session(path, 1).run(["logits"], {"composites": composites.numpy()})
    with torch.inference_mode():
        np.testing.assert_allclose(model.eval()(composites)[1], expected, atol=1e-4)
        if name == "resnet18":  # all of its normalisations are folded: by the images' own statistics it answers the same
            torch.testing.assert_close(model.train()(shown)[1], model.eval()(shown)[1], atol=1e-3, rtol=1e-3)


def test_a_bundle_with_another_network_is_no_start(composites: torch.Tensor):
    with pytest.raises(InputError, match=r"vit\.onnx holds another network"):
        load_bundle_weights(build_backbone("resnet18"), shipped_folder("Models") / "phantom" / "vit.onnx", composites)


def test_closed_form_cam_equals_monai_grad_cam(backbone: Backbone, composites: torch.Tensor):
    # the map itself: neither enlarged nor scaled
    plain = {"upsampler": lambda size: nn.Identity(), "postprocessing": lambda found: found}
    # eval: GradCAM gives the model the mode of what it wraps
    grad_cam = GradCAM(OneLogit(backbone).eval(), target_layers="model.feature_map", **plain)
    with torch.inference_mode():
        feature_map = backbone(composites)[0].numpy()
    for head in range(len(HEADS)):
        for row in range(len(composites)):
            expected = grad_cam(composites[row : row + 1], class_idx=head).detach().numpy()[0, 0]
            ours = class_activation(feature_map[row : row + 1], backbone.head.weight[head].detach().numpy(), 1.0)[0]
            assert expected.std() > 0
            assert np.corrcoef(ours.ravel(), expected.ravel())[0, 1] > 0.999


def test_phase_shapley_equals_captum(backbone: Backbone, composites: torch.Tensor):
    def malignant(images: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return torch.sigmoid(backbone(images)[1][:, 0].double())

    lesion = composites[:1]
    attributed = ShapleyValues(malignant).attribute(lesion, baselines=0.0, feature_mask=torch.arange(4).view(1, 4, 1, 1))
    expected = attributed[0, :, 0, 0].numpy()

    batch = coalition_composites(lesion.numpy(), (True,) * 4)
    with torch.inference_mode():
        logits = backbone(torch.from_numpy(batch))[1][:, 0].double().numpy()
    ours = phase_shapley(PHASES, sigmoid(logits), "malignant")
    np.testing.assert_allclose([ours.values[phase] for phase in PHASES], expected, atol=1e-5)
    assert ours.baseline + sum(ours.values.values()) == pytest.approx(ours.total, abs=1e-9)


def test_a_local_trunk_with_three_channels_is_taken_over(tmp_path: Path):
    donor = build_backbone("resnet18").trunk.state_dict()
    donor["conv1.weight"] = torch.ones(64, 3, 7, 7)
    save_file(donor, tmp_path / "trunk.safetensors")
    model = build_backbone("resnet18", tmp_path / "trunk.safetensors")
    torch.testing.assert_close(model.trunk.conv1.weight.detach(), torch.full((64, 4, 7, 7), 0.75))
    torch.testing.assert_close(model.trunk.layer4[1].conv2.weight.detach(), donor["layer4.1.conv2.weight"])


def test_what_fits_nowhere_is_refused(tmp_path: Path):
    save_file({"other": torch.zeros(2)}, tmp_path / "trunk.safetensors")
    with pytest.raises(InputError, match="fits"):
        build_backbone("resnet18", tmp_path / "trunk.safetensors")
    with pytest.raises(InputError, match="expected a backbone"):
        build_backbone("alexnet")
