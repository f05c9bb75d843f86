"""Shared by all tests: a small drawn exam with one known lesion, and a small bundle of real ONNX networks that can find it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import SimpleITK as sitk
from host.fixture import host, host_module  # noqa: F401
from onnx import TensorProto, helper, numpy_helper
from PediatricLiverDxLib.composites import GEOMETRY
from PediatricLiverDxLib.exam import exam_from_images, read_exam
from PediatricLiverDxLib.exam_features import exam_features
from PediatricLiverDxLib.gate import fit_gate
from PediatricLiverDxLib.vocabulary import BACKBONES, HEADS, PHASES, WINDOWS, InputError, K

REAL_CT = Path(__file__).resolve().parents[2] / "shared" / "ct"

#: Detectors for tests take images of up to this many pixels a side.
MOST_PIXELS = 1024
#: x, y, z of the drawn exams; direction is LPS.
SIZE, SPACING, ORIGIN = (96, 80, 24), (3.0, 3.0, 5.0), (-140.0, -120.0, 40.0)
#: Box of the drawn lesion in voxel edges (x0, y0, z0, x1, y1, z1).
LESION_BOX = (24, 30, 8, 40, 46, 16)
#: HU of the drawn lesion; so bright before contrast that the drawn detector needs no more.
LESION_HU = {"PC": 240.0, "AP": 90.0, "PVP": 130.0, "DP": 60.0}
LIVER_HU = {"PC": 60.0, "AP": 75.0, "PVP": 110.0, "DP": 95.0}
#: Channels of a small classifier's feature map.
CHANNELS = 6
#: The small classifiers are blind to this phase.
IGNORED_PHASE = "DP"


def drawn_images(seed: int = 0, phases: tuple[str, ...] = PHASES, lesion: bool = True, noise: float = 10.0) -> dict[str, sitk.Image]:
    """Return int16 volumes of an ellipse of fat and soft tissue with a lesion as wide as LESION_BOX."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.arange(n) + 0.5 for n in reversed(SIZE)), indexing="ij")
    body = ((x - 48) / 42) ** 2 + ((y - 40) / 34) ** 2 + 0 * z
    low, high = np.array(LESION_BOX[:3]), np.array(LESION_BOX[3:])
    centre, radius = (low + high) / 2, (high - low) / 2
    inside = ((x - centre[0]) / radius[0]) ** 2 + ((y - centre[1]) / radius[1]) ** 2 + ((z - centre[2]) / radius[2]) ** 2 < 1
    images = {}
    for phase in phases:
        hu = np.full(x.shape, -1000.0)
        hu[body < 1] = -100 + rng.normal(0, 3)
        hu[body < 0.8] = LIVER_HU[phase] + rng.normal(0, 3)
        if lesion:
            hu[inside] = LESION_HU[phase]
        hu += rng.normal(0, noise * rng.uniform(0.8, 1.2), hu.shape)
        image = sitk.GetImageFromArray(np.round(hu).astype(np.int16))
        image.SetSpacing(SPACING)
        image.SetOrigin(ORIGIN)
        images[phase] = image
    return images


def refusal(words: str, **arguments: object) -> str:
    """Return the sentence with which read_exam refuses its arguments; it is one, and holds the words."""
    with pytest.raises(InputError) as caught:
        read_exam(**arguments)
    message = str(caught.value)
    assert words in message
    assert message.rstrip(".").count(". ") == 0, "one sentence"
    return message


