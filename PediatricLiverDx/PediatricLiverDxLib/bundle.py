"""The bundle: a folder with the networks and all that belongs to them. It is read whole, every hash is checked before anything runs.

    bundle.json     name, version, licence, intended_use, trained_on, phases, windows, k, detector, classifiers, gate, metrics, sha256
    detector.onnx   "images" (n, 4, height, width), both multiples of DETECTOR_STRIDE -> "predictions" (n, 5, anchors): cx, cy, w, h in
                    pixels, score
    <backbone>.onnx "composites" (n, 4, size, size) -> "feature_map" (n, c, h, w), "logits" (n, 3) in the order of HEADS
    heads.npz       "<backbone>.weight" (3, c), "<backbone>.bias" (3,), "gate.*" (gate.fit_gate)
    MODEL_CARD.md
No pickle anywhere: numpy files are read with allow_pickle=False.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .bundle_contents import ADVICE, BUNDLE_FILE, HEADS_FILE, checked_arrays, checked_document
from .detection import Detector, LinkParameters
from .heap import return_free_memory
from .shipped_files import shipped_folder
from .vocabulary import HEADS, PHASES, InputError

if TYPE_CHECKING:
    import onnxruntime

MODEL_CARD = "MODEL_CARD.md"

#: Beside this file: "name version" -> SHA-256 of bundle.json, for every bundle that comes with the software (pin writes it).
SHIPPED_FILE = "shipped.json"

#: How far logits may be from those of the feature map and the head, as a part of the sum of their terms' magnitudes.
_HEAD_TOLERANCE = 0.02


@dataclass(frozen=True)
class BundleInfo:
    """Name a bundle in results. sha256: hash of bundle.json, which holds the hashes of all other files."""

    name: str
    version: str
    sha256: str
    intended_use: str
    trained_on: str


@dataclass(frozen=True)
class Bundle:
    """Hold a bundle that was read and whose every hash was right.

    document: bundle.json. files: name -> bytes of everything that bundle.json lists, until the networks are open. arrays: heads.npz.
    """

    info: BundleInfo
    document: Mapping[str, Any]
    files: Mapping[str, bytes]
    arrays: Mapping[str, np.ndarray]

    @property
    def link(self) -> LinkParameters:
        return LinkParameters.of(self.document["detector"].get("link", {}))

    def head(self, backbone: str) -> tuple[np.ndarray, np.ndarray]:
        """Return weight (3, c) and bias (3,) of a backbone's heads, float32, in the order of HEADS."""
        weight, bias = (self.arrays[f"{backbone}.{name}"].astype(np.float32) for name in ("weight", "bias"))
        return weight, bias

    def temperatures(self, backbone: str) -> np.ndarray:
        """Return the calibration temperatures of a backbone, (3,) in the order of HEADS."""
        values = self.document["classifiers"][backbone]["temperatures"]
        return np.array([float(values[head]) for head in HEADS])

    def shares(self, backbone: str) -> np.ndarray:
        """Return a backbone's shares in the ensemble, (3,) in the order of HEADS; over the backbones they sum to 1."""
        classifiers = self.document["classifiers"]
        values = classifiers[backbone].get("shares")
        return np.array([float(values[head]) for head in HEADS]) if values else np.full(len(HEADS), 1 / len(classifiers))


@dataclass(frozen=True)
class Networks:
    """Hold a bundle's networks, ready to run.

    By backbone: session, weights of its heads (3, c), temperatures (3,), and shares in the ensemble (3,).

    threads: how many batches run at a time.
    """

    bundle: Bundle
    detector: Detector
    classifiers: Mapping[str, onnxruntime.InferenceSession]
    weights: Mapping[str, np.ndarray]
    temperatures: Mapping[str, np.ndarray]
    shares: Mapping[str, np.ndarray]
    threads: int = 1

    @property
    def composite_size(self) -> int:
        return int(next(iter(self.bundle.document["classifiers"].values()))["size"])

    def check(self) -> None:
        """Do nothing: every network was opened and checked."""


