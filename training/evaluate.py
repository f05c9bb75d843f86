"""Measure a bundle: its whole pipeline on exams of known truth in, metrics.json and the bundle's metrics out.

An exam counts by its class. With the detector's ROIs its probabilities are those of the detected lesion with the highest detection score,
whatever that lesion is; an exam without any detection counts as undecided (probability 0.5 in every head). On true ROIs they are those of
its largest lesion. A lesion is found when a detection overlaps its box by a 3D intersection over union of at least
lesion_matching.HIT_IOU; every other detection is a false positive. Average precision is on the K depth-matched composites of the largest
lesion. Exams without a tumour are measured on their own: what is found in them is false. All intervals are bootstrapped over patients.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PediatricLiverDxLib.bundle import read_bundle
from PediatricLiverDxLib.gate import TRUST, VERDICTS
from PediatricLiverDxLib.vocabulary import BENIGN, CLASSES, HEADS, MALIGNANT, NO_TUMOUR
from tqdm import tqdm

from .average_precision import match_image, precision_area
from .baselines import baseline_scores, cached_features
from .cache import CachedExam
from .cohort import ExamRecord
from .lesion_matching import HIT_IOU
from .plain_json import plain
from .processes import in_processes, process_pool
from .reading import features_of, read_one
from .sources import source_key
from .statistics import auc_with_interval, bootstrap_interval, calibration_error

MAP_IOU = 0.40
#: Bounds of the sizes by which found lesions are counted.
SIZES_MM = (10.0, 20.0, 40.0)
#: Smaller lesions are mostly too small to be characterised on CT; sensitivity is given for all and for those from this longest side, mm.
MEASURABLE_MM = 10.0
#: Classes of each head, the positive one last.
SIDES = {"stage1": (BENIGN, MALIGNANT), "benign_subtype": (("HH",), ("OBHT",)), "malignant_subtype": (("HB",), ("OMHT",))}


@dataclass(frozen=True)
class KnownLesion:
    """What a baseline is fitted on: baselines.lesion_features of an exam's largest lesion, the child's age in years, the truth."""

    features: dict[str, Any]
    age_years: float | None
    malignant: bool


def read_exams(records: Sequence[ExamRecord], bundle: Path, folder: Path, *, workers: int = 1) -> list[dict[str, Any]]:
    """Run the pipeline on every exam; what `folder` holds already of the same networks and files is kept. In the order of `records`.

    A line that an interrupted run left unfinished is dropped and its exam read again.
    """
    bundle, path = Path(bundle), Path(folder) / "exams.jsonl"
    key = networks_key(bundle)
    sources = {record.exam_id: source_key(record) for record in records}
    done = {
        line["exam_id"]: line for line in _whole_lines(path)
        if line["networks"] == key and line.get("source") == sources.get(line["exam_id"], "")
    }
    missing = [record for record in records if record.exam_id not in done]
    with path.open("a", encoding="utf-8") as file, tqdm(total=len(missing), desc="evaluate", unit="exam", disable=not missing) as bar:

        def keep(found: dict[str, Any]) -> None:
            done[found["exam_id"]] = {**found, "networks": key, "source": sources[found["exam_id"]]}
            file.write(json.dumps(done[found["exam_id"]]) + "\n")
            file.flush()
            bar.update()

        if workers <= 1:
            for record in missing:
                keep(read_one(record, bundle))
        else:
            with process_pool(workers) as pool:
                for future in as_completed([pool.submit(read_one, record, bundle) for record in missing]):
                    keep(future.result())
    return [done[record.exam_id] for record in records]


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a JSON lines file; a last one without its end is cut off the file."""
    if not path.is_file():
        return []
    raw = path.read_bytes()
    whole = raw[: raw.rfind(b"\n") + 1]
    if len(whole) < len(raw):
        part = path.with_name(path.name + ".part")
        part.write_bytes(whole)
        part.replace(path)
    return [json.loads(line) for line in whole.decode().splitlines()]


