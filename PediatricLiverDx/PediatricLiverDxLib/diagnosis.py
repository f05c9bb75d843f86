"""An aligned exam and the networks come in, a Diagnosis goes out: what is known of the exam at the end, with its form as result.json."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from . import __version__
from .attribution import CamVolume, PhaseShapley, cam_volume, lesion_cam, lesion_shapley
from .classification import CoalitionOutputs, class_probabilities, classify, decide, malignant_probability
from .composites import composite_slices_of, composites, inside_box
from .gate import Gate, judge, lesion_embedding
from .rois import Roi
from .vocabulary import PHASES, InputError

if TYPE_CHECKING:
    from .bundle import BundleInfo, Networks
    from .result_document import PlacedCam
    from .volumes import AlignedExam, Exam, PhaseAlignment

#: Told the stage ("align", "detect", "classify", "gate", "write"), the part of it that is done (0 to 1), and a text for the user.
Progress = Callable[[str, float, str], None]

#: Lesions by centre, size and axes of their box, each with what the networks said of it.
KnownLesions = MutableMapping[tuple, tuple["LesionDiagnosis", CoalitionOutputs]]

#: Goes up when a key of result.json changes its meaning or goes.
SCHEMA_VERSION = "1.0"


@dataclass(frozen=True)
class PhaseSummary:
    """Hold where one phase came from (base name or series label) and how it was recognised; both None when it is absent."""

    present: bool
    source: str | None = None
    recognised: str | None = None
    alignment: PhaseAlignment | None = None

    def to_dict(self) -> dict[str, Any]:
        fit = self.alignment
        return {
            "present": self.present,
            "source": self.source,
            "recognised": self.recognised,
            "alignment": None
            if fit is None
            else {
                "status": fit.status,
                "similarity_before": _number(fit.similarity_before),
                "similarity_after": _number(fit.similarity_after),
                "mean_displacement_mm": _number(fit.mean_displacement_mm),
                "max_displacement_mm": _number(fit.max_displacement_mm),
            },
        }


@dataclass(frozen=True)
class ExamSummary:
    """Hold the exam's facts. phases: all of PHASES; reference: phase whose grid is used; spacing_mm and size: x, y, z of that grid."""

    phases: Mapping[str, PhaseSummary]
    reference: str
    spacing_mm: tuple[float, float, float]
    size: tuple[int, int, int]

    def to_dict(self) -> dict[str, Any]:
        return {
            "phases": {phase: self.phases[phase].to_dict() for phase in PHASES},
            "reference": self.reference,
            "spacing_mm": [_number(v) for v in self.spacing_mm],
            "size": list(self.size),
        }


@dataclass(frozen=True)
class LesionDiagnosis:
    """Hold what is known of one lesion.

    id: "L1", "L2", ... by descending size of the box.
    detection_score: the detector's confidence in [0, 1]; None for a radiologist's ROI.
    malignant_probability: calibrated, of the ensemble. class_probabilities: of HH, OBHT, HB, OMHT; they sum to 1.
    decision: the more probable side first (malignant from 0.5), then the more probable class of that side.
    backbones: backbone -> {"malignant_probability", "HH", "OBHT", "HB", "OMHT"}, calibrated.
    phase_shapley: "stage1" (probability of malignant) and "stage2" (probability of the decided class given its side).
    slices: the three slices on the reference grid. composites: float32 (slice, phase, row, column) in [0, 1].
    cam: the activation map in the volume. cam_slices: the same for the composites, float32 (slice, row, column) in [0, 1].
    The last three are None where the lesion was read from a result.json, which does not hold them.
    """

    id: str
    roi: Roi
    detection_score: float | None
    malignant_probability: float
    class_probabilities: Mapping[str, float]
    decision: str
    backbones: Mapping[str, Mapping[str, float]]
    phase_shapley: Mapping[str, PhaseShapley]
    slices: tuple[int, int, int]
    cam: CamVolume | PlacedCam | None = None
    composites: np.ndarray | None = None
    cam_slices: np.ndarray | None = None

    @property
    def cam_file(self) -> str:
        return f"cam_{self.id}.nrrd"

    @property
    def roi_file(self) -> str:
        return f"roi_{self.id}.mrk.json"

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "roi": {
                "center_ras_mm": [_number(v) for v in self.roi.center_ras_mm],
                "size_mm": [_number(v) for v in self.roi.size_mm],
                "axes_ras": [[_number(v) for v in axis] for axis in self.roi.axes_ras],
                "source": self.roi.source,
            },
            "detection_score": None if self.detection_score is None else _number(self.detection_score),
            "malignant_probability": _number(self.malignant_probability),
            "class_probabilities": {name: _number(p) for name, p in self.class_probabilities.items()},
            "decision": self.decision,
            "backbones": {name: {k: _number(p) for k, p in values.items()} for name, values in self.backbones.items()},
            "phase_shapley": {
                stage: {
                    "of": shapley.of,
                    "baseline": _number(shapley.baseline),
                    "total": _number(shapley.total),
                    # a phase that the exam lacks plays no part: null, which is not the same as 0
                    "values": {p: _number(shapley.values[p]) if p in shapley.values else None for p in PHASES},
                }
                for stage, shapley in self.phase_shapley.items()
            },
            "slices": list(self.slices),
            "cam": self.cam_file,
        }


