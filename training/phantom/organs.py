"""HU of organs in phantoms, phase by phase, beside a labelled real scan and the values that were measured in children.

    python -m training.phantom.organs --real REAL_CT_FOLDER --exams 12 -o docs

generates exams without lesions and writes `organs.png` and `organs.json`. The real scan is TotalSegmentator's example (unenhanced adult,
3 mm) with its label map. Only statistics are written.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection
from pathlib import Path

import numpy as np
import scipy.ndimage
import SimpleITK as sitk
from PediatricLiverDxLib.vocabulary import PHASES

from .canvas import TISSUES
from .generate import PhantomExam, generate

#: Organ -> those of TISSUES that it is made of.
ORGANS = {"liver": ("liver",), "spleen": ("spleen",), "kidneys": ("kidney cortex", "kidney medulla"), "muscle": ("muscle",)}
BINS = np.arange(-60.0, 261.0, 5.0)

#: Values of the TotalSegmentator label map.
REAL_LABELS = {"liver": (5,), "spleen": (1,), "kidneys": (2, 3), "muscle": (86, 87)}

#: Mean HU measured in children: unenhanced liver 70 (SD 9), spleen 61 (4), kidney 45 (4); portal venous liver 113 (AJR 191:1589).
CHILDREN = {("liver", "PC"): 70.0, ("spleen", "PC"): 61.0, ("kidneys", "PC"): 45.0, ("liver", "PVP"): 113.0}

#: How far from its edge an organ's inside begins, mm.
EDGE_MM = 3.0
#: HU outside a phase's scanned range.
OUTSIDE_HU = -2000


def tissue_samples(exam: PhantomExam, tissues: Collection[str], edge_mm: float = EDGE_MM) -> dict[str, np.ndarray]:
    """HU of the inside of `tissues` together (`edge_mm` from their edge, in-plane) in every phase that the exam has: phase -> values.

    exam: generated with note_tissues. The tissues' places are those in PVP; in another phase they are looked up where the child's breathing
    has moved them, by the displacement in the exam's truth, and left out where that phase was not scanned.
    """
    labels = [TISSUES.index(tissue) + 1 for tissue in tissues]
    inside = _inner(np.isin(sitk.GetArrayViewFromImage(exam.tissues), labels), exam.tissues.GetSpacing()[0], edge_mm)
    samples = {}
    for phase, image in exam.phases.items():
        moved = sitk.Transform()
        if phase in exam.displacements:
            moved = sitk.DisplacementFieldTransform(sitk.Cast(exam.displacements[phase], sitk.sitkVectorFloat64))
        hu = sitk.GetArrayFromImage(sitk.Resample(image, exam.tissues, moved, sitk.sitkNearestNeighbor, OUTSIDE_HU))[inside]
        samples[phase] = hu[hu > OUTSIDE_HU]
    return samples


def organ_samples(seed: int) -> dict[str, dict[str, np.ndarray]]:
    """HU of every organ's inside in every phase of one exam without lesions: organ -> phase -> values."""
    exam = generate(seed, None, note_tissues=True)
    return {organ: tissue_samples(exam, tissues) for organ, tissues in ORGANS.items()}


def real_samples(folder: Path) -> dict[str, np.ndarray]:
    """HU of the organs' insides in TotalSegmentator's labelled example."""
    hu = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "totalsegmentator" / "example_ct_sm.nii.gz")))
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "totalsegmentator" / "example_seg.nii.gz")))
    return {organ: hu[_inner(np.isin(labels, values), 3.0, EDGE_MM)] for organ, values in REAL_LABELS.items()}


def _inner(mask: np.ndarray, pixel_mm: float, edge_mm: float) -> np.ndarray:
    reach = max(round(edge_mm / pixel_mm), 1)
    return scipy.ndimage.binary_erosion(mask, np.ones((1, 3, 3), bool), iterations=reach)


def draw(exams: list[dict[str, dict[str, np.ndarray]]], real: dict[str, np.ndarray], picture: Path) -> None:
    """Above: unenhanced histograms, phantoms' range and the real scan. Below: each exam's median by phase, with children's means."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, len(ORGANS), figsize=(13, 6.5), layout="constrained")
    middles = BINS[:-1] + 2.5
    for column, organ in enumerate(ORGANS):
        above, below = axes[:, column]
        values = [e[organ]["PC"] for e in exams if organ in e and len(e[organ].get("PC", ())) > 200]
        shares = np.stack([np.histogram(v, BINS)[0] / len(v) for v in values])
        above.fill_between(middles, *np.percentile(shares, (5, 95), axis=0), color="0.85", label=f"{len(values)} phantoms, 5-95 %")
        above.plot(middles, np.median(shares, axis=0), color="0.45", label="phantoms, median")
        above.plot(middles, np.histogram(real[organ], BINS)[0] / len(real[organ]), color="tab:green", label="real adult, 3 mm")
        above.set(title=f"{organ}, unenhanced", xlabel="HU", ylabel="share of voxels per 5 HU", xlim=(-60, 150))
        for i, phase in enumerate(PHASES):
            medians = [np.median(e[organ][phase]) for e in exams if organ in e and len(e[organ].get(phase, ())) > 200]
            below.scatter(i + np.linspace(-0.2, 0.2, len(medians)), medians, s=10, color="0.5")
            if (organ, phase) in CHILDREN:
                below.plot([i - 0.35, i + 0.35], [CHILDREN[organ, phase]] * 2, color="tab:red", linewidth=2)
        below.scatter([0], [np.median(real[organ])], marker="D", s=40, color="tab:green", edgecolors="black", zorder=3)
        below.set(title=f"{organ}, median of each exam", xticks=range(len(PHASES)), xticklabels=PHASES, ylabel="HU")
    axes[0, 0].legend(fontsize=7)
    figure.savefig(picture, dpi=90)
    plt.close(figure)


def main() -> None:
    """Generate, measure, write figure and numbers."""
    parser = argparse.ArgumentParser(description="Organ HU of phantoms beside a real scan and children's values.")
    parser.add_argument("--real", type=Path, required=True, help="folder of real CT that holds totalsegmentator/")
    parser.add_argument("--exams", type=int, default=12, help="exams to generate (default 12)")
    parser.add_argument("--seed", type=int, default=7_000_000, help="seed of the first exam (default 7000000)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for organs.png and organs.json")
    arguments = parser.parse_args()
    exams = [organ_samples(arguments.seed + i) for i in range(arguments.exams)]
    real = real_samples(arguments.real)
    arguments.output.mkdir(parents=True, exist_ok=True)
    draw(exams, real, arguments.output / "organs.png")
    phantom: dict[str, list[float]] = {}
    for organ in ORGANS:
        for phase in PHASES:
            medians = [np.median(e[organ][phase]) for e in exams if organ in e and len(e[organ].get(phase, ())) > 200]
            phantom[f"{organ} {phase}"] = [round(float(v), 1) for v in np.percentile(medians, (5, 50, 95))]
    summary = {
        "exams": len(exams),
        "phantom_median_hu_percentiles_5_50_95": phantom,
        "real_median_hu": {organ: float(np.median(real[organ])) for organ in ORGANS},
    }
    (arguments.output / "organs.json").write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