def shipped_bundle() -> Path:
    """Return the bundle that comes with the software: the only folder in Models. Raises InputError where there is none, or several."""
    models = shipped_folder("Models")
    found = sorted(path.parent for path in models.glob(f"*/{BUNDLE_FILE}")) if models else []
    if not found:
        raise InputError("Found no bundle beside the software; give the folder of one with --bundle.")
    if len(found) > 1:
        raise InputError(f"Found {len(found)} bundles beside the software, expected one; say which with --bundle.")
    return found[0]


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle and check that its files are exactly those that bundle.json lists, each with the listed hash.

    Raises InputError, naming the file, for anything missing, extra, changed, or not understood, and for a bundle that has the name and
    version of one that comes with the software and is not it.
    """
    folder = Path(folder)
    try:
        if not folder.is_dir():
            raise InputError(f"The bundle {folder.name} is not a folder; expected a folder with {BUNDLE_FILE}.")
        present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()} - {BUNDLE_FILE}
    except OSError as error:
        raise InputError(f"The bundle {folder.name} cannot be read ({error.strerror}); give another folder.") from None
    raw = _read(folder / BUNDLE_FILE)
    document = checked_document(raw)
    listed = set(document["sha256"])
    if missing := sorted(listed - present):
        raise InputError(f"The bundle lacks {', '.join(missing)}; {ADVICE}.")
    if extra := sorted(present - listed):
        raise InputError(f"The bundle folder holds {', '.join(extra)}, which bundle.json does not list; remove it or {ADVICE}.")
    files = {}
    for name in sorted(listed):
        files[name] = _read(folder / name)
        if hashlib.sha256(files[name]).hexdigest() != document["sha256"][name]:
            raise InputError(f"The bundle's {name} is not the file that bundle.json lists (its SHA-256 differs); {ADVICE}.")
    info = BundleInfo(
        name=document["name"],
        version=document["version"],
        sha256=hashlib.sha256(raw).hexdigest(),
        intended_use=document["intended_use"],
        trained_on=document["trained_on"] if isinstance(document["trained_on"], str) else json.dumps(document["trained_on"]),
    )
    if _pinned().get(f"{info.name} {info.version}", info.sha256) != info.sha256:
        raise InputError(
            f"The bundle calls itself {info.name} {info.version}, which comes with this software, but its {BUNDLE_FILE} was altered; "
            f"{ADVICE}, or give a bundle of your own another name or version."
        )
    return Bundle(info, document, files, checked_arrays(files[HEADS_FILE], document))


def is_shipped(info: BundleInfo) -> bool:
    """Say whether a bundle is one that comes with the software, unaltered."""
    return _pinned().get(f"{info.name} {info.version}") == info.sha256


def pin(folder: Path) -> None:
    """Make a bundle one that comes with the software: its bundle.json, and so all of it, is known from now on. For maintainers."""
    raw = _read(Path(folder) / BUNDLE_FILE)
    document = checked_document(raw)
    pinned = {**_pinned(), f"{document['name']} {document['version']}": hashlib.sha256(raw).hexdigest()}
    Path(__file__).with_name(SHIPPED_FILE).write_text(json.dumps(pinned, indent=1) + "\n", encoding="utf-8")


def _pinned() -> dict[str, str]:
    return json.loads(resources.files(__package__).joinpath(SHIPPED_FILE).read_text(encoding="utf-8"))


def load_networks(folder: Path, threads: int | None = None) -> Networks:
    """Read a bundle and open its networks; inputs, outputs and their shapes are checked before anything runs.

    threads: how many batches run at a time; as many as this process may use cores when None. Raises InputError as read_bundle does, and
    for a network whose shapes are not those of the bundle's layout.
    """
    bundle = read_bundle(folder)
    threads = threads or available_cores()
    found = open_detector(bundle, threads)
    sessions = {backbone: open_classifier(bundle, backbone) for backbone in bundle.document["classifiers"]}
    # the sessions have what they need of the files
    networks = Networks(
        replace(bundle, files={}),
        found,
        sessions,
        {backbone: bundle.head(backbone)[0] for backbone in sessions},
        {backbone: bundle.temperatures(backbone) for backbone in sessions},
        {backbone: bundle.shares(backbone) for backbone in sessions},
        threads,
    )
    del bundle
    # 50 MB that unpacking the weights took
    return_free_memory()
    return networks


def open_detector(bundle: Bundle, threads: int) -> Detector:
    """Open the detector of a bundle that holds its files. Raises InputError as load_networks does."""
    detector = bundle.document["detector"]
    return Detector(
        session=_session(bundle, detector["file"], "images", ("height", "width"), {"predictions": (5, None)}),
        threshold=float(detector["threshold"]),
        iou_nms=float(detector["iou_nms"]),
        link=bundle.link,
        size=detector["size"],
        threads=threads,
    )


def open_classifier(bundle: Bundle, backbone: str) -> onnxruntime.InferenceSession:
    """Open one classifier of a bundle that holds its files. Raises InputError as load_networks does."""
    classifier = bundle.document["classifiers"][backbone]
    weight, bias = bundle.head(backbone)
    outputs = {"feature_map": (weight.shape[1], None, None), "logits": (len(HEADS),)}
    session = _session(bundle, classifier["file"], "composites", (classifier["size"],) * 2, outputs)
    _check_head(session, classifier, weight, bias)
    return session


def available_cores() -> int:
    """Return how many cores this process may use, at most 8: small networks gain nothing from more."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"The bundle's {path.name} cannot be read ({error.strerror}); {ADVICE}.") from None


