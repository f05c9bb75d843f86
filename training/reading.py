"""Run a bundle's pipeline on one exam of known truth: what was found, what the networks say there and on the true boxes."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PediatricLiverDxLib.alignment import align
from PediatricLiverDxLib.bundle import Networks, load_networks
from PediatricLiverDxLib.classification import class_probabilities, malignant_probability
from PediatricLiverDxLib.composites import DETECTOR_STRIDE, Roi, composite_slices_of, composites, detector_images, detector_transform
from PediatricLiverDxLib.detection import boxes_of
from PediatricLiverDxLib.diagnosis import diagnose
from PediatricLiverDxLib.exam import read_exam

from .baselines import lesion_features
from .cache import sections
from .cohort import ExamRecord
from .lesion_matching import longest_side_mm, match
from .truth import load_exam, read_lesions

#: Lowest score of a box that counts in the average precision.
LOWEST_SCORE = 0.01


def read_one(record: ExamRecord, bundle: Path, threads: int = 1) -> dict[str, Any]:
    """Return what `evaluate` needs of one exam, as plain JSON values; probabilities as in result.json."""
    networks = _networks(bundle, threads)
    exam = read_exam(files=record.phases)
    aligned = align(exam)
    lesions = read_lesions(record, aligned.grid)
    diagnosis = diagnose(exam, aligned, networks)
    boxes = [lesion.roi.index_box(aligned.grid) for lesion in diagnosis.lesions]
    matching = match([lesion.box for lesion in lesions], boxes)
    return {
        "exam_id": record.exam_id, "patient_id": record.patient_id, "class": record.class_name, "entity": record.entity,
        "age_years": record.age_years,
        "gate": diagnosis.gate.verdict,
        "true_sizes_mm": [round(longest_side_mm(lesion.box, aligned.grid.spacing_xyz), 1) for lesion in lesions],
        "matched": list(matching.detections),
        "false_positives": matching.false_positives,
        "found": [
            {"score": lesion.detection_score, "probabilities": dict(lesion.class_probabilities), "decision": lesion.decision}
            for lesion in diagnosis.lesions
        ],
        "true_rois": [_probabilities(networks, aligned, Roi.from_index_box(aligned.grid, lesion.box)) for lesion in lesions[:1]],
        "composites": _composite_boxes(networks, aligned, lesions),
        "features": lesion_features(aligned, lesions[0]) if lesions else None,
    }


def features_of(record: ExamRecord) -> dict[str, Any] | None:
    """Return baselines.lesion_features of an exam's largest lesion; None where none is marked."""
    aligned, lesions = load_exam(record, align_phases=True)
    return lesion_features(aligned, lesions[0]) if lesions else None


@lru_cache(maxsize=1)
def _networks(bundle: Path, threads: int) -> Networks:
    """Open a bundle once in each process, not once an exam."""
    return load_networks(bundle, threads)


def _probabilities(networks: Networks, aligned, roi: Roi) -> dict[str, Any]:
    """Return the ensemble's and the backbones' class probabilities with all phases, as diagnose has them for this box."""
    images = composites(aligned, roi, networks.composite_size)
    logits = {
        backbone: session.run(["logits"], {"composites": images})[0].astype(float).mean(0) / networks.temperatures[backbone]
        for backbone, session in networks.classifiers.items()
    }
    ensemble = sum(logits[backbone] * networks.shares[backbone] for backbone in logits)
    return {
        "malignant_probability": malignant_probability(ensemble), "probabilities": class_probabilities(ensemble),
        "backbones": {backbone: class_probabilities(own) for backbone, own in logits.items()},
    }


def _composite_boxes(networks: Networks, aligned, lesions) -> list[dict[str, list]]:
    """Return for each depth-matched composite of the largest lesion the boxes found and the true ones, in detector pixels."""
    if not lesions:
        return []
    transform = detector_transform(aligned, networks.detector.size, DETECTOR_STRIDE)
    slices = sorted(set(composite_slices_of(lesions[0].box, aligned.grid.size_xyz[2])))
    (predictions,) = networks.detector.session.run(["predictions"], {"images": detector_images(aligned, transform, slices)})
    found = boxes_of(predictions, LOWEST_SCORE, networks.detector.iou_nms)
    return [
        {"found": np.round(boxes[:100], 4).tolist(), "true": sections(lesions, z, transform)["boxes"]}
        for z, boxes in zip(slices, found, strict=True)
    ]
