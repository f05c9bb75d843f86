"""The classifiers of a bundle are taken over, to the bit, by a bundle whose detector was trained on from it.

They are calibrated anew on the run's validation exams, none of which that bundle has seen: a run that began with it holds out nobody else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PediatricLiverDxLib.bundle import Bundle, read_bundle
from PediatricLiverDxLib.vocabulary import BACKBONES, InputError

from .cache import CachedExam
from .classifiers import LesionLogits, lesion_logits
from .onnx_export import open_session
from .seen_exams import seen_before

#: What a bundle says of how its own networks were trained.
_ACCOUNT = ("exams", "patients", "configuration", "commands")


@dataclass(frozen=True)
class BundleClassifiers:
    """A bundle's classifiers: backbone -> ONNX file; heads as in heads.npz; origin as in bundle.json (see `_origin`)."""

    files: dict[str, bytes]
    heads: dict[str, np.ndarray]
    origin: dict[str, Any]
    differences: dict[str, float]


def take_classifiers(folder: Path, run: Path) -> BundleClassifiers:
    """Return the classifiers of the bundle in `folder` for a bundle made of `run`.

    Raises InputError when the run trained classifiers itself, or did not begin with this bundle: it may then hold out exams that the
    classifiers know, and they would be calibrated on these.
    """
    bundle = read_bundle(folder)
    name = f"{bundle.info.name} {bundle.info.version}"
    own = [backbone for backbone in BACKBONES if (run / "classifiers" / backbone / "weights.safetensors").is_file()]
    if own:
        raise InputError(f"{run.name} has trained {', '.join(own)} itself; leave --classifiers-of out, or give a run without classifiers")
    before, training = seen_before(run), bundle.document.get("training", {})
    if before is None or before["seen"] != training.get("seen"):
        raise InputError(
            f"{run.name} did not begin with {name}, whose classifiers may know its validation exams; train a detector with --start "
            f"{folder.name} first, and export that run"
        )
    classifiers = bundle.document["classifiers"]
    backbones = [backbone for backbone in BACKBONES if backbone in classifiers]
    known = training.get("torch_onnx_differences", {})
    return BundleClassifiers(
        files={backbone: bundle.files[classifiers[backbone]["file"]] for backbone in backbones},
        heads={f"{backbone}.{part}": bundle.arrays[f"{backbone}.{part}"] for backbone in backbones for part in ("weight", "bias")},
        origin=_origin(bundle, name),
        differences={backbone: known[backbone] for backbone in backbones if backbone in known},
    )


def logits_of(network: Path, exams: Sequence[CachedExam]) -> LesionLogits:
    """Return the logits of every cached lesion by an exported classifier, as classifiers.predict does by a trained one."""
    session = open_session(network)
    return lesion_logits(exams, lambda composites: session.run(["logits"], {"composites": composites})[0])


def _origin(bundle: Bundle, name: str) -> dict[str, Any]:
    """Return the bundle whose run trained the classifiers, {"bundle", "trained_on", and its own account of that training}.

    A bundle has trained all of its classifiers or has taken all over, and then hands on where they came from.
    """
    training = bundle.document["training"]
    own = {"bundle": name, "trained_on": bundle.info.trained_on, **{key: training[key] for key in _ACCOUNT if key in training}}
    return training.get("classifiers_of", own)
