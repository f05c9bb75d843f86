"""What is chosen on validation exams, never on test exams: calibration temperatures and the detector's thresholds and linking."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from PediatricLiverDxLib.detection import Detector, LinkParameters, link
from PediatricLiverDxLib.rois import IndexBox
from PediatricLiverDxLib.vocabulary import BENIGN, CLASSES, HEADS, MALIGNANT, InputError

from .classifiers import LesionLogits
from .lesion_matching import match

if TYPE_CHECKING:
    import onnxruntime
    from PediatricLiverDxLib.volumes import AlignedExam

    from .truth import Lesion

#: A network's own temperature is kept in this range, before the factor that all share: few validation exams, all of them right, would ask
#: for certainty.
TEMPERATURES = (0.5, 6.0)
#: Shares of the ensemble are multiples of this; with fewer exams of a head they are equal.
SHARE_STEP = 0.1
FEWEST_FOR_SHARES = 50
#: Lowest score of a box that is looked at when thresholds are chosen.
LOWEST_SCORE = 0.05
#: False lesions an exam that thresholds may give on validation exams, and what one is worth: a missed lesion costs more than a box that is
#: clicked away, yet one more false lesion in every exam must find four lesions in a hundred more.
MOST_FALSE_POSITIVES = 0.8
WORTH_OF_FALSE_POSITIVE = 0.04

#: Part of a lesion within another's box from which it is that one's pole (LinkParameters.pole). From 0.6 to 1 it made no difference.
POLE = 0.8

#: A backbone's "temperatures" and "shares", each by head, as they stand in bundle.json.
Calibration = dict[str, dict[str, float]]


@dataclass(frozen=True)
class ExamBoxes:
    """The detector's boxes of one exam: per slice (m, 5) in voxel edges and score; spacing x, y, z in mm; its true lesions' boxes."""

    slices: tuple[np.ndarray, ...]
    spacing_xyz: tuple[float, float, float]
    truths: tuple[IndexBox, ...]


@dataclass(frozen=True)
class LinkChoice:
    """The chosen parameters and what they give on the validation exams."""

    threshold: float
    link: LinkParameters
    sensitivity: float
    false_positives_per_exam: float

    def describe(self) -> dict:
        return {**asdict(self), "link": asdict(self.link)}


def boxes_of_exam(
    aligned: AlignedExam, lesions: Sequence[Lesion], detector: onnxruntime.InferenceSession, size: int, iou_nms: float
) -> ExamBoxes:
    """Return what `choose_link` needs of an exam: all boxes from LOWEST_SCORE on by a detector of that image size, and the truth."""
    network = Detector(detector, LOWEST_SCORE, iou_nms, LinkParameters(), size)
    return ExamBoxes(tuple(network.slice_boxes(aligned)), tuple(aligned.grid.spacing_xyz), tuple(lesion.box for lesion in lesions))


def fit_temperatures(found: LesionLogits) -> dict[str, float]:
    """Return each head's temperature T that minimises the cross-entropy of sigmoid(logit / T) over its own exams; 1 without any.

    An exam counts once, by its largest lesion: multifocal exams would weigh more otherwise.
    """
    found = found.largest()
    result = {}
    for place, (head, (own, positive)) in enumerate(zip(HEADS, _sides(found), strict=True)):
        logits = found.logits[own, place].astype(float)
        if positive.all() or not positive.any():
            result[head] = 1.0
            continue
        candidates = np.exp(np.linspace(*np.log(TEMPERATURES), 121))
        signed = np.where(positive, -logits, logits)
        losses = [np.logaddexp(0, signed / temperature).mean() for temperature in candidates]
        result[head] = round(float(candidates[int(np.argmin(losses))]), 4)
    return result


def fit_ensemble(found: Mapping[str, LesionLogits]) -> dict[str, Calibration]:
    """Return for each backbone its "temperatures" and its "shares" in the ensemble, the sum of share * logit / temperature; both by head.

    Shares are those of least cross-entropy over a head's own exams among SHARE_STEP, 2 SHARE_STEP, ...: every network counts, a better one
    more. With fewer than FEWEST_FOR_SHARES exams they are equal. A mean of calibrated backbones is not calibrated itself: what remains for
    it to be is one factor per head, which multiplies all backbones' temperatures. Raises InputError when the backbones were not validated
    on the same lesions.
    """
    own = {name: fit_temperatures(one) for name, one in found.items()}
    first = next(iter(found.values()))
    for one in found.values():
        if not np.array_equal(one.exam_ids, first.exam_ids) or not np.array_equal(one.ranks, first.ranks):
            raise InputError("the classifiers were validated on different exams; train them on one cohort with one configuration")
    scaled = np.array([one.logits / np.array([own[name][head] for head in HEADS]) for name, one in found.items()])
    shares = _fit_shares(replace(first, logits=np.moveaxis(scaled, 0, -1)))
    shared = fit_temperatures(replace(first, logits=np.einsum("bnh,bh->nh", scaled, shares)))
    return {
        name: {
            "temperatures": {head: round(own[name][head] * shared[head], 4) for head in HEADS},
            "shares": dict(zip(HEADS, np.round(row, 6).tolist(), strict=True)),
        }
        for name, row in zip(found, shares, strict=True)
    }


def heads_with_few_exams(found: LesionLogits) -> list[str]:
    """Return the heads with fewer than FEWEST_FOR_SHARES exams of their own, or with exams of one side only."""
    return [head for head, (_, positive) in zip(HEADS, _sides(found.largest()), strict=True) if not _are_enough(positive)]


def _are_enough(positive: np.ndarray) -> bool:
    """Tell whether a head's exams, of which `positive` (n,) says the side, are enough to choose by."""
    return len(positive) >= FEWEST_FOR_SHARES and positive.any() and not positive.all()


