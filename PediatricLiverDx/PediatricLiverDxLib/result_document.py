"""A result.json comes in, the Diagnosis that it was written from goes out, with each lesion's CAM where its file is given.

What result.json does not hold (the composites, what the bundle was trained on) stays empty. Positions are RAS mm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .attribution import PhaseShapley
from .bundle import BundleInfo
from .diagnosis import SCHEMA_VERSION, Diagnosis, ExamSummary, LesionDiagnosis, PhaseSummary
from .gate import Gate
from .rois import Roi
from .vocabulary import PHASES, InputError
from .volumes import PhaseAlignment

if TYPE_CHECKING:
    from .attribution import CamVolume
    from .volumes import Grid


@dataclass(frozen=True)
class PlacedCam:
    """Hold a class activation map with its place.

    array: float32 (slice, row, column) in [0, 1]. ijk_to_ras: 4 x 4, voxel index (column, row, slice) to RAS mm.
    """

    array: np.ndarray
    ijk_to_ras: np.ndarray


def read_result(answer: Mapping[str, Any], output: Path) -> Diagnosis:
    """Return the Diagnosis of a worker's answer {"diagnosis": result.json, ...}, with the CAMs that lie in its output folder.

    Raises InputError for a result of another version or one whose CAMs are not there.
    """
    diagnosis = diagnosis_of(answer["diagnosis"])
    lesions = tuple(replace(lesion, cam=read_cam(Path(output) / lesion.cam_file)) for lesion in diagnosis.lesions)
    return replace(diagnosis, lesions=lesions)


def diagnosis_of(document: Mapping[str, Any]) -> Diagnosis:
    """Return the Diagnosis of a result.json, without CAMs; the way back is Diagnosis.to_dict. Raises InputError for anything else."""
    try:
        version = document["schema_version"]
        if version != SCHEMA_VERSION:
            raise InputError(f"The result is of version {version}, expected {SCHEMA_VERSION}; diagnose the exam again.")
        bundle, exam = document["bundle"], document["exam"]
        return Diagnosis(
            bundle=BundleInfo(bundle["name"], bundle["version"], bundle["sha256"], bundle["intended_use"], trained_on=""),
            exam=ExamSummary(
                phases={phase: _phase_summary(exam["phases"][phase]) for phase in PHASES},
                reference=exam["reference"],
                spacing_mm=tuple(exam["spacing_mm"]),
                size=tuple(exam["size"]),
            ),
            warnings=tuple(document["warnings"]),
            gate=Gate(document["gate"]["verdict"], tuple(document["gate"]["reasons"])),
            lesions=tuple(_lesion(lesion) for lesion in document["lesions"]),
            timings_s=dict(document["timings_s"]),
        )
    except (KeyError, TypeError, AttributeError, ValueError):
        raise InputError("This is not a result of this software, or a part of it is missing; diagnose the exam again.") from None


def read_cam(path: Path) -> PlacedCam:
    """Read a lesion's CAM volume with the place that its own header gives. Raises InputError when it cannot be read."""
    import SimpleITK as sitk

    try:
        image = sitk.ReadImage(str(path), sitk.sitkFloat32)
    except RuntimeError:  # what it says holds the path
        raise InputError(f"The heat map {path.name} cannot be read, expected it beside the result; diagnose the exam again.") from None
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    matrix[:3, 3] = image.GetOrigin()
    matrix[:2] *= -1  # LPS to RAS
    return PlacedCam(sitk.GetArrayFromImage(image), matrix)


def place_cam(cam: CamVolume, grid: Grid) -> PlacedCam:
    """Return a CAM with its place in space instead of on the reference grid."""
    return PlacedCam(cam.array, grid_to_ras(grid, cam.start_xyz))


def grid_to_ras(grid: Grid, start_xyz: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
    """Return the 4 x 4 matrix from voxel index (column, row, slice) to RAS mm, of the part of the grid that starts at start_xyz."""
    ras = grid.index_to_ras(np.asarray(start_xyz, float) + np.vstack([np.zeros(3), np.eye(3)]))
    matrix = np.eye(4)
    matrix[:3, :3] = (ras[1:] - ras[0]).T
    matrix[:3, 3] = ras[0]
    return matrix


def _phase_summary(document: Mapping[str, Any]) -> PhaseSummary:
    fit = document["alignment"]
    return PhaseSummary(document["present"], document["source"], document["recognised"], PhaseAlignment(**fit) if fit else None)


def _lesion(document: Mapping[str, Any]) -> LesionDiagnosis:
    box = document["roi"]
    return LesionDiagnosis(
        id=document["id"],
        roi=Roi(
            tuple(box["center_ras_mm"]),
            tuple(box["size_mm"]),
            tuple(tuple(axis) for axis in box["axes_ras"]),
            id=document["id"],
            source=box["source"],
            score=document["detection_score"],
        ),
        detection_score=document["detection_score"],
        malignant_probability=document["malignant_probability"],
        class_probabilities=dict(document["class_probabilities"]),
        decision=document["decision"],
        backbones={name: dict(values) for name, values in document["backbones"].items()},
        phase_shapley={stage: _shapley(values) for stage, values in document["phase_shapley"].items()},
        slices=tuple(document["slices"]),
    )


def _shapley(document: Mapping[str, Any]) -> PhaseShapley:
    # null stands for a phase that the exam lacks
    values = {phase: value for phase, value in document["values"].items() if value is not None}
    return PhaseShapley(document["of"], document["baseline"], document["total"], values)
