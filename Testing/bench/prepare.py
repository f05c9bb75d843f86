"""Make what the bench needs, outside the time that it measures: a 256 x 256 x 64 exam, its lesions as ROI markups, and torch weights.

    python prepare.py FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import SimpleITK as sitk
import torch
from ultralytics import YOLO

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from PediatricLiverDxLib.vocabulary import BACKBONES, PHASES

from training.backbones import build_backbone
from training.configuration import DetectorSettings
from training.detector import build_detector
from training.phantom.generate import generate

N_SLICES = 64
SEED = 640_064


def write_exam(folder: Path) -> None:
    """Write a hepatoblastoma phantom as four phases of 256 x 256 x 64 voxels, and a markup for every lesion."""
    folder.mkdir(parents=True, exist_ok=True)
    seed = SEED
    while len((phantom := generate(seed, "HB", matrix=256)).phases) < len(PHASES):
        seed += 1
    reference = phantom.phases["PVP"]
    spacing = (*reference.GetSpacing()[:2], reference.GetSpacing()[2] * (reference.GetSize()[2] - 1) / (N_SLICES - 1))
    for phase in PHASES:
        image = phantom.phases[phase]
        grid = sitk.Image(256, 256, N_SLICES, sitk.sitkInt16)
        grid.SetSpacing(spacing)
        grid.SetOrigin(reference.GetOrigin())
        grid.SetDirection(reference.GetDirection())
        sitk.WriteImage(sitk.Resample(image, grid, sitk.Transform(), sitk.sitkLinear, -1024.0), str(folder / f"{phase}.nrrd"), True)
    for old in folder.glob("*.mrk.json"):
        old.unlink()
    for number, lesion in enumerate(phantom.truth["lesions"], 1):
        x0, y0, z0, x1, y1, z1 = lesion["box_index"]
        centre = reference.TransformContinuousIndexToPhysicalPoint(((x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2, (z0 + z1 - 1) / 2))
        roi = {"type": "ROI", "coordinateSystem": "LPS", "roiType": "Box", "center": centre, "size": lesion["size_mm"],
               "orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]}
        (folder / f"truth_{number}.mrk.json").write_text(json.dumps({"markups": [roi]}))


def write_weights(folder: Path) -> None:
    """Write networks at random weights, of the architectures that training uses: how long they take does not depend on the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    for name in BACKBONES:
        torch.save(build_backbone(name).state_dict(), folder / f"{name}.pt")
    settings = DetectorSettings()
    detector = YOLO(settings.architecture)
    detector.model = build_detector(settings)
    detector.save(folder / "detector.pt")


if __name__ == "__main__":
    root = Path(sys.argv[1])
    write_exam(root / "exam")
    write_weights(root / "weights")
