"""A run's trained networks become a bundle: ONNX files, heads, temperatures, detector thresholds, gate statistics, model card."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PediatricLiverDxLib.composites import COMPOSITE_SIZE, DETECTOR_SIZE, GEOMETRY
from PediatricLiverDxLib.exam import read_exam
from PediatricLiverDxLib.exam_features import exam_features
from PediatricLiverDxLib.gate import EMBEDDING_BACKBONE, fit_gate
from PediatricLiverDxLib.vocabulary import BACKBONES, PHASES, WINDOWS, InputError, K

from .bundle_classifiers import BundleClassifiers, calibrated_anew, logits_of, take_classifiers
from .cache import CachedExam
from .classifiers import LesionLogits, load_backbone
from .cohort import ExamRecord, is_phantom, knows_phantoms_only, patients_of_weights
from .configuration import Configuration, classifier_settings_of_run, own_settings
from .detector import NMS_IOU, build_detector, enlarged
from .model_card import model_card
from .onnx_export import export_classifier, export_detector, open_session
from .origins import read_origin
from .plain_json import write_json
from .processes import in_processes
from .seen_exams import describe_seen, seen_before
from .truth import draw_uniform, load_exam
from .tuning import ExamBoxes, LinkChoice, boxes_of_exam, choose_link, fit_ensemble

INTENDED_USE = "Research and teaching. Not a medical device; not for diagnosis or treatment."
PHANTOMS_ONLY = "Trained on computer-made phantoms only, never on a patient."
CLASSIFIERS_OF_PHANTOMS = "Its classifiers were trained on computer-made phantoms only, never on a patient."


def export_bundle(
    run: Path, exams: dict[str, Sequence[CachedExam]], records: dict[str, Sequence[ExamRecord]], configuration: Configuration, folder: Path,
    *, name: str, version: str, trained_on: str, intended_use: str | None = None, commands: Sequence[str] = (), gate_exams: int = 300,
    workers: int = 1, classifiers_of: Path | None = None,
) -> dict[str, float]:
    """Write the bundle `folder` from the run's weights; return the largest difference between torch and ONNX Runtime by network.

    classifiers_of: folder of the bundle that the run began with: its classifiers are taken over to the bit, and calibrated anew.

    exams and records: "train" and "validation". Temperatures, thresholds and the gate's lesion statistics come from validation exams, the
    gate's exam statistics from `gate_exams` of all. The bundle appears whole, in the place of an older one, or not at all.
    """
    run, target = Path(run), Path(folder)
    refuse_foreign(target)
    differences: dict[str, float] = {}
    trained = [backbone for backbone in BACKBONES if (run / "classifiers" / backbone / "weights.safetensors").is_file()]
    if not (run / "detector" / "weights.safetensors").is_file():
        raise InputError(f"{run.name} holds no trained detector; run the step detector first")
    if trained and classifiers_of:
        names = ", ".join(trained)
        raise InputError(f"{run.name} has trained {names} itself; leave --classifiers-of out, or give a run without classifiers")
    if not trained and not classifiers_of:
        raise InputError(f"{run.name} holds no trained classifiers; run the step classifiers first, or give --classifiers-of")
    taken = take_classifiers(classifiers_of, run) if classifiers_of else None
    folder = target.with_name(target.name + ".part")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    before = seen_before(run)
    seen = before["seen"] if before else None
    phantoms = only_phantoms(records, run, before)
    account: dict[str, Any] = {"configuration": asdict(configuration)}
    # what trained them need not be what trained the detector, nor the same for all
    del account["configuration"]["classifiers"]
    if trained:
        account["classifier_settings"] = {
            backbone: own_settings(classifier_settings_of_run(run, backbone), backbone) for backbone in trained
        }
    origins = {one.name: read_origin(one) for one in (run / "detector", *(run / "classifiers" / name for name in trained))}
    account["began_with"] = {name: origin for name, origin in origins.items() if origin}
    if taken:
        arrays, logits = dict(taken.heads), {}
        for backbone, content in taken.files.items():
            (folder / f"{backbone}.onnx").write_bytes(content)
            logits[backbone] = logits_of(folder / f"{backbone}.onnx", exams["validation"])
        calibration, kept = calibrated_anew(taken.calibration, logits)
        account |= {"classifiers_of": taken.origin, "calibration_kept": kept}
        account["trained_on"] = trained_on
        trained_on = both_trained_on(trained_on, taken.origin["trained_on"])
    else:
        arrays, logits = {}, {}
        for backbone in trained:
            model = load_backbone(backbone, run / "classifiers" / backbone / "weights.safetensors")
            export_classifier(model, folder / f"{backbone}.onnx", COMPOSITE_SIZE)
            arrays[f"{backbone}.weight"] = model.head.weight.detach().numpy()
            arrays[f"{backbone}.bias"] = model.head.bias.detach().numpy()
            differences[backbone] = _classifier_difference(model, folder / f"{backbone}.onnx", exams["validation"])
            logits[backbone] = LesionLogits.load(run / "classifiers" / backbone / "validation.npz")
        calibration = fit_ensemble(logits)
    classifiers = {backbone: {"file": f"{backbone}.onnx", "size": COMPOSITE_SIZE, **calibration[backbone]} for backbone in logits}
    detector = build_detector(configuration.detector, run / "detector" / "weights.safetensors")
    export_detector(detector, folder / "detector.onnx", DETECTOR_SIZE)
    differences["detector"] = _detector_difference(detector, folder / "detector.onnx", exams["validation"])

    jobs = [(record, folder / "detector.onnx") for record in records["validation"]]
    choice = choose_link(in_processes(_boxes_of_exam, jobs, workers, "detector"))
    gate, gate_arrays = fit_gate(
        _gate_features([*records["train"], *records["validation"]], gate_exams, configuration.seed, workers),
        _lesion_embeddings(folder, list(classifiers), exams["validation"]),
    )
    np.savez(folder / "heads.npz", **arrays, **gate_arrays)
    document = {
        "name": name,
        "version": version,
        "licence": "Apache-2.0",
        "intended_use": intended_use or intended_use_of(phantoms, taken),
        "trained_on": trained_on,
        "phases": list(PHASES),
        "windows": {phase: list(window) for phase, window in WINDOWS.items()},
        "k": K,
        "geometry": dict(GEOMETRY),
        "detector": {
            "file": "detector.onnx", "size": DETECTOR_SIZE, "iou_nms": NMS_IOU, **detection_of(choice),
        },
        "classifiers": classifiers,
        "gate": gate,
        "training": {
            "phantoms": phantoms,
            "calibrated": "ensemble",
            "seen": describe_seen((record for split in records.values() for record in split), seen, patients_of_weights(run)),
            "exams": {split: len(records[split]) for split in records},
            "patients": {split: len({record.patient_id for record in records[split]}) for split in records},
            **account, "commands": list(commands), "torch_onnx_differences": differences,
        },
        "metrics": {},
    }
    write_document(folder, document)
    replace_bundle(target, folder)
    return differences


def detection_of(choice: LinkChoice) -> dict[str, Any]:
    """Return what stands in bundle.json of the chosen thresholds."""
    return {
        "threshold": choice.threshold, "link": asdict(choice.link),
        "validation": {"sensitivity_3d": choice.sensitivity, "false_positives_per_exam": choice.false_positives_per_exam},
    }


def both_trained_on(detector: str, classifiers: str) -> str:
    """Return what a bundle was trained on whose classifiers are another's, from the two sentences."""
    return detector if detector == classifiers else f"detector: {detector}; classifiers: {classifiers}"


