"""A tiny cohort on disk: twelve exams, three of each class, whose class shows in how a ball enhances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PediatricLiverDxLib.vocabulary import CLASSES, PHASES

from training.cohort import ExamRecord, write_exams_csv

#: HU of the ball in each phase; what tells the classes apart.
KINETICS = {"HH": (40, 60, 110, 150), "OBHT": (60, 180, 110, 100), "HB": (50, 90, 60, 50), "OMHT": (30, 30, 50, 80)}


def write_exam(folder: Path, class_name: str, seed: int, phases: tuple[str, ...] = PHASES) -> ExamRecord:
    """Write a 72 x 64 x 20 exam (2.5 x 2.5 x 4 mm) with a body of 60 HU, one or two balls, and noise."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    z, y, x = np.meshgrid(np.arange(20), np.arange(64), np.arange(72), indexing="ij")
    body = ((x - 36) / 32) ** 2 + ((y - 32) / 26) ** 2 < 1
    labels = np.zeros(body.shape, np.uint8)
    for label in range(1, 2 + seed % 2):
        centre = np.array([9.5, 26 + 4 * rng.random(), 18 + 26 * (label - 1) + 4 * rng.random()])
        radius = rng.uniform(5, 8, 3) * (0.6, 1, 1)
        labels[sum(((axis - c) / r) ** 2 for axis, c, r in zip((z, y, x), centre, radius, strict=True)) < 1] = label
    for place, phase in enumerate(PHASES):
        if phase in phases:
            tissue = np.where(body, 60 + 15 * (place > 0), -1000)
            hu = np.where(labels > 0, KINETICS[class_name][place], tissue) + rng.normal(0, 8, body.shape)
            write_image(hu.astype(np.int16), folder / f"{phase}.nrrd")
    write_image(labels, folder / "lesions.nrrd")
    return ExamRecord(
        folder.name, f"patient-{folder.name}", "retrospective", class_name, "", 1.0 + seed % 12, "F",
        {phase: folder / f"{phase}.nrrd" for phase in phases}, folder / "lesions.nrrd",
    )


def write_image(array: np.ndarray, path: Path) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((2.5, 2.5, 4.0))
    sitk.WriteImage(image, str(path), True)


@pytest.fixture(scope="session")
def exams_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """exams.csv of the cohort; the exam e4 has no PC and no DP."""
    root = tmp_path_factory.mktemp("cohort")
    records = [
        write_exam(root / f"e{n}", CLASSES[n % 4], n, ("AP", "PVP") if n == 4 else PHASES) for n in range(12)
    ]
    write_exams_csv(root / "exams.csv", records)
    return root / "exams.csv"