@dataclass(frozen=True)
class Diagnosis:
    """Hold everything that is known of an exam at the end. lesions: by descending size; timings_s: stage -> seconds."""

    bundle: BundleInfo
    exam: ExamSummary
    warnings: tuple[str, ...]
    gate: Gate
    lesions: tuple[LesionDiagnosis, ...]
    timings_s: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return result.json: plain lists, dicts, strings and finite numbers; lengths in RAS mm, times in seconds."""
        return {
            "schema_version": SCHEMA_VERSION,
            "software": f"PediatricLiverDx {__version__}",
            "bundle": {
                "name": self.bundle.name,
                "version": self.bundle.version,
                "sha256": self.bundle.sha256,
                "intended_use": self.bundle.intended_use,
            },
            "exam": self.exam.to_dict(),
            "warnings": list(self.warnings),
            "gate": {"verdict": self.gate.verdict, "reasons": list(self.gate.reasons)},
            "lesions": [lesion.to_dict() for lesion in self.lesions],
            "timings_s": {stage: round(float(seconds), 4) for stage, seconds in self.timings_s.items()},
        }


def diagnose(
    exam: Exam,
    aligned: AlignedExam,
    networks: Networks,
    *,
    rois: Sequence[Roi] | None = None,
    known: KnownLesions | None = None,
    progress: Progress | None = None,
    timings_s: Mapping[str, float] | None = None,
) -> Diagnosis:
    """Find the lesions of an aligned exam, classify each, and say why and how far it can be trusted.

    rois: boxes to use instead of the detector's; an empty sequence means that there is no lesion. A box over the volume's edge is cut,
    one outside is left out, both with a warning.
    known: lesions of an earlier diagnosis of the same aligned exam with the same networks, whose boxes are not classified again; in the end
    it holds those of this one.
    progress: what it raises ends the diagnosis, which is how to cancel. timings_s: seconds of earlier stages, to be kept in the result.

    Raises InputError when every given box lies outside the volume.
    """
    tell = progress or (lambda stage, fraction, text: None)
    known = {} if known is None else known
    timings, started = dict(timings_s or {}), time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal started
        now = time.perf_counter()
        timings[stage], started = now - started, now

    warnings = [*exam.warnings, *aligned.warnings]
    cut: set[str] = set()
    if rois is None:
        tell("detect", 0.0, "Looking for lesions")
        found = networks.detector.find(aligned, lambda part: tell("detect", part, "Looking for lesions"))
        lap("detect")
    else:
        found, cut, notes = _inside(rois, aligned)
        warnings += notes

    lesions, embeddings = [], []
    for n, roi in enumerate(found):
        text = f"Classifying lesion {n + 1} of {len(found)}"
        if (box := _box(roi)) not in known:
            known[box] = _diagnose_lesion(
                aligned, roi, networks, lambda part, n=n, text=text: tell("classify", (n + part) / len(found), text)
            )
        lesion, outputs = known[box]
        lesions.append(replace(lesion, id=roi.id, roi=roi, detection_score=roi.score))
        embeddings.append(lesion_embedding(outputs))
    for box in set(known) - {_box(roi) for roi in found}:
        del known[box]
    lap("classify")
    tell("gate", 0.0, "Comparing with what the model was trained on")
    gate = judge(networks.bundle, exam, aligned, lesions, embeddings, cut)
    lap("gate")
    summary = ExamSummary(
        phases={phase: _phase_summary(exam, aligned, phase) for phase in PHASES},
        reference=aligned.reference,
        spacing_mm=tuple(aligned.grid.spacing_xyz),
        size=tuple(aligned.grid.size_xyz),
    )
    return Diagnosis(networks.bundle.info, summary, tuple(dict.fromkeys(warnings)), gate, tuple(lesions), timings)


def lesion_map(
    aligned: AlignedExam,
    networks: Networks,
    roi: Roi,
    of: str,
    *,
    known: KnownLesions | None = None,
    progress: Progress | None = None,
) -> CamVolume:
    """Return the activation map of one lesion for any outcome (attribution.lesion_cam); LesionDiagnosis.cam is that of its decided side.

    known: as in diagnose; a box in it is not classified again, another one is added.
    Raises InputError when the box lies outside the volume.
    """
    tell = progress or (lambda stage, fraction, text: None)
    known = {} if known is None else known
    roi = roi.clamp_to(aligned.grid)[0]
    if (box := _box(roi)) not in known:
        known[box] = _diagnose_lesion(aligned, roi, networks, lambda part: tell("classify", part, "Computing the heat map"))
    return cam_volume(lesion_cam(known[box][1], networks.weights, of, _inside_box(aligned, roi, networks)), roi, aligned.grid)


def _inside_box(aligned: AlignedExam, roi: Roi, networks: Networks) -> np.ndarray:
    box = roi.index_box(aligned.grid)
    return inside_box((box[0], box[1], box[3], box[4]), aligned.grid.spacing_xyz[:2], networks.composite_size)


def _box(roi: Roi) -> tuple:
    # to a millionth of a mm: a box that went through result.json is the same one
    return tuple(tuple(round(float(value), 6) for value in np.ravel(part)) for part in (roi.center_ras_mm, roi.size_mm, roi.axes_ras))


def _inside(rois: Sequence[Roi], aligned: AlignedExam) -> tuple[list[Roi], set[str], list[str]]:
    """Return the given Rois cut to the volume and renamed by size, the new names of those that lost a part, and the warnings."""
    given: list[tuple[float, Roi]] = []
    refusals = []
    for roi in rois:
        try:
            given.append((roi.clamp_to(aligned.grid)[0].volume_mm3, roi))
        except InputError as error:
            refusals.append(str(error))
    if refusals and not given:
        raise InputError(refusals[0])
    given.sort(key=lambda pair: -pair[0])
    # named first, so that a warning speaks of the lesion as all the results do
    clamped = [replace(roi, id=f"L{n}").clamp_to(aligned.grid) for n, (_, roi) in enumerate(given, 1)]
    cut = {roi.id for roi, note in clamped if note}
    notes = [note for _, note in clamped if note]
    return [roi for roi, _ in clamped], cut, [*notes, *(f"Left out: {refusal[0].lower()}{refusal[1:]}" for refusal in refusals)]


def _diagnose_lesion(
    aligned: AlignedExam, roi: Roi, networks: Networks, progress: Callable[[float], None]
) -> tuple[LesionDiagnosis, CoalitionOutputs]:
    size = networks.composite_size
    images = composites(aligned, roi, size)
    outputs = classify(networks, images, aligned.present, progress)
    logits = outputs.ensemble[-1]
    malignant, probabilities = malignant_probability(logits), class_probabilities(logits)
    decision = decide(probabilities, malignant)
    backbones = {
        backbone: {"malignant_probability": malignant_probability(own[-1]), **class_probabilities(own[-1])}
        for backbone, own in zip(outputs.backbones, outputs.logits, strict=True)
    }
    box = roi.index_box(aligned.grid)
    side = "malignant" if malignant >= 0.5 else "benign"
    cam_slices = lesion_cam(outputs, networks.weights, side, _inside_box(aligned, roi, networks))
    lesion = LesionDiagnosis(
        id=roi.id,
        roi=roi,
        detection_score=roi.score,
        malignant_probability=malignant,
        class_probabilities=probabilities,
        decision=decision,
        backbones=backbones,
        phase_shapley=lesion_shapley(outputs, decision),
        slices=composite_slices_of(box, aligned.grid.size_xyz[2]),
        cam=cam_volume(cam_slices, roi, aligned.grid),
        composites=images,
        cam_slices=cam_slices,
    )
    return lesion, outputs


def _phase_summary(exam: Exam, aligned: AlignedExam, phase: str) -> PhaseSummary:
    volume = exam.phases.get(phase)
    if volume is None:
        return PhaseSummary(present=False)
    return PhaseSummary(True, volume.source, volume.recognised, aligned.alignment.get(phase))


def _number(value: float) -> float:
    """Round to 10 significant digits: below every tolerance that is promised, and readable."""
    return float(f"{float(value):.10g}")
