"""A bundle's networks stay as they are; what decides on their answers is chosen anew on exams that none of them has seen.

For a hospital with too few exams to train on, and for a change in how boxes become lesions. The detector's thresholds and linking are those
of tuning.choose_link, temperatures and shares those of tuning.fit_ensemble; what there are too few exams for stays the bundle's. The gate
stays: it knows what the networks were trained on.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PediatricLiverDxLib.bundle import Networks, load_networks, read_bundle
from PediatricLiverDxLib.composites import Roi, composites
from PediatricLiverDxLib.vocabulary import CLASSES, HEADS, NO_TUMOUR, InputError

from .bundle_classifiers import calibrated_anew, calibration_of
from .classifiers import LesionLogits
from .cohort import ExamRecord, is_phantom
from .export import detection_of, refuse_foreign, replace_bundle, write_document
from .processes import in_processes
from .seen_exams import describe_seen
from .truth import load_exam
from .tuning import FEWEST_FOR_SHARES, ExamBoxes, boxes_of_exam, choose_link


def calibrate_bundle(
    records: Sequence[ExamRecord], bundle: Path, folder: Path, *, version: str, commands: Sequence[str] = (), workers: int = 1
) -> dict[str, Any]:
    """Write the bundle `folder`, `bundle` with thresholds and calibration chosen on `records`; return what its card says of that.

    None of the records may be among what the bundle has seen; see seen_exams.refuse_seen. The new bundle appears whole, in the place of an
    older one, or not at all, and is not measured yet. Raises InputError for fewer than FEWEST_FOR_SHARES exams with a tumour.
    """
    target = Path(folder)
    refuse_foreign(target)
    if (tumours := sum(record.class_name != NO_TUMOUR for record in records)) < FEWEST_FOR_SHARES:
        raise InputError(f"expected {FEWEST_FOR_SHARES} exams with a tumour or more to choose by, got {tumours}; keep the bundle as it is")
    if Path(bundle).resolve() in (target.resolve(), *target.resolve().parents):
        raise InputError(f"{target.name} is the bundle itself or lies in it, and the bundle is to stay as it is; give another folder")
    before = read_bundle(bundle)
    document = dict(before.document)
    training = dict(document.get("training", {}))
    if not training.get("seen"):
        raise InputError(f"{Path(bundle).name} does not say which exams it was trained on; calibrate a bundle that does")
    found = in_processes(_read_one, [(record, Path(bundle)) for record in records], workers, "calibrate")
    # what is marked in an exam without a tumour is for the detector alone
    marked = [(record, logits) for record, (_, logits) in zip(records, found, strict=True) if logits and record.class_name != NO_TUMOUR]
    if len(marked) < FEWEST_FOR_SHARES:
        raise InputError(f"expected a marked lesion in {FEWEST_FOR_SHARES} exams with a tumour or more, got {len(marked)}; mark more")
    calibration, kept = calibrated_anew(
        calibration_of(before), {backbone: _lesion_logits(marked, backbone) for backbone in document["classifiers"]}
    )
    document["classifiers"] = {name: {**item, **calibration[name]} for name, item in document["classifiers"].items()}
    choice = choose_link([boxes for boxes, _ in found])
    document["detector"] = {**document["detector"], **detection_of(choice)}
    account = {
        "bundle": f"{before.info.name} {before.info.version}",
        "exams": len(records), "patients": len({record.patient_id for record in records}), "kept": kept, "commands": list(commands),
    }
    document |= {
        "version": version, "metrics": {},
        "training": {**training, "seen": describe_seen(records, training.get("seen")), "calibration": account},
    }
    if not all(map(is_phantom, records)):
        # the networks may still know phantoms only, which stays said; that nobody's exam had a part in the bundle is true no more
        document["trained_on"] = f"networks: {document['trained_on']}; thresholds and calibration: {len(records)} exams, not all phantoms"
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name, content in before.files.items():
        (part / name).write_bytes(content)
    write_document(part, document)
    replace_bundle(target, part)
    return account


def _read_one(record: ExamRecord, bundle: Path) -> tuple[ExamBoxes, dict[str, np.ndarray]]:
    """Return the detector's boxes, and each backbone's logits (head,) of the largest lesion; none where no lesion is marked."""
    networks = _networks(bundle)
    aligned, lesions = load_exam(record, align_phases=True)
    boxes = boxes_of_exam(aligned, lesions, networks.detector.session, networks.detector.size, networks.detector.iou_nms)
    if not lesions:
        return boxes, {}
    images = composites(aligned, Roi.from_index_box(aligned.grid, lesions[0].box), networks.composite_size)
    return boxes, {
        backbone: session.run(["logits"], {"composites": images})[0].mean(0) for backbone, session in networks.classifiers.items()
    }


@lru_cache(maxsize=1)
def _networks(bundle: Path) -> Networks:
    """Open a bundle once in each process, not once an exam."""
    return load_networks(bundle, 1)


def _lesion_logits(marked: Sequence[tuple[ExamRecord, dict[str, np.ndarray]]], backbone: str) -> LesionLogits:
    return LesionLogits(
        np.array([record.exam_id for record, _ in marked]), np.array([CLASSES.index(record.class_name) for record, _ in marked], int),
        np.zeros(len(marked), int), np.array([logits[backbone] for _, logits in marked], np.float32).reshape(-1, len(HEADS)),
    )
