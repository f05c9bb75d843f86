"""The same diagnosis as one would first write it with the usual packages: the yardstick of the bench, run in a process of its own.

    python plain.py EXAM WEIGHTS OUT [ROI.mrk.json ...]

Torch models in eval mode without gradients, Ultralytics' predict slice by slice, captum's ShapleyValues over the phases, and
pytorch-grad-cam; the same networks, slices, composites and lesions as `diagnose`. It is given two advantages: it does not align the
phases (it resamples them onto the reference grid), and it writes neither a scene nor a report, only result.json and the activation maps.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

START = time.perf_counter()
os.environ["YOLO_OFFLINE"] = "true"  # Ultralytics looks for a network otherwise, and the wait would count against it

import numpy as np  # noqa: E402  (imports are a stage of what is measured)
import SimpleITK as sitk  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from captum.attr import ShapleyValues  # noqa: E402
from pytorch_grad_cam import GradCAM  # noqa: E402
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # noqa: E402
from ultralytics import YOLO  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from PediatricLiverDxLib.composites import DETECTOR_SIZE  # noqa: E402

from training.backbones import build_backbone  # noqa: E402

PHASES = ("PC", "AP", "PVP", "DP")
WINDOWS = {"PC": (40, 250), "AP": (45, 290), "PVP": (45, 290), "DP": (45, 290)}
BACKBONES = ("vit", "resnet18", "densenet121")
STAGE1, BENIGN_SUBTYPE, MALIGNANT_SUBTYPE = 0, 1, 2


def read_exam(folder: Path) -> tuple[np.ndarray, sitk.Image]:
    """Return the four phases windowed to [0, 1], (phase, slice, row, column), on the portal venous grid."""
    images = {phase: sitk.ReadImage(str(folder / f"{phase}.nrrd"), sitk.sitkFloat32) for phase in PHASES}
    grid = images["PVP"]
    volumes = []
    for phase in PHASES:
        hu = sitk.GetArrayFromImage(sitk.Resample(images[phase], grid, sitk.Transform(), sitk.sitkLinear, -1024.0))
        level, width = WINDOWS[phase]
        volumes.append(np.clip((hu - (level - width / 2)) / width, 0, 1))
    return np.stack(volumes), grid


def detect(volume: np.ndarray, weights: Path) -> list[np.ndarray]:
    """Return each slice's boxes (n, 5) from Ultralytics' predict."""
    detector = YOLO(weights / "detector.pt")
    found = []
    for z in range(volume.shape[1]):
        image = np.ascontiguousarray((volume[:, z] * 255).astype(np.uint8).transpose(1, 2, 0))
        boxes = detector.predict(image, imgsz=DETECTOR_SIZE, conf=0.25, iou=0.5, verbose=False)[0].boxes
        found.append(torch.cat([boxes.xyxy, boxes.conf[:, None]], 1).numpy())
    return found


def link(boxes: list[np.ndarray]) -> list[list[tuple[int, np.ndarray]]]:
    """Link boxes of neighbouring slices that overlap."""
    lesions: list[list[tuple[int, np.ndarray]]] = []
    for z, found in enumerate(boxes):
        for box in found:
            for lesion in lesions:
                last_z, last = lesion[-1]
                sides = np.clip(np.minimum(box[2:4], last[2:4]) - np.maximum(box[:2], last[:2]), 0, None)
                if z - last_z <= 2 and sides.prod() > 0.3 * min((box[2:4] - box[:2]).prod(), (last[2:4] - last[:2]).prod()):
                    lesion.append((z, box))
                    break
            else:
                lesions.append([(z, box)])
    return [lesion for lesion in lesions if len(lesion) >= 3]


def read_roi(path: Path, grid: sitk.Image) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of an ROI markup as voxel indexes (x, y, z), lower and upper."""
    markup = json.loads(path.read_text())["markups"][0]
    centre, size = np.array(markup["center"]), np.array(markup["size"])
    if markup.get("coordinateSystem", "LPS") == "RAS":
        centre = centre * (-1, -1, 1)
    corners = np.array([grid.TransformPhysicalPointToContinuousIndex((centre + sign * size / 2).tolist()) for sign in (-1, 1)])
    low, high = corners.min(0), corners.max(0)
    return np.clip(low, 0, np.array(grid.GetSize()) - 2), np.clip(high, 1, np.array(grid.GetSize()) - 1)


