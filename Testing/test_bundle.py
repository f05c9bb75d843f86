"""The bundle: what is whole is read, what is not is refused in a sentence that names the file."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import classifier_onnx, rewrite_hashes
from PediatricLiverDxLib import bundle as bundle_module
from PediatricLiverDxLib.bundle import is_shipped, load_networks, pin, read_bundle
from PediatricLiverDxLib.composites import GEOMETRY
from PediatricLiverDxLib.vocabulary import BACKBONES, HEADS, InputError


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def document(folder: Path) -> dict:
    return json.loads((folder / "bundle.json").read_text(encoding="utf-8"))


def test_a_whole_bundle_is_read(tiny_bundle):
    bundle = read_bundle(tiny_bundle)
    assert bundle.info.name == "test-bundle"
    assert len(bundle.info.sha256) == 64
    assert bundle.temperatures("vit").tolist() == [1.5, 1.0, 2.0]
    assert bundle.link.iou == 0.2


def test_networks_are_ready(networks):
    assert tuple(networks.classifiers) == BACKBONES
    assert networks.composite_size == 64
    assert networks.detector.size == 192


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


@pytest.mark.parametrize("name", ["../secret", "a/../../secret", "..\\secret", "C:\\secret", None])
def test_no_path_leads_out_of_the_folder(bundle, name):
    (bundle.parent / "secret").write_text("there it is")
    longer = document(bundle)
    longer["sha256"][name or str(bundle.parent / "secret")] = hashlib.sha256(b"there it is").hexdigest()
    (bundle / "bundle.json").write_text(json.dumps(longer))
    with pytest.raises(InputError, match="hash for each"):
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
    (bundle / "vit.onnx").write_bytes(classifier_onnx(96, 0)[0])
    rewrite_hashes(bundle, document(bundle))
    with pytest.raises(InputError, match=r"one input composites \(n, 4, 64, 64\)"):
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
        ({"geometry": {**GEOMETRY, "roi_margin": 1.5}}, "cut out in another way"),
        ({"geometry": None}, "cut out in another way"),
        ({"classifiers": {}}, "classifiers among"),
    ],
)
def test_a_bundle_for_other_software_is_refused(bundle, change, message):
    rewrite_hashes(bundle, {**document(bundle), **change})
    with pytest.raises(InputError, match=message):
        read_bundle(bundle)


def test_shares_are_taken_where_they_sum_to_one(bundle):
    changed, parts = document(bundle), dict(zip(BACKBONES, ((0.5, 0.2, 1 / 3), (0.3, 0.7, 1 / 3), (0.2, 0.1, 1 / 3)), strict=True))
    assert load_networks(bundle).shares["vit"].tolist() == [1 / 3] * 3
    for backbone, shares in parts.items():
        changed["classifiers"][backbone]["shares"] = dict(zip(HEADS, shares, strict=True))
    rewrite_hashes(bundle, changed)
    assert load_networks(bundle).shares["vit"].tolist() == list(parts["vit"])
    changed["classifiers"]["vit"]["shares"]["stage1"] = 0.9
    rewrite_hashes(bundle, changed)
    with pytest.raises(InputError, match="do not sum to 1"):
        read_bundle(bundle)


def test_a_temperature_of_zero_is_refused(bundle):
    changed = document(bundle)
    changed["classifiers"]["vit"]["temperatures"]["stage1"] = 0
    rewrite_hashes(bundle, changed)
    with pytest.raises(InputError, match="above 0"):
        read_bundle(bundle)


def edited(bundle: Path, path: str, value: object) -> None:
    """Set a value of bundle.json by its dotted path; DROP takes it away."""
    changed = inner = document(bundle)
    *steps, last = path.split(".")
    for step in steps:
        inner = inner[step]
    if value == "DROP":
        del inner[last]
    else:
        inner[last] = value
    (bundle / "bundle.json").write_text(json.dumps(changed))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("sha256", ["a"]),
        ("sha256", {"vit.onnx": 1}),
        ("windows", [1]),
        ("windows.PC", None),
        ("name", None),
        ("name", ""),
        ("version", 1),
        ("intended_use", None),
        ("trained_on", None),
        ("detector", None),
        ("detector.file", ["detector.onnx"]),
        ("detector.size", 128.7),
        ("detector.size", True),
        ("detector.threshold", float("nan")),
        ("detector.iou_nms", "0.5"),
        ("detector.link", ["iou"]),
        ("detector.link", {"iou": "high"}),
        ("classifiers", ["vit"]),
        ("classifiers.vit.file", {}),
        ("classifiers.vit.size", 64.5),
        ("classifiers.vit.temperatures", "DROP"),
        ("classifiers.vit.temperatures.stage1", float("inf")),
        ("classifiers.vit.temperatures.stage1", "DROP"),
        ("classifiers.vit.temperatures.stage_1", 1.0),
        ("classifiers.vit.shares", {"stage1": 1.0, "benign_subtype": 1.0, "malignant_subtype": 1.0}),
        ("classifiers.vit.shares", 5),
        ("detector.size", 300),
        ("gate", {}),
        ("gate", None),
        ("gate.phases", {}),
        ("gate.phases.PC", None),
        ("gate.phases.XX", {}),
        ("gate.phases.PC.mean", [0.0]),
        ("gate.phases.PC.mean", "DROP"),
        ("gate.phases.PC.precision", [[1.0, 0.0], [1.0]]),
        ("gate.phases.PC.look_threshold", float("inf")),
        ("gate.phases.PC.look_threshold", 0),
        ("gate.lesion", {"look_threshold": 2.0, "do_not_trust_threshold": 3.0}),
        ("gate.feature_names", ["noise"]),
    ],
)
def test_an_edited_document_is_refused_when_it_is_read(bundle, path, value):
    edited(bundle, path, value)
    with pytest.raises(InputError, match=r"[Tt]he bundle"):
        read_bundle(bundle)


def save_arrays(bundle: Path, change) -> None:
    with np.load(bundle / "heads.npz") as archive:
        arrays = change({name: archive[name] for name in archive.files})
    np.savez(bundle / "heads.npz", **arrays)
    rewrite_hashes(bundle, document(bundle))


@pytest.mark.parametrize("kind", ["npy", "cut zip", "broken member", "empty"])
def test_heads_that_are_no_archive_are_refused(bundle, kind):
    raw = bytearray((bundle / "heads.npz").read_bytes())
    if kind == "npy":
        stream = io.BytesIO()
        np.save(stream, np.zeros(3))
        raw = stream.getvalue()
    elif kind == "cut zip":
        raw = raw[: len(raw) // 2]
    elif kind == "broken member":
        raw[150] ^= 255
    else:
        raw = b""
    (bundle / "heads.npz").write_bytes(bytes(raw))
    rewrite_hashes(bundle, document(bundle))
    with pytest.raises(InputError, match="plain numpy archive"):
        read_bundle(bundle)


def test_heads_that_are_not_finite_are_refused(bundle):
    save_arrays(bundle, lambda arrays: {**arrays, "vit.bias": arrays["vit.bias"] * np.nan})
    with pytest.raises(InputError, match=r"heads\.npz"):
        read_bundle(bundle)


@pytest.mark.parametrize(("name", "factor"), [("vit.weight", -1), ("resnet18.weight", 1.2), ("densenet121.bias", -1)])
def test_heads_that_are_not_those_of_the_networks_are_refused(bundle, name, factor):
    """Activation maps are made with them: turned round, they would show what speaks against."""
    save_arrays(bundle, lambda arrays: {**arrays, name: arrays[name] * factor})
    with pytest.raises(InputError, match=rf"does not hold the head of {name.split('.')[0]}"):
        load_networks(bundle)


@pytest.fixture
def pinned(bundle, tmp_path, monkeypatch) -> Path:
    """The small bundle as one that comes with the software."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "shipped.json").write_text("{}")
    monkeypatch.setattr(bundle_module, "__file__", str(tmp_path / "package" / "bundle.py"))
    monkeypatch.setattr(bundle_module.resources, "files", lambda package: tmp_path / "package")
    assert not is_shipped(read_bundle(bundle).info)
    pin(bundle)
    return bundle


