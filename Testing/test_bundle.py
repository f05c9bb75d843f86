"""The bundle: what is whole is read, what is not is refused in a sentence that names the file."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import classifier_onnx, detector_onnx, rewrite_hashes
from PediatricLiverDxLib.bundle import load_networks, read_bundle
from PediatricLiverDxLib.vocabulary import BACKBONES, InputError


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def document(folder: Path) -> dict:
    return json.loads((folder / "bundle.json").read_text())


def test_a_whole_bundle_is_read(tiny_bundle):
    bundle = read_bundle(tiny_bundle)
    assert bundle.info.name == "test-bundle"
    assert len(bundle.info.sha256) == 64
    assert bundle.temperatures("vit").tolist() == [1.5, 1.0, 2.0]
    assert bundle.link.iou == 0.2


def test_networks_are_ready(networks):
    assert tuple(networks.classifiers) == BACKBONES
    assert networks.composite_size == 64
    assert networks.detector.size == 128


@pytest.mark.parametrize("name", ["detector.onnx", "vit.onnx", "heads.npz", "MODEL_CARD.md"])
def test_one_changed_byte_is_refused(bundle, name):
    raw = bytearray((bundle / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (bundle / name).write_bytes(raw)
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        load_networks(bundle)


@pytest.mark.parametrize("name", ["detector.onnx", "resnet18.onnx", "heads.npz", "MODEL_CARD.md"])
def test_a_missing_file_is_refused(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(InputError, match=f"lacks {name}"):
        load_networks(bundle)


def test_an_extra_file_is_refused(bundle):
    (bundle / "extra.py").write_text("print('hello')")
    with pytest.raises(InputError, match=r"extra\.py"):
        load_networks(bundle)


def test_missing_folder_and_missing_document(tmp_path):
    with pytest.raises(InputError, match="not a folder"):
        read_bundle(tmp_path / "none")
    with pytest.raises(InputError, match=r"bundle\.json cannot be read"):
        read_bundle(tmp_path)


@pytest.mark.parametrize("key", ["name", "detector", "classifiers", "gate", "sha256"])
def test_a_missing_key_is_named(bundle, key):
    short = document(bundle)
    del short[key]
    (bundle / "bundle.json").write_text(json.dumps(short))
    with pytest.raises(InputError, match=key):
        read_bundle(bundle)


@pytest.mark.parametrize("text", ["", "{", "[]", '"bundle"', "{}"])
def test_a_document_that_is_none_is_refused(bundle, text):
    (bundle / "bundle.json").write_text(text)
    with pytest.raises(InputError, match=r"bundle\.json"):
        read_bundle(bundle)


def test_a_hash_list_that_leaves_a_network_out_is_refused(bundle):
    short = document(bundle)
    del short["sha256"]["vit.onnx"]
    (bundle / "bundle.json").write_text(json.dumps(short))
    with pytest.raises(InputError, match="hash for each"):
        read_bundle(bundle)


def test_no_path_leads_out_of_the_folder(bundle):
    short = document(bundle)
    short["sha256"]["../secret"] = "0" * 64
    (bundle / "bundle.json").write_text(json.dumps(short))
    with pytest.raises(InputError):
        read_bundle(bundle)


def test_pickled_heads_are_not_read(bundle):
    raw = io.BytesIO()
    np.savez(raw, **{"vit.weight": np.array([{"a": 1}], dtype=object)})
    (bundle / "heads.npz").write_bytes(raw.getvalue())
    rewrite_hashes(bundle, document(bundle))
    with pytest.raises(InputError, match="plain numpy archive"):
        read_bundle(bundle)


def test_a_network_that_is_none_is_refused(bundle):
    (bundle / "vit.onnx").write_bytes(b"not a network")
    rewrite_hashes(bundle, document(bundle))
    with pytest.raises(InputError, match=r"vit\.onnx is not a network"):
        load_networks(bundle)


def test_networks_of_other_shapes_are_refused(bundle):
    (bundle / "detector.onnx").write_bytes(detector_onnx(96))
    rewrite_hashes(bundle, document(bundle))
    with pytest.raises(InputError, match="one input images"):
        load_networks(bundle)


def test_outputs_of_other_names_are_refused(bundle):
    (bundle / "detector.onnx").write_bytes(classifier_onnx(64, 0)[0])
    rewrite_hashes(bundle, document(bundle))
    with pytest.raises(InputError, match="one input images"):
        load_networks(bundle)


def test_heads_of_other_shapes_are_refused(bundle):
    with np.load(bundle / "heads.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["vit.weight"] = arrays["vit.weight"][:2]
    np.savez(bundle / "heads.npz", **arrays)
    rewrite_hashes(bundle, document(bundle))
    with pytest.raises(InputError, match="head of shape"):
        load_networks(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"phases": ["AP", "PC", "PVP", "DP"]}, "other phases"),
        ({"k": 5}, "other phases or slices"),
        ({"windows": {"PC": [0, 400]}}, "other windows"),
        ({"classifiers": {}}, "classifiers among"),
    ],
)
def test_a_bundle_for_other_software_is_refused(bundle, change, message):
    rewrite_hashes(bundle, {**document(bundle), **change})
    with pytest.raises(InputError, match=message):
        read_bundle(bundle)


def test_a_temperature_of_zero_is_refused(bundle):
    changed = document(bundle)
    changed["classifiers"]["vit"]["temperatures"]["stage1"] = 0
    rewrite_hashes(bundle, changed)
    with pytest.raises(InputError, match="above 0"):
        read_bundle(bundle)
