"""The picture board: one phantom of every entity, four phases each in their windows, through the middle of the largest lesion."""

from __future__ import annotations

from pathlib import Path

import matplotlib.figure
import numpy as np
import SimpleITK as sitk
from PediatricLiverDxLib.vocabulary import ENTITY_CLASS, ENTITY_NAMES, PHASE_NAMES, PHASES, WINDOWS

from .generate import REFERENCE, PhantomExam, generate


def draw_board(path: Path, seed: int, matrix: int = 256) -> None:
    """Write the board as a PNG, black like a reading room's screen. seed: the first exam's; every entity takes the next complete exam."""
    figure = matplotlib.figure.Figure(figsize=(11.0, 2.05 * len(ENTITY_CLASS)), facecolor="black")
    axes = figure.subplots(len(ENTITY_CLASS), len(PHASES))
    for row, entity in zip(axes, ENTITY_CLASS, strict=True):
        exam = _complete_exam(seed, entity, matrix)
        seed = exam.truth["seed"] + 1
        lesion = exam.truth["lesions"][0]
        low, high = lesion["box_index"][2], lesion["box_index"][5]
        for place, phase in zip(row, PHASES, strict=True):
            _show(place, exam, phase, (low + high) // 2)
            if phase != PHASES[0]:
                place.set_title(PHASE_NAMES[phase], color="0.75", fontsize=7, pad=2)
        row[0].set_title(
            f"{ENTITY_NAMES[entity]}, {lesion['variant']}, {exam.truth['age_years']:.1f} y, {max(lesion['size_mm']):.0f} mm · pre-contrast",
            color="white", fontsize=7, pad=2, loc="left",
        )
    figure.subplots_adjust(0.005, 0.003, 0.995, 0.985, 0.01, 0.10)
    figure.savefig(path, dpi=100, facecolor="black")


def _complete_exam(seed: int, entity: str, matrix: int) -> PhantomExam:
    while True:
        exam = generate(seed, entity, matrix=matrix)
        if len(exam.phases) == len(PHASES) and exam.truth["lesions"] and max(exam.truth["lesions"][0]["size_mm"]) > 25.0:
            return exam
        seed += 1


def _show(place, exam: PhantomExam, phase: str, index: int) -> None:
    reference = exam.phases[REFERENCE]
    image = sitk.Resample(exam.phases[phase], reference, sitk.Transform(), sitk.sitkLinear, -1024)
    level, width = WINDOWS[phase]
    rows, columns = np.nonzero(sitk.GetArrayViewFromImage(reference)[index] > -300)
    place.imshow(sitk.GetArrayViewFromImage(image)[index], cmap="gray", vmin=level - width / 2, vmax=level + width / 2)
    place.set_xlim(columns.min() - 4, columns.max() + 4)
    place.set_ylim(rows.max() + 4, rows.min() - 4)
    place.axis("off")
