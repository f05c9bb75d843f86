"""A made-up Diagnosis with its aligned exam, for the tests of what is written from one: a drawn abdomen, no network, no truth."""

from __future__ import annotations

import numpy as np
from PediatricLiverDxLib.attribution import CamVolume, PhaseShapley
from PediatricLiverDxLib.bundle import BundleInfo
from PediatricLiverDxLib.composites import composite_slices_of, composites
from PediatricLiverDxLib.diagnosis import Diagnosis, ExamSummary, LesionDiagnosis, PhaseSummary
from PediatricLiverDxLib.gate import Gate
from PediatricLiverDxLib.rois import Roi
from PediatricLiverDxLib.vocabulary import BACKBONES, PHASES
from PediatricLiverDxLib.volumes import AlignedExam, Grid, PhaseAlignment

#: HU in PC, AP, PVP, DP (clinical.md's order of magnitude).
_HU = {
    "fat": (-95, -95, -95, -95),
    "muscle": (55, 62, 68, 65),
    "bone": (320, 330, 330, 325),
    "liver": (68, 82, 114, 98),
    "spleen": (58, 128, 122, 102),
    "aorta": (42, 290, 150, 118),
    "kidney": (45, 160, 175, 150),
    "rim": (52, 118, 84, 70),
    "core": (38, 44, 52, 55),
}

#: Lesions of the drawn abdomen: centre (x, y, z) and radii as fractions of the grid.
_LESIONS = (((0.34, 0.42, 0.5), (0.105, 0.115, 0.22)), ((0.52, 0.33, 0.62), (0.045, 0.04, 0.1)))


def example_grid(size_xyz: tuple[int, int, int] = (96, 80, 24), oblique: bool = False) -> Grid:
    """Return a grid 320 mm wide, with unequal spacings and an origin that is not zero; oblique: turned by 10 degrees about x."""
    spacing = (320 / size_xyz[0], 250 / size_xyz[1], 150 / size_xyz[2])
    cosine, sine = (np.cos(np.radians(10)), np.sin(np.radians(10))) if oblique else (1.0, 0.0)
    direction = (1.0, 0.0, 0.0, 0.0, cosine, -sine, 0.0, sine, cosine)
    return Grid(size_xyz, spacing, (-160.0, -130.0, 20.0), tuple(float(v) for v in direction))