def _fit_shares(found: LesionLogits) -> np.ndarray:
    """Return (backbone, head) shares; `found` has logits (n, head, backbone), calibrated."""
    found = found.largest()
    n_backbones = found.logits.shape[2]
    steps = round(1 / SHARE_STEP)
    grid = np.array([one for one in itertools.product(range(1, steps + 1), repeat=n_backbones) if sum(one) == steps]) / steps
    result = np.full((n_backbones, len(HEADS)), 1 / n_backbones)
    for place, (own, positive) in enumerate(_sides(found)):
        if _are_enough(positive):
            logits = found.logits[own, place].astype(float) @ grid.T
            losses = np.logaddexp(0, np.where(positive[:, None], -logits, logits)).mean(0)
            result[:, place] = grid[int(np.argmin(losses))]
    return result


def _sides(found: LesionLogits) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return for each head which lesions (n,) are its own, and which of those are on its positive side."""
    sides = {"stage1": CLASSES, "benign_subtype": BENIGN, "malignant_subtype": MALIGNANT}
    positives = {"stage1": MALIGNANT, "benign_subtype": ("OBHT",), "malignant_subtype": ("OMHT",)}
    names = np.array(CLASSES)[found.classes]
    owns = [np.isin(names, sides[head]) for head in HEADS]
    return [(own, np.isin(names[own], positives[head])) for head, own in zip(HEADS, owns, strict=True)]


def choose_link(exams: Sequence[ExamBoxes]) -> LinkChoice:
    """Return the thresholds and linking with the highest sensitivity, less WORTH_OF_FALSE_POSITIVE for each false positive an exam.

    Only those with at most MOST_FALSE_POSITIVES are looked at; when nothing has few enough, the one with the fewest is returned.
    """
    choices = []
    grid = itertools.product((0.05, 0.1), (0.2, 0.35), (4.0, 9.0), (3.0, 4.5, 6.0), (0.2, 0.4))
    for threshold, iou, gap, depth, end in grid:
        above = [[boxes[boxes[:, 4] >= threshold] for boxes in exam.slices] for exam in exams]
        loose = LinkParameters(iou=iou, gap=gap, score_depth=depth, end_score=end, min_score=0.0, pole=POLE)
        linked = [link(slices, exam.spacing_xyz, loose) for slices, exam in zip(above, exams, strict=True)]
        for min_score in np.arange(0.1, 0.75, 0.05):
            kept = [[lesion.box for lesion in lesions if lesion.score >= min_score] for lesions in linked]
            found = [match(exam.truths, boxes) for exam, boxes in zip(exams, kept, strict=True)]
            hits = sum(place is not None for matching in found for place in matching.detections)
            truths = sum(len(exam.truths) for exam in exams)
            choices.append(LinkChoice(
                threshold, replace(loose, min_score=round(float(min_score), 2)),
                hits / max(1, truths), sum(matching.false_positives for matching in found) / max(1, len(exams)),
            ))
    few = [choice for choice in choices if choice.false_positives_per_exam <= MOST_FALSE_POSITIVES]
    if not few:
        return min(choices, key=lambda choice: choice.false_positives_per_exam)
    return max(few, key=lambda choice: choice.sensitivity - WORTH_OF_FALSE_POSITIVE * choice.false_positives_per_exam)