def make_composites(volume: np.ndarray, low: np.ndarray, high: np.ndarray) -> torch.Tensor:
    """Return three composites (3, 4, 128, 128) of a lesion's box."""
    x0, y0, x1, y1 = (round(v) for v in (low[0], low[1], high[0], high[1]))
    slices = [int(low[2] + (high[2] - low[2]) * (2 * k + 1) / 6) for k in range(3)]
    crops = torch.from_numpy(volume[:, slices, y0 : y1 + 1, x0 : x1 + 1].swapaxes(0, 1).copy()).float()
    return F.interpolate(crops, (128, 128), mode="bilinear", align_corners=False, antialias=True)


class Logits(torch.nn.Module):
    """A backbone without its feature map, which is what pytorch-grad-cam expects."""

    def __init__(self, backbone: torch.nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, composites: torch.Tensor) -> torch.Tensor:
        return self.backbone(composites)[1]


def attribute_phases(models: dict[str, Logits], composites: torch.Tensor, head: int) -> list[float]:
    """Return captum's Shapley values of the four phases for the ensemble's probability of one head, three composites averaged."""

    def probability(exam: torch.Tensor) -> torch.Tensor:  # (1, 3, 4, 128, 128)
        logits = torch.stack([model(exam[0])[:, head].mean() for model in models.values()]).mean()
        return torch.sigmoid(logits)[None]

    mask = torch.arange(4).reshape(1, 1, 4, 1, 1)
    with torch.no_grad():
        values = ShapleyValues(probability).attribute(composites[None], baselines=0.0, feature_mask=mask)
    return [float(values[0, 0, phase, 0, 0]) for phase in range(4)]


def main() -> None:
    exam, weights, out, *rois = (Path(argument) for argument in sys.argv[1:])
    out.mkdir(parents=True, exist_ok=True)
    timings = {"import": time.perf_counter() - START}
    last = time.perf_counter()

    def stage(name: str) -> None:
        nonlocal last
        now = time.perf_counter()
        timings[name] = timings.get(name, 0.0) + now - last
        last = now

    volume, grid = read_exam(exam)
    stage("read")
    linked = link(detect(volume, weights))
    stage("detect")
    models = {}
    for name in BACKBONES:
        backbone = build_backbone(name)
        backbone.load_state_dict(torch.load(weights / f"{name}.pt", weights_only=True))
        models[name] = Logits(backbone).eval()
    stage("load classifiers")

    lesions = []
    for number, path in enumerate(rois, 1):
        low, high = read_roi(path, grid)
        composites = make_composites(volume, low, high)
        with torch.no_grad():
            logits = {name: model(composites).mean(0) for name, model in models.items()}
        ensemble = torch.stack(list(logits.values())).mean(0)
        subtype = MALIGNANT_SUBTYPE if ensemble[STAGE1] > 0 else BENIGN_SUBTYPE
        stage("classify")
        shapley = {"stage1": attribute_phases(models, composites, STAGE1), "stage2": attribute_phases(models, composites, subtype)}
        stage("shapley")
        cams = []
        for model in models.values():
            with GradCAM(model=model, target_layers=[model.backbone.feature_map]) as cam:
                cams.append(cam(input_tensor=composites, targets=[ClassifierOutputTarget(STAGE1)] * 3))
        sitk.WriteImage(sitk.GetImageFromArray(np.mean(cams, 0)), str(out / f"cam_L{number}.nrrd"), useCompression=True)
        stage("cam")
        probabilities = torch.sigmoid(ensemble).tolist()
        lesions.append({"probabilities": probabilities, "shapley": shapley})
    result = {"lesions": lesions, "linked_lesions": len(linked), "timings_s": timings}
    (out / "result.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