def write_study(folder: Path, **drawn: object) -> Path:
    """Write drawn_images as <phase>.nrrd into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for phase, image in drawn_images(**drawn).items():
        sitk.WriteImage(image, str(folder / f"{phase}.nrrd"), useCompression=True)
    return folder


def _model(nodes: list, inputs: list, outputs: list, constants: dict[str, np.ndarray]) -> bytes:
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    model = helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, weights), opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def detector_onnx(threshold: float = 0.85) -> bytes:
    """Return a detector with one anchor: the box around all pixels above a threshold in PC; score 0.9 if there are any."""
    f32 = np.float32
    constants = {
        "first": np.array([0]),
        "second": np.array([1]),
        "channel": np.array([1]),
        "threshold": f32(threshold),
        "index": np.arange(MOST_PIXELS, dtype=f32),
        "reversed": np.arange(MOST_PIXELS, 0, -1, dtype=f32),
        "most": f32(MOST_PIXELS),
        "zero": np.array([0]),
        "one": f32(1),
        "half": f32(0.5),
        "score_scale": f32(0.9),
        "rows": np.array([2]),
        "columns": np.array([3]),
        "last": np.array([2]),
        "flat": np.array([0, 1, 1]),
    }
    nodes = [
        helper.make_node("Slice", ["images", "first", "second", "channel"], ["pc"]),
        helper.make_node("Greater", ["pc", "threshold"], ["above"]),
        helper.make_node("Cast", ["above"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Shape", ["images"], ["shape"]),
    ]
    for name, axis in (("x", "rows"), ("y", "columns")):
        nodes += [
            helper.make_node("Gather", ["shape", "columns" if axis == "rows" else "rows"], [f"{name}length"]),
            *(helper.make_node("Slice", [way, "zero", f"{name}length"], [f"{name}{way}"]) for way in ("index", "reversed")),
            helper.make_node("ReduceMax", ["mask"], [f"{name}any4"], axes=[2 if axis == "rows" else 3], keepdims=0),
            helper.make_node("Mul", [f"{name}any4", f"{name}index"], [f"{name}hi"]),
            helper.make_node("ReduceMax", [f"{name}hi"], [f"{name}last"], axes=[2], keepdims=1),
            helper.make_node("Add", [f"{name}last", "one"], [f"{name}1"]),
            helper.make_node("Mul", [f"{name}any4", f"{name}reversed"], [f"{name}lo"]),
            helper.make_node("ReduceMax", [f"{name}lo"], [f"{name}firstr"], axes=[2], keepdims=1),
            helper.make_node("Sub", ["most", f"{name}firstr"], [f"{name}0"]),
            helper.make_node("Add", [f"{name}0", f"{name}1"], [f"{name}sum"]),
            helper.make_node("Mul", [f"{name}sum", "half"], [f"c{name}"]),
            helper.make_node("Sub", [f"{name}1", f"{name}0"], [f"w{name}"]),
        ]
    nodes += [
        helper.make_node("ReduceMax", ["mask"], ["any4"], axes=[2, 3], keepdims=0),
        helper.make_node("Reshape", ["any4", "shape3"], ["any"]),
        helper.make_node("Mul", ["any", "score_scale"], ["score"]),
        helper.make_node("Concat", ["cx", "cy", "wx", "wy", "score"], ["predictions"], axis=1),
    ]
    constants["shape3"] = np.array([-1, 1, 1])
    used = {name for node in nodes for name in node.input}
    return _model(
        nodes,
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 4, "height", "width"])],
        [helper.make_tensor_value_info("predictions", TensorProto.FLOAT, ["n", 5, 1])],
        {name: np.asarray(value) for name, value in constants.items() if name in used},
    )


def classifier_onnx(size: int, seed: int) -> tuple[bytes, np.ndarray, np.ndarray]:
    """Return a classifier (convolution, ReLU, mean pooling, linear head), blind to IGNORED_PHASE, and its head's weight and bias."""
    rng = np.random.default_rng(seed)
    kernel = rng.normal(0, 0.1, (CHANNELS, 4, 16, 16)).astype(np.float32)
    kernel[:, PHASES.index(IGNORED_PHASE)] = 0
    weight = rng.normal(0, 2, (len(HEADS), CHANNELS)).astype(np.float32)
    bias = rng.normal(0, 0.2, len(HEADS)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["composites", "kernel"], ["convolved"], strides=[16, 16], kernel_shape=[16, 16]),
        helper.make_node("Relu", ["convolved"], ["feature_map"]),
        helper.make_node("ReduceMean", ["feature_map"], ["pooled"], axes=[2, 3], keepdims=0),
        helper.make_node("Gemm", ["pooled", "head.weight", "head.bias"], ["logits"], transB=1),
    ]
    model = _model(
        nodes,
        [helper.make_tensor_value_info("composites", TensorProto.FLOAT, ["n", 4, size, size])],
        [
            helper.make_tensor_value_info("feature_map", TensorProto.FLOAT, ["n", CHANNELS, size // 16, size // 16]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(HEADS)]),
        ],
        {"kernel": kernel, "head.weight": weight, "head.bias": bias},
    )
    return model, weight, bias


def write_bundle(folder: Path, detector_size: int = 192, composite_size: int = 64) -> Path:
    """Write a small bundle that passes verification, with a gate fitted on drawn exams."""
    folder.mkdir(parents=True)
    (folder / "detector.onnx").write_bytes(detector_onnx())
    arrays, classifiers = {}, {}
    for seed, backbone in enumerate(BACKBONES):
        model, weight, bias = classifier_onnx(composite_size, seed)
        (folder / f"{backbone}.onnx").write_bytes(model)
        arrays |= {f"{backbone}.weight": weight, f"{backbone}.bias": bias}
        classifiers[backbone] = {
            "file": f"{backbone}.onnx",
            "size": composite_size,
            "temperatures": dict(zip(HEADS, (1.5, 1.0, 2.0), strict=True)),
        }
    drawn = [exam_features(exam_from_images(drawn_images(seed))) for seed in range(100, 112)]
    features = {phase: np.stack([one[phase] for one in drawn]) for phase in PHASES}
    gate, gate_arrays = fit_gate(features)
    np.savez(folder / "heads.npz", **arrays, **gate_arrays)
    (folder / "MODEL_CARD.md").write_text("# A bundle for tests\nDrawn by hand, of no use.\n")
    document = {
        "name": "test-bundle",
        "version": "0.0.1",
        "licence": "Apache-2.0",
        "intended_use": "Tests of the software.",
        "trained_on": "nothing",
        "phases": list(PHASES),
        "windows": {phase: list(window) for phase, window in WINDOWS.items()},
        "k": K,
        "geometry": dict(GEOMETRY),
        "detector": {
            "file": "detector.onnx",
            "size": detector_size,
            "threshold": 0.25,
            "iou_nms": 0.5,
            "link": {"iou": 0.2, "min_score": 0.3},
        },
        "classifiers": classifiers,
        "gate": gate,
        "metrics": {},
    }
    rewrite_hashes(folder, document)
    return folder


def rewrite_hashes(folder: Path, document: dict) -> None:
    """Write bundle.json with the hashes of the files that lie beside it."""
    names = sorted(path.name for path in folder.iterdir() if path.name != "bundle.json")
    document = {**document, "sha256": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}}
    (folder / "bundle.json").write_text(json.dumps(document, indent=1))


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def networks(tiny_bundle: Path):
    from PediatricLiverDxLib.bundle import load_networks

    return load_networks(tiny_bundle, threads=1)


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with PC.nrrd, AP.nrrd, PVP.nrrd and DP.nrrd of one drawn exam."""
    return write_study(tmp_path_factory.mktemp("studies") / "tiny")


@pytest.fixture(scope="session")
def tiny_exam():
    return exam_from_images(drawn_images())


@pytest.fixture(scope="session")
def tiny_aligned(tiny_exam):
    from PediatricLiverDxLib.alignment import align

    return align(tiny_exam, enabled=False)