def _session(
    bundle: Bundle, name: str, input_name: str, size: tuple[int | str, int | str], outputs: Mapping[str, Sequence[int | None]]
) -> onnxruntime.InferenceSession:
    """Open a network.

    size: height and width of its images, names where it takes any. outputs: name -> shape after the batch axis, None where any length
    will do.
    """
    import onnxruntime  # a tenth of the whole start: only when networks are opened

    options = onnxruntime.SessionOptions()
    # several runs at a time use the cores better than several threads in one run (concurrency.in_order)
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    # an arena keeps every network's largest need for good; without one a run costs the same time and a third of the memory
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    # weights are stored as int8 and unpacked once, while the network is loaded
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        session = onnxruntime.InferenceSession(bundle.files[name], options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has many kinds of error and no common base
        raise InputError(f"The bundle's {name} is not a network that ONNX Runtime can load ({type(error).__name__}); {ADVICE}.") from None
    inputs = {i.name: i.shape[1:] for i in session.get_inputs()}
    if inputs != {input_name: [len(PHASES), *size]}:
        expected = f"one input {input_name} (n, {len(PHASES)}, {size[0]}, {size[1]})"
        raise InputError(f"Expected {expected} of the bundle's {name}, got {inputs}; {ADVICE}.")
    found = {o.name: o.shape[1:] for o in session.get_outputs()}
    if set(found) != set(outputs) or not all(_fits(found[key], shape) for key, shape in outputs.items()):
        expected = {key: tuple("any" if n is None else n for n in shape) for key, shape in outputs.items()}
        raise InputError(f"Expected the outputs {expected} after the batch axis of the bundle's {name}, got {found}; {ADVICE}.")
    return session


def _fits(found: Sequence[int | str | None], expected: Sequence[int | None]) -> bool:
    """Say whether an output's shape is the expected one; a symbolic length counts as any."""
    return len(found) == len(expected) and all(e is None or not isinstance(f, int) or f == e for f, e in zip(found, expected, strict=True))


def _check_head(session: onnxruntime.InferenceSession, classifier: Mapping[str, Any], weight: np.ndarray, bias: np.ndarray) -> None:
    """Refuse head weights that are not those of the network, by what it says to noise: activation maps are made with them."""
    size = classifier["size"]
    noise = np.random.default_rng(0).random((1, len(PHASES), size, size), np.float32)
    feature_map, logits = session.run(["feature_map", "logits"], {"composites": noise})
    pooled = feature_map.mean((2, 3))[0]
    magnitude = np.abs(weight) @ np.abs(pooled) + np.abs(bias)
    if not np.all(np.abs(weight @ pooled + bias - logits[0]) <= _HEAD_TOLERANCE * magnitude + 1e-4):
        raise InputError(f"The bundle's {HEADS_FILE} does not hold the head of {classifier['file']}; {ADVICE}.")