def networks_key(bundle: Path) -> str:
    """Return a hash of all that decides a bundle's answers; its metrics and model card do not."""
    document = dict(read_bundle(bundle).document)
    document.pop("metrics", None)
    document["sha256"] = {name: value for name, value in document["sha256"].items() if name != "MODEL_CARD.md"}
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]


def measure(exams: Sequence[dict[str, Any]], *, draws: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Return metrics.json of the exams that `read_exams` read; what they cannot tell (no exam of a class) is None."""
    every, exams = exams, [exam for exam in exams if exam["class"] != NO_TUMOUR]
    tumour_free = [exam for exam in every if exam["class"] == NO_TUMOUR]
    patients = np.array([exam["patient_id"] for exam in exams])
    found = [_pipeline_probabilities(exam) for exam in exams]
    true = [exam["true_rois"][0]["probabilities"] if exam["true_rois"] else None for exam in exams]
    malignant = np.array([exam["class"] in MALIGNANT for exam in exams])
    return plain({
        "exams": len(exams),
        "patients": len(np.unique(patients)),
        "tumour_free": _tumour_free(tumour_free, draws, seed) if tumour_free else None,
        "pipeline": {
            "detection": _detection(exams, patients, draws, seed),
            **_heads(exams, found, patients, draws, seed),
            "calibration_error": calibration_error(malignant, np.array([_head_score(one, "stage1") for one in found])),
            "accuracy": _accuracy(exams, found),
            "exams_without_detection": sum(not exam["found"] for exam in exams),
        },
        "true_rois": {
            **_heads(exams, true, patients, draws, seed),
            "accuracy": _accuracy(exams, true),
            "backbones": _backbones(exams, patients, draws, seed),
        },
        "gate": {verdict: sum(exam["gate"] == verdict for exam in every) for verdict in VERDICTS},
        "stage1_by_verdict": _by_verdict(exams, found, patients, draws, seed),
        "entities": _entities(exams, found, true),
        "definitions": {
            "hit_iou_3d": HIT_IOU, "map_iou": MAP_IOU, "measurable_mm": MEASURABLE_MM, "bootstrap_draws": draws,
            "interval": "95 % percentile, over patients",
        },
    })


def measure_baselines(exams: Sequence[dict[str, Any]], train: Sequence[KnownLesion], *, draws: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Return the AUC of each baseline for malignant on `exams`, fitted on `train`."""
    labels = np.array([one.malignant for one in train])
    with_truth = [exam for exam in exams if exam["features"]]
    rows = [(exam["features"], exam["age_years"]) for exam in with_truth]
    scores = baseline_scores([(one.features, one.age_years) for one in train], labels, rows)
    malignant = np.array([exam["class"] in MALIGNANT for exam in with_truth])
    patients = np.array([exam["patient_id"] for exam in with_truth])
    return {name: auc_with_interval(malignant, score, patients, draws=draws, seed=seed) for name, score in scores.items()}


def known_of_cache(exams: Sequence[CachedExam], ages: dict[str, float | None]) -> list[KnownLesion]:
    """Return the largest lesions of cached exams; ages in years by exam_id."""
    return [
        KnownLesion(cached_features(exam), ages[exam.exam_id], CLASSES[exam.class_index] in MALIGNANT)
        for exam in exams if exam.lesions and exam.class_index >= 0
    ]


def known_of_records(records: Sequence[ExamRecord], workers: int) -> list[KnownLesion]:
    """Return the largest lesions of exams as they lie."""
    found = in_processes(features_of, [(record,) for record in records], workers, "regression")
    return [
        KnownLesion(features, record.age_years, record.class_name in MALIGNANT)
        for record, features in zip(records, found, strict=True) if features and record.class_name != NO_TUMOUR
    ]


def _pipeline_probabilities(exam: dict[str, Any]) -> dict[str, float] | None:
    return max(exam["found"], key=lambda lesion: lesion["score"])["probabilities"] if exam["found"] else None


def _head_score(probabilities: dict[str, float] | None, head: str) -> float:
    """Return the probability of a head's positive side given its two sides; 0.5 where nothing is known."""
    if probabilities is None:
        return 0.5
    negative, positive = (sum(probabilities[name] for name in side) for side in SIDES[head])
    return positive / (negative + positive) if negative + positive > 0 else 0.5


def _heads(exams: Sequence[dict], found: Sequence[dict | None], patients: np.ndarray, draws: int, seed: int) -> dict[str, dict]:
    result = {}
    for head in HEADS:
        negative, positive = SIDES[head]
        own = np.array([exam["class"] in (*negative, *positive) for exam in exams])
        labels = np.array([exam["class"] in positive for exam in exams])[own]
        scores = np.array([_head_score(one, head) for one in found])[own]
        result[head] = auc_with_interval(labels, scores, patients[own], draws=draws, seed=seed)
    return result


def _backbones(exams: Sequence[dict], patients: np.ndarray, draws: int, seed: int) -> dict[str, dict]:
    first = [exam["true_rois"][0]["backbones"] if exam["true_rois"] else {} for exam in exams]
    names = sorted({name for backbones in first for name in backbones})
    return {name: _heads(exams, [backbones.get(name) for backbones in first], patients, draws, seed) for name in names}


def _decision(probabilities: dict[str, float]) -> str:
    side = MALIGNANT if _head_score(probabilities, "stage1") >= 0.5 else BENIGN
    return max(side, key=lambda name: probabilities[name])


def _accuracy(exams: Sequence[dict], found: Sequence[dict | None]) -> float:
    """Return the share of exams whose class of four is right; an exam without a detection is wrong."""
    return float(np.mean([one is not None and _decision(one) == exam["class"] for exam, one in zip(exams, found, strict=True)]))


def _detection(exams: Sequence[dict], patients: np.ndarray, draws: int, seed: int) -> dict[str, Any]:
    images = [[match_image(np.array(one["found"]), np.array(one["true"]), MAP_IOU) for one in exam["composites"]] for exam in exams]
    lesions, hits = _lesions_and_hits(exams, 0.0)
    measurable, measurable_hits = _lesions_and_hits(exams, MEASURABLE_MM)
    false = np.array([exam["false_positives"] for exam in exams], float)
    largest = np.array([bool(exam["matched"]) and exam["matched"][0] is not None for exam in exams], float)

    def interval(statistic, times: int = draws) -> list[float] | None:
        found = bootstrap_interval(statistic, patients, draws=times, seed=seed)
        return list(found.bounds) if found.bounds else None

    return {
        "map40": precision_area([image for exam in images for image in exam]),
        # each draw sorts all boxes: fewer draws
        "map40_ci95": interval(lambda rows: precision_area([image for row in rows for image in images[row]]), min(draws, 500)),
        "sensitivity_3d": float(hits.sum() / max(1.0, lesions.sum())),
        "sensitivity_3d_ci95": interval(lambda rows: float(hits[rows].sum() / max(1.0, lesions[rows].sum()))),
        "sensitivity_3d_measurable": float(measurable_hits.sum() / max(1.0, measurable.sum())),
        "sensitivity_3d_measurable_ci95": interval(lambda rows: float(measurable_hits[rows].sum() / max(1.0, measurable[rows].sum()))),
        "sensitivity_largest": float(largest.mean()),
        "sensitivity_largest_ci95": interval(lambda rows: float(largest[rows].mean())),
        "false_positives_per_exam": float(false.mean()),
        "false_positives_per_exam_ci95": interval(lambda rows: float(false[rows].mean())),
        "lesions": int(lesions.sum()),
        "lesions_measurable": int(measurable.sum()),
        "by_size": _by_size(exams),
        "hit_iou": HIT_IOU,
    }


def _lesions_and_hits(exams: Sequence[dict], smallest_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Return for each exam how many lesions of at least `smallest_mm` there are, and how many of them were found."""
    counted = [[place for place, size in zip(exam["matched"], exam["true_sizes_mm"], strict=True) if size >= smallest_mm] for exam in exams]
    return np.array([len(one) for one in counted], float), np.array([sum(place is not None for place in one) for one in counted], float)


def _by_size(exams: Sequence[dict]) -> list[dict[str, Any]]:
    """Return how many lesions of each size there are and how many were found; a lesion's size is the longest side of its box."""
    bounds = zip((0.0, *SIZES_MM), (*SIZES_MM, np.inf), strict=True)
    pairs = [pair for exam in exams for pair in zip(exam["true_sizes_mm"], exam["matched"], strict=True)]
    return [
        {
            "from_mm": low, "to_mm": high if np.isfinite(high) else None, "lesions": sum(low <= size < high for size, _ in pairs),
            "found": sum(low <= size < high and place is not None for size, place in pairs),
        }
        for low, high in bounds
    ]


def _tumour_free(exams: Sequence[dict], draws: int, seed: int) -> dict[str, Any]:
    """Return in how many exams without a tumour nothing was found, how many false lesions an exam has, and how many the gate trusts."""
    patients = np.array([exam["patient_id"] for exam in exams])
    false = np.array([len(exam["found"]) for exam in exams], float)
    clean = bootstrap_interval(lambda rows: float((false[rows] == 0).mean()), patients, draws=draws, seed=seed)
    return {
        "exams": len(exams),
        "patients": len(np.unique(patients)),
        "specificity": float((false == 0).mean()),
        "specificity_ci95": list(clean.bounds) if clean.bounds else None,
        "false_positives_per_exam": float(false.mean()),
        "marked_and_trusted": sum(bool(exam["found"]) and exam["gate"] == TRUST for exam in exams),
    }


def _by_verdict(
    exams: Sequence[dict], found: Sequence[dict | None], patients: np.ndarray, draws: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Return for each of the gate's verdicts on exams with a tumour how often benign or malignant is right; nothing found is wrong.

    Where all exams are right, or all wrong, drawing them again says nothing: there is no interval.
    """
    right = np.array([
        one is not None and (_decision(one) in MALIGNANT) == (exam["class"] in MALIGNANT) for exam, one in zip(exams, found, strict=True)
    ], float)
    result = {}
    for verdict in VERDICTS:
        own = np.array([exam["gate"] == verdict for exam in exams], bool)
        if own.any():
            inside = right[own]
            share = bootstrap_interval(lambda rows, inside=inside: float(inside[rows].mean()), patients[own], draws=draws, seed=seed)
            result[verdict] = {
                "exams": int(own.sum()), "patients": len(np.unique(patients[own])), "accuracy": float(inside.mean()),
                "ci95": list(share.bounds) if share.bounds and 0 < inside.mean() < 1 else None,
                "nothing_found": sum(one is None for one, here in zip(found, own, strict=True) if here),
            }
    return result


def _entities(exams: Sequence[dict], found: Sequence[dict | None], true: Sequence[dict | None]) -> dict[str, dict[str, float]]:
    result = {}
    for entity in sorted({exam["entity"] for exam in exams}):
        rows = [n for n, exam in enumerate(exams) if exam["entity"] == entity]
        own = [exams[n] for n in rows]
        result[entity] = {
            "exams": len(rows),
            "sensitivity_largest": float(np.mean([bool(exam["matched"]) and exam["matched"][0] is not None for exam in own])),
            "accuracy_pipeline": _accuracy(own, [found[n] for n in rows]),
            "accuracy_true_rois": _accuracy(own, [true[n] for n in rows]),
            "taken_for_true_rois": dict(Counter(_decision(true[n]) for n in rows if true[n] is not None)),
        }
    return result
