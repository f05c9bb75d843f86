"""The classifiers of a bundle are taken over, to the bit, by a bundle whose detector was trained on from it.

They are calibrated anew on the run's validation exams. That bundle has seen none of these: a run that began with it
holds out nobody whom it knows.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PediatricLiverDxLib.bundle import Bundle, read_bundle
from PediatricLiverDxLib.vocabulary import BACKBONES, HEADS, InputError

from .cache import CachedExam
from .classifiers import LesionLogits, lesion_logits
from .onnx_export import open_session
from .seen_exams import seen_before
from .tuning import Calibration, fit_ensemble, heads_with_few_exams

#: What a bundle says of how its own networks were trained.
_ACCOUNT = ("exams", "patients", "configuration", "classifier_settings", "began_with", "commands")


@dataclass(frozen=True)
class BundleClassifiers:
    """A bundle's classifiers: backbone -> ONNX file; heads as in heads.npz; calibration: by backbone.

    origin: the bundle whose run trained them, as it is kept in bundle.json (see `_origin`).
    """

    files: dict[str, bytes]
    heads: dict[str, np.ndarray]
    calibration: dict[str, Calibration]
    origin: dict[str, Any]


def take_classifiers(folder: Path, run: Path) -> BundleClassifiers:
    """Return the classifiers of the bundle in `folder` for a bundle made of `run`.

    Raises InputError when the run did not begin with this bundle: it may then hold out exams that the classifiers know, and they would be
    calibrated on these.
    """
    bundle = read_bundle(folder)
    name = f"{bundle.info.name} {bundle.info.version}"
    before, training = seen_before(run), bundle.document.get("training", {})
    if before is None or before["seen"] != training.get("seen"):
        raise InputError(
            f"{run.name} did not begin with {name}, whose classifiers may know its validation exams; train a detector with --start "
            f"{folder.name} first, and export that run"
        )
    classifiers = bundle.document["classifiers"]
    backbones = [backbone for backbone in BACKBONES if backbone in classifiers]
    return BundleClassifiers(
        files={backbone: bundle.files[classifiers[backbone]["file"]] for backbone in backbones},
        heads={f"{backbone}.{part}": bundle.arrays[f"{backbone}.{part}"] for backbone in backbones for part in ("weight", "bias")},
        calibration=calibration_of(bundle),
        origin=_origin(bundle, name),
    )


def calibration_of(bundle: Bundle) -> dict[str, Calibration]:
    """Return a bundle's calibration by backbone."""
    return {
        backbone: {
            "temperatures": dict(zip(HEADS, bundle.temperatures(backbone).tolist(), strict=True)),
            "shares": dict(zip(HEADS, bundle.shares(backbone).tolist(), strict=True)),
        }
        for backbone in BACKBONES if backbone in bundle.document["classifiers"]
    }


def calibrated_anew(
    before: Mapping[str, Calibration], logits: Mapping[str, LesionLogits]
) -> tuple[dict[str, Calibration], list[str]]:
    """Return the backbones' calibration, fitted on `logits`, and the heads that keep that of `before` for want of exams.

    A head is fitted on FEWEST_FOR_SHARES exams of its own or more, of both sides.
    """
    fitted = fit_ensemble(logits)
    kept = heads_with_few_exams(next(iter(logits.values())))
    for backbone, part in itertools.product(fitted, ("temperatures", "shares")):
        fitted[backbone][part] |= {head: before[backbone][part][head] for head in kept}
    return fitted, kept


def logits_of(network: Path, exams: Sequence[CachedExam]) -> LesionLogits:
    """Return the logits of every cached lesion by an exported classifier, as classifiers.predict does by a trained one."""
    session = open_session(network)
    return lesion_logits(exams, lambda composites: session.run(["logits"], {"composites": composites})[0])


def _origin(bundle: Bundle, name: str) -> dict[str, Any]:
    """Return {"bundle": name and version, "trained_on", "phantoms", and its own account of the training} of the bundle that trained them.

    A bundle has trained all of its classifiers or has taken all over, and then hands on where they came from.
    """
    training = bundle.document["training"]
    own = {"bundle": name, "trained_on": bundle.info.trained_on, "phantoms": bool(training.get("phantoms"))}
    kept = {key: training[key] for key in _ACCOUNT if key in training}
    if "began_with" in kept:
        kept["began_with"] = {network: origin for network, origin in kept["began_with"].items() if network in BACKBONES}
    return training.get("classifiers_of", own | kept)