def example_aligned(
    size_xyz: tuple[int, int, int] = (96, 80, 24), present: tuple[str, ...] = PHASES, seed: int = 0, oblique: bool = False
) -> AlignedExam:
    """Return the drawn abdomen in the phases that were acquired; HU (phase, slice, row, column)."""
    rng = np.random.default_rng(seed)
    nx, ny, nz = size_xyz
    z, y, x = np.ix_(*((np.arange(n, dtype=np.float32) + 0.5) / n for n in (nz, ny, nx)))
    noise = _smooth(rng.normal(0, 26, (8, ny, nx)).astype(np.float32))

    def ellipsoid(center: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
        return ((x - center[0]) / radii[0]) ** 2 + ((y - center[1]) / radii[1]) ** 2 + ((z - center[2]) / radii[2]) ** 2

    hu = np.full((4, nz, ny, nx), -1024.0, np.float32)
    wide = 9.0  # through every slice
    regions = [
        ("fat", ellipsoid((0.5, 0.5, 0.5), (0.46, 0.44, wide)) < 1),
        ("muscle", ellipsoid((0.5, 0.5, 0.5), (0.43, 0.40, wide)) < 1),
        ("liver", (ellipsoid((0.36, 0.42, 0.5), (0.25, 0.28, 0.6)) < 1) | (ellipsoid((0.52, 0.3, 0.6), (0.2, 0.13, 0.4)) < 1)),
        ("spleen", ellipsoid((0.8, 0.55, 0.6), (0.08, 0.17, 0.35)) < 1),
        ("kidney", ellipsoid((0.7, 0.68, 0.2), (0.07, 0.08, 0.3)) < 1),
        ("bone", ellipsoid((0.5, 0.76, 0.5), (0.075, 0.085, wide)) < 1),
        ("aorta", ellipsoid((0.54, 0.62, 0.5), (0.028, 0.034, wide)) < 1),
    ]
    for center, radii in _LESIONS:
        inside = ellipsoid(center, radii)
        regions += [("rim", inside < 1), ("core", inside < 0.45)]
    for p, phase in enumerate(PHASES):
        if phase not in present:
            continue
        for name, mask in regions:
            hu[p][mask] = _HU[name][p]
        # a few slices of noise, shifted from phase to phase: drawing more takes longer than what is tested
        hu[p] += np.resize(np.roll(noise, 17 * (p + 1), 2), hu[p].shape)
    grid = example_grid(size_xyz, oblique)
    reference = next(phase for phase in ("PVP", "AP", "DP", "PC") if phase in present)
    alignment = {
        phase: PhaseAlignment("reference", 1.0, 1.0, 0.0, 0.0) if phase == reference else PhaseAlignment("aligned", 0.71, 0.9, 3.2, 11.4)
        for phase in PHASES
        if phase in present
    }
    return AlignedExam(hu, tuple(phase in present for phase in PHASES), reference, grid, alignment, ())


def example_diagnosis(aligned: AlignedExam, n_lesions: int = 1, verdict: str = "look") -> Diagnosis:
    """Return a Diagnosis with consistent numbers for up to two lesions of the drawn abdomen."""
    present = [phase for phase, acquired in zip(PHASES, aligned.present, strict=True) if acquired]
    lesions = tuple(_lesion(aligned, n, present) for n in range(n_lesions))
    exam = ExamSummary(
        phases={
            phase: PhaseSummary(True, f"{phase}.nrrd", f"file name '{phase}'", aligned.alignment[phase])
            if phase in present
            else PhaseSummary(False)
            for phase in PHASES
        },
        reference=aligned.reference,
        spacing_mm=aligned.grid.spacing_xyz,
        size=aligned.grid.size_xyz,
    )
    return Diagnosis(
        bundle=BundleInfo("example", "0.1.0", "0" * 64, "Research only. Not for care of patients.", "phantoms only"),
        exam=exam,
        warnings=("Slice thickness 6 mm: lesions below 12 mm can be missed.",),
        gate=Gate(verdict, ("The noise is stronger than in 97 % of the training exams.",) if verdict != "trust" else ()),
        lesions=lesions,
        timings_s={"read": 0.31, "align": 1.02, "detect": 0.88, "classify": 0.64, "write": 0.41},
    )


def _lesion(aligned: AlignedExam, n: int, present: list[str]) -> LesionDiagnosis:
    center, radii = (np.array(part) for part in _LESIONS[n])
    size = np.asarray(aligned.grid.size_xyz)
    low, high = np.floor((center - radii) * size).astype(int), np.ceil((center + radii) * size).astype(int)
    roi = Roi.from_index_box(aligned.grid, (*low, *high), id=f"L{n + 1}", score=0.87)
    malignant, benign_other, malignant_other = ((0.93, 0.3, 0.03), (0.12, 0.35, 0.4))[n]
    classes = {
        "HH": (1 - malignant) * (1 - benign_other),
        "OBHT": (1 - malignant) * benign_other,
        "HB": malignant * (1 - malignant_other),
        "OMHT": malignant * malignant_other,
    }
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, k) for k in (high - low)[::-1]), indexing="ij")
    cam = np.exp(-2.2 * ((x - 0.2) ** 2 + (y + 0.3) ** 2 + z**2)).astype(np.float32)
    row, column = np.meshgrid(np.linspace(-1.1, 1.1, 128), np.linspace(-1.1, 1.1, 128), indexing="ij")
    cam_slice = np.exp(-2.2 * ((column - 0.2) ** 2 + (row + 0.3) ** 2)).astype(np.float32)
    weights = {"PC": 0.06, "AP": 0.55, "PVP": -0.09, "DP": 0.48}
    stages = {}
    for stage, of, baseline, total in (
        ("stage1", "malignant", 0.41, malignant),
        ("stage2", "HB" if n == 0 else "HH", 0.62, (1 - malignant_other) if n == 0 else 1 - benign_other),
    ):
        shares = {phase: weights[phase] for phase in present}
        scale = (total - baseline) / sum(shares.values())
        stages[stage] = PhaseShapley(of, baseline, total, {phase: share * scale for phase, share in shares.items()})
    return LesionDiagnosis(
        id=roi.id,
        roi=roi,
        detection_score=0.87,
        malignant_probability=malignant,
        class_probabilities=classes,
        decision="HB" if n == 0 else "HH",
        backbones={name: {"malignant_probability": malignant, **classes} for name in BACKBONES},
        phase_shapley=stages,
        slices=composite_slices_of(roi.index_box(aligned.grid), aligned.grid.size_xyz[2]),
        cam=CamVolume(cam, tuple(int(v) for v in low)),
        composites=composites(aligned, roi),
        cam_slices=np.repeat(cam_slice[None], 3, 0),
    )


def _smooth(noise: np.ndarray) -> np.ndarray:
    """Blur noise a little in the plane, as a soft kernel does."""
    for axis in (1, 2):
        noise = (noise + np.roll(noise, 1, axis) + np.roll(noise, -1, axis)) / 3
    return noise * 1.4
