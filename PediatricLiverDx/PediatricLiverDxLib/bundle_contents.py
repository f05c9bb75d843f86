"""What a bundle's bundle.json and heads.npz must hold: bytes come in, what was checked goes out, or a sentence says what is wrong."""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from .composites import DETECTOR_STRIDE, GEOMETRY
from .detection import LinkParameters
from .exam_features import FEATURES
from .vocabulary import BACKBONES, HEADS, PHASES, WINDOWS, InputError, K

BUNDLE_FILE = "bundle.json"
HEADS_FILE = "heads.npz"
ADVICE = "install the bundle again"

_SHA256 = re.compile("[0-9a-f]{64}")
_THRESHOLDS = ("look_threshold", "do_not_trust_threshold")


def checked_document(raw: bytes) -> dict[str, Any]:
    """Return bundle.json after checking that all this software reads is there and of the right kind, and that it fits this software.

    Raises InputError.
    """
    try:
        document = json.loads(raw)
        for check in (_check_texts, _check_files, _check_numbers, _check_fit, _check_gate):
            check(document)
        LinkParameters.of(document["detector"].get("link", {}))
    except KeyError as error:
        raise InputError(f"The bundle's {BUNDLE_FILE} lacks {error}; {ADVICE}.") from None
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise InputError(f"The bundle's {BUNDLE_FILE} is not what a bundle has; {ADVICE}.") from None
    return document


def checked_arrays(raw: bytes, document: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the arrays of heads.npz after checking the head of every classifier and what the gate has there. Raises InputError."""
    try:
        with np.load(io.BytesIO(raw), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise ValueError("not finite")
    except (ValueError, OSError, KeyError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error, NotImplementedError):
        raise InputError(f"The bundle's {HEADS_FILE} is not a plain numpy archive of numbers; {ADVICE}.") from None
    shapes = {name: array.shape for name, array in arrays.items()}
    for backbone in document["classifiers"]:
        weight = shapes.get(f"{backbone}.weight", ())
        if len(weight) != 2 or weight[0] != len(HEADS) or shapes.get(f"{backbone}.bias") != (len(HEADS),):
            raise InputError(f"The bundle's {HEADS_FILE} has no head of shape ({len(HEADS)}, channels) for {backbone}; {ADVICE}.")
    if document["gate"].get("lesion"):
        n, channels = (shapes.get("gate.components", ()) + (0, 0))[:2]
        wanted = {"centre": (channels,), "components": (n, channels), "mean": (n + 1,), "precision": (n + 1, n + 1)}
        if not n or any(shapes.get(f"gate.{name}") != shape for name, shape in wanted.items()):
            raise InputError(f"The bundle's {HEADS_FILE} lacks what its gate needs for lesions; {ADVICE}.")
    return arrays


def _check_texts(document: dict[str, Any]) -> None:
    for key in ("name", "version", "intended_use"):
        _demand(isinstance(document[key], str) and document[key].strip(), f"holds no text as {key}")
    _demand(isinstance(document["trained_on"], str | list | dict), "holds no text as trained_on")


def _check_files(document: dict[str, Any]) -> None:
    hashes, networks = document["sha256"], [document["detector"], *document["classifiers"].values()]
    names = {*(network["file"] for network in networks), HEADS_FILE}
    good = all(isinstance(value, str) and _SHA256.fullmatch(value) for value in hashes.values())
    inside = not any(".." in path(name).parts or path(name).is_absolute() for name in hashes for path in (PurePosixPath, PureWindowsPath))
    _demand(good and inside and names <= set(hashes), "does not list a hash for each of its own files and no other")


def _check_numbers(document: dict[str, Any]) -> None:
    detector, classifiers = document["detector"], document["classifiers"]
    for network in (detector, *classifiers.values()):
        _demand(type(network["size"]) is int and network["size"] > 0, "holds a size that is not a whole number above 0")
    _demand(detector["size"] % DETECTOR_STRIDE == 0, f"holds a detector size that is not a multiple of {DETECTOR_STRIDE}")
    temperatures = []
    for backbone, classifier in classifiers.items():
        _demand(set(classifier["temperatures"]) == set(HEADS), f"needs the temperatures {', '.join(HEADS)} for {backbone}")
        temperatures += classifier["temperatures"].values()
        _demand(set(classifier.get("shares") or HEADS) == set(HEADS), f"needs the shares of {', '.join(HEADS)} for {backbone}")
    above_0 = _all_numbers([detector["threshold"], detector["iou_nms"], *temperatures], lambda v: v > 0)
    _demand(above_0, "holds a threshold or temperature that is not a finite number above 0")
    shares = [classifier.get("shares") for classifier in classifiers.values()]
    if any(shares):
        _demand(all(shares), "holds the shares of some classifiers only")
        _demand(_all_numbers([v for one in shares for v in one.values()], lambda v: 0 <= v <= 1), "holds a share that is not from 0 to 1")
        _demand(all(abs(sum(one[head] for one in shares) - 1) < 1e-4 for head in HEADS), "holds shares that do not sum to 1")


def _check_fit(document: dict[str, Any]) -> None:
    classifiers = document["classifiers"]
    if not classifiers or set(classifiers) - set(BACKBONES) or len({c["size"] for c in classifiers.values()}) != 1:
        raise InputError(f"Expected the bundle's classifiers among {', '.join(BACKBONES)}, of one size; {ADVICE}.")
    if tuple(document.get("phases", PHASES)) != PHASES or document.get("k", K) != K:
        raise InputError(f"The bundle wants other phases or slices than {', '.join(PHASES)} x {K}; use the software it was made for.")
    if any(tuple(window) != WINDOWS.get(phase) for phase, window in document.get("windows", {}).items()):
        raise InputError("The bundle was trained with other windows than this software uses; use the software it was made for.")
    if document.get("geometry") != GEOMETRY:
        raise InputError("The bundle was trained on lesions cut out in another way than here; use the software it was made for.")


def _check_gate(document: dict[str, Any]) -> None:
    gate = document["gate"]
    if gate.get("feature_names", list(FEATURES)) != list(FEATURES):
        raise InputError("The bundle's gate was made with other features than this software takes; use the software it was made for.")
    _demand(gate["phases"] and set(gate["phases"]) <= set(PHASES), "has no statistics of phases for its gate")
    for statistics in gate["phases"].values():
        for name, shape in (("mean", 1), ("sd", 1), ("precision", 2)):
            array = np.array(statistics[name], float)
            _demand(array.shape == (len(FEATURES),) * shape and np.isfinite(array).all(), f"holds a gate whose {name} has another shape")
        _demand(np.all(np.array(statistics["sd"]) > 0), "holds a gate whose sd is not above 0")
    for statistics in (*gate["phases"].values(), *([gate["lesion"]] if gate.get("lesion") else [])):
        _demand(_all_numbers([statistics[name] for name in _THRESHOLDS], lambda v: v > 0), "holds a gate threshold that is not above 0")


def _all_numbers(values: Iterable[Any], fits: Callable[[float], bool]) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) and np.isfinite(v) and fits(v) for v in values)


def _demand(holds: object, what: str) -> None:
    if not holds:
        raise InputError(f"The bundle's {BUNDLE_FILE} {what}; {ADVICE}.")
