"""The Diagnosis: what is known of an exam at the end, and its form as result.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import __version__
from .vocabulary import PHASES

if TYPE_CHECKING:
    from .alignment import PhaseAlignment
    from .attribution import CamVolume, PhaseShapley
    from .bundle import BundleInfo
    from .gate import Gate
    from .rois import Roi

#: Raised when a key of result.json changes its meaning or goes.
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
    cam: CamVolume
    composites: np.ndarray
    cam_slices: np.ndarray

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


def _number(value: float) -> float:
    """Round to 10 significant digits: below every tolerance that is promised, and readable."""
    return float(f"{float(value):.10g}")