def test_a_pinned_bundle_is_known(pinned):
    assert is_shipped(read_bundle(pinned).info)


@pytest.mark.parametrize(("path", "value"), [("gate.phases.PC.look_threshold", 1e9), ("classifiers.vit.temperatures.stage1", 0.01)])
def test_a_pinned_bundle_whose_document_was_altered_is_refused(pinned, path, value):
    edited(pinned, path, value)
    with pytest.raises(InputError, match=r"test-bundle 0\.0\.1, which comes with this software, but its bundle\.json was altered"):
        read_bundle(pinned)


def test_an_altered_bundle_of_another_name_is_one_of_ones_own(pinned):
    edited(pinned, "name", "mine")
    assert not is_shipped(read_bundle(pinned).info)


def test_a_name_that_is_too_long_for_the_system_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read|not a folder"):
        read_bundle(tmp_path / ("x" * 300))


MODELS = Path(__file__).resolve().parent.parent / "Resources" / "Models"


@pytest.mark.parametrize("folder", sorted(path.parent for path in MODELS.glob("*/bundle.json")), ids=lambda path: path.name)
def test_every_bundle_in_resources_is_pinned(folder):
    advice = "python -c 'from PediatricLiverDxLib.bundle import pin; pin(\"Resources/Models/NAME\")'"
    assert is_shipped(read_bundle(folder).info), f"not pinned, or changed since; run: {advice}"