def intended_use_of(phantoms: bool, taken: BundleClassifiers | None) -> str:
    """Return a bundle's intended use where none is given. phantoms: it knows no patient; taken: classifiers of another bundle."""
    if phantoms:
        return f"{INTENDED_USE} {PHANTOMS_ONLY}"
    return f"{INTENDED_USE} {CLASSIFIERS_OF_PHANTOMS}" if taken and taken.origin["phantoms"] else INTENDED_USE


def only_phantoms(records: dict[str, Sequence[ExamRecord]], run: Path, before: Mapping[str, Any] | None) -> bool:
    """Say whether every exam is a phantom, and so is everyone whom the run's weights know, those that it began with included.

    before: as seen_exams.seen_before returns it.
    """
    every = (one for split in records.values() for one in split)
    return (before is None or before["phantoms"]) and knows_phantoms_only(run) and all(map(is_phantom, every))


def describe_training(records: dict[str, Sequence[ExamRecord]], run: Path) -> str:
    """Return what a bundle of phantoms was trained on, in one sentence; raise InputError when there are other exams."""
    if not only_phantoms(records, run, seen_before(run)):
        raise InputError(
            "the exams, or those of the bundle that the run began with, are not all phantoms; say in one sentence with --trained-on what "
            "the bundle was trained on"
        )
    return "computer-made four-phase CT phantoms of children; no patient data"


def refuse_foreign(target: Path) -> None:
    """Raise InputError when a bundle cannot be put into the place of `target` without loss of something else."""
    if target.exists() and not (target / "bundle.json").is_file() and any(target.iterdir()):
        raise InputError(f"{target.name} holds something that is no bundle; give a new folder, an empty one, or that of an older bundle")


def replace_bundle(target: Path, finished: Path) -> None:
    """Put the finished folder in the place of `target`."""
    old = target.with_name(target.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    finished.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def write_document(folder: Path, document: dict) -> None:
    """Write MODEL_CARD.md and then bundle.json with the hashes of the files that `document` names; hashes in it are replaced."""
    (folder / "MODEL_CARD.md").write_text(model_card(document), encoding="utf-8")
    named = {document["detector"]["file"], *(classifier["file"] for classifier in document["classifiers"].values())}
    names = sorted({*named, "heads.npz", "MODEL_CARD.md"})
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    write_json(folder / "bundle.json", {**document, "sha256": hashes})


def _classifier_difference(model: torch.nn.Module, path: Path, exams: Sequence[CachedExam]) -> float:
    images = [exam.composites[0] for exam in exams if len(exam.lesions)][:8]
    if not images:
        return float("nan")
    composites = np.concatenate(images).astype(np.float32) / 255
    (found,) = open_session(path).run(["logits"], {"composites": composites})
    with torch.inference_mode():
        return float(np.abs(found - model(torch.from_numpy(composites))[1].numpy()).max())


def _detector_difference(model: torch.nn.Module, path: Path, exams: Sequence[CachedExam]) -> float:
    """Return the largest difference of a score."""
    images = np.concatenate([enlarged(exam.images[:2]) for exam in exams[:6]])
    (found,) = open_session(path).run(["predictions"], {"images": images})
    with torch.inference_mode():
        return float(np.abs(found[:, 4] - model(torch.from_numpy(images))[0][:, 4].numpy()).max())


def _boxes_of_exam(record: ExamRecord, detector: Path) -> ExamBoxes:
    aligned, lesions = load_exam(record, align_phases=True)
    return boxes_of_exam(aligned, lesions, open_session(detector, 1), DETECTOR_SIZE, NMS_IOU)


def _features_of_exam(record: ExamRecord) -> dict[str, np.ndarray]:
    return exam_features(read_exam(files=record.phases))


def _gate_features(records: Sequence[ExamRecord], most: int, seed: int, workers: int) -> dict[str, np.ndarray]:
    chosen = sorted(records, key=lambda record: draw_uniform(seed, "gate", record.exam_id))[:most]
    found = in_processes(_features_of_exam, [(record,) for record in chosen], workers, "gate")
    by_phase = {phase: [one[phase] for one in found if phase in one] for phase in PHASES}
    # statistics of a handful of exams would call everything strange
    return {phase: np.stack(rows) for phase, rows in by_phase.items() if len(rows) >= 5}


def _lesion_embeddings(folder: Path, backbones: Sequence[str], exams: Sequence[CachedExam]) -> np.ndarray:
    """Return (lesion, channel), gate.lesion_embedding of cached lesions in the order of `gate_rows`."""
    session = open_session(folder / f"{EMBEDDING_BACKBONE if EMBEDDING_BACKBONE in backbones else backbones[0]}.onnx")
    rows = [
        session.run(["feature_map"], {"composites": composites.astype(np.float32) / 255})[0].mean((0, 2, 3))
        for exam in exams for composites in exam.composites
    ]
    owners = np.repeat(np.arange(len(exams)), [len(exam.composites) for exam in exams])
    return np.array(rows)[gate_rows(owners)]


def gate_rows(owners: np.ndarray, folds: int = 5) -> np.ndarray:
    """Return the order in which lesions go to gate.fit_gate, whose fold of a row is its place modulo `folds`, so that no exam is in two.

    owners: (lesion,) exam of each. Exams with many lesions are dealt first, each to the shortest fold; what makes a fold longer than the
    shortest is left out, a few lesions of many.
    """
    dealt: list[list[int]] = [[] for _ in range(folds)]
    exams, counts = np.unique(owners, return_counts=True)
    for exam in exams[np.argsort(-counts, kind="stable")]:
        min(dealt, key=len).extend(np.flatnonzero(owners == exam).tolist())
    return np.array([fold[place] for place in range(min(map(len, dealt))) for fold in dealt], int)
