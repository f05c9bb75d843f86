"""Train the lesion detector: cached slices in, averaged weights of an Ultralytics YOLOv8 with four input channels and one class out.

Network and loss are Ultralytics' (AGPL-3.0, used in training only); the loop is ours, for bfloat16 on CPUs, exact resuming, phase dropout
and images that are slices of four phases.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from monai.data import ThreadBuffer
from PediatricLiverDxLib.composites import DETECTOR_SIZE, DETECTOR_STRIDE
from PediatricLiverDxLib.detection import boxes_of
from PediatricLiverDxLib.vocabulary import PHASES, InputError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.loss import v8DetectionLoss

from .average_precision import average_precision
from .bundle_weights import load_bundle_weights, network_file
from .cache import CachedExam
from .configuration import DETECTOR, Configuration, DetectorSettings
from .detector_batches import DetectorBatch, DetectorBatches, HardNegative
from .origins import origin_of, write_origin
from .plain_json import write_json
from .run_folder import (
    AveragedWeights,
    append_history,
    autocast,
    learning_rate_factor,
    pick_device,
    resumable_checkpoint,
    save_checkpoint,
    training_key,
)

#: Ultralytics' gains of the three parts of the loss.
GAINS = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5)
#: Overlap at which the paper scores the detector, and the one for non-maximum suppression.
MATCH_IOU = 0.40
NMS_IOU = 0.45
#: Score from which a false box makes a slice a hard one: what thresholds are later chosen among begins here.
HARD_SCORE = 0.1
#: In the detector's folder: the hard negatives of its training.
HARD_FILE = "hard_negatives.json"


def build_detector(settings: DetectorSettings, weights: Path | None = None) -> DetectionModel:
    """Build the network at random weights, or with those of a .safetensors file of ours."""
    model = DetectionModel(settings.architecture, ch=len(PHASES), nc=1, verbose=False)
    if (stride := int(model.stride.max())) != DETECTOR_STRIDE:
        raise InputError(
            f"{settings.architecture} needs images in steps of {stride} pixels, and diagnosis gives steps of {DETECTOR_STRIDE}; "
            "choose a YOLO with levels of 8, 16 and 32 pixels, such as yolov8n.yaml"
        )
    model.args = GAINS
    if weights is not None:
        try:
            model.load_state_dict(load_file(weights))
        except (OSError, RuntimeError, SafetensorError):
            message = f"{weights.name} does not hold the weights of {settings.architecture}; give those of a detector trained here."
            raise InputError(message) from None
        model.eval()
    return model


def starting_detector(settings: DetectorSettings, start: Path | None, images: torch.Tensor) -> DetectionModel:
    """Build the network as training begins with it: at random weights, or at those of `start`, as in train_detector.

    images: as bundle_weights.load_bundle_weights takes them. Raises InputError when `start` holds another network.
    """
    if start is None or not start.is_dir():
        return build_detector(settings, start)
    model = build_detector(settings)
    load_bundle_weights(model, network_file(start, DETECTOR), images)
    return model


def train_detector(
    exams: dict[str, Sequence[CachedExam]],
    configuration: Configuration,
    folder: Path,
    *,
    device: str = "auto",
    start: Path | None = None,
    stop_after: int | None = None,
) -> Path:
    """Train on exams["train"], watching exams["validation"]; return the file of the averaged weights.

    Begins at random weights, or at those of `start`: a .safetensors file of a former training, or the folder of a bundle. Goes on where
    `folder` left off; `stop_after` ends after that many epochs in all, as an interruption would.
    """
    settings = configuration.detector
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if start is not None and start.resolve() == (folder / "weights.safetensors").resolve():
        raise InputError("a training cannot begin at the weights that it is to replace; give a new run")
    target = pick_device(device)
    torch.manual_seed(configuration.seed)
    batches = DetectorBatches(exams["train"], settings, seed=configuration.seed)
    if not any(len(one.boxes) for exam in exams["train"] for one in exam.slices):
        raise InputError("no lesion is marked in any training exam; the detector has nothing to learn from")
    origin = origin_of(start, DETECTOR)
    model = starting_detector(settings, start, next(batches.epoch(0)).images).to(target, memory_format=torch.channels_last)
    if start is not None and start.is_dir():
        start = network_file(start, DETECTOR)
    average = AveragedWeights(model, settings.ema_decay)
    loss = v8DetectionLoss(model)
    optimiser = _optimiser(model, settings)
    key = training_key(settings, configuration.seed, exams, start=start)
    first = _resume(folder / "checkpoint.pt", key, model, average, optimiser)
    if first == 0:
        (folder / "weights.safetensors").unlink(missing_ok=True)  # of another training, which what follows does not describe
    if start is not None and settings.hard_share:
        batches = DetectorBatches(exams["train"], settings, seed=configuration.seed, hard=_hard_of_run(folder, average.model, exams, first))
    configuration.write(folder / "configuration.json")
    write_origin(folder, origin)
    last = min(settings.epochs, stop_after if stop_after is not None else settings.epochs)
    with SummaryWriter(str(folder / "tensorboard")) as board:
        for epoch in range(first, last):
            started = time.monotonic()
            parts = _epoch(model, average, optimiser, loss, batches, epoch, settings, target)
            speed = len(batches) * settings.batch / (time.monotonic() - started)
            entry = {"epoch": epoch, **parts, "images_per_s": speed, **validate(average.model, exams["validation"], target)}
            for measure, value in entry.items():
                board.add_scalar(measure, value, epoch)
            append_history(folder / "history.jsonl", entry)
            save_checkpoint(
                folder / "checkpoint.pt", key=key, epoch=epoch, model=model.state_dict(), optimiser=optimiser.state_dict(),
                average=average.model.state_dict(), updates=average.updates,
            )
            tqdm.write(" ".join(f"{key} {value:.4g}" for key, value in entry.items()))
    weights = folder / "weights.safetensors"
    save_file({key: value.contiguous().cpu() for key, value in average.model.state_dict().items()}, weights)
    return weights


def ultralytics_batch(batch: DetectorBatch, size: int = DETECTOR_SIZE) -> dict[str, torch.Tensor]:
    """Return the boxes in the form of Ultralytics' loss: image index, class 0, and cx, cy, w, h as fractions of the image."""
    centre, extent = (batch.boxes[:, :2] + batch.boxes[:, 2:]) / 2, batch.boxes[:, 2:] - batch.boxes[:, :2]
    return {
        "batch_idx": batch.owner.float(),
        "cls": torch.zeros(len(batch.boxes)),
        "bboxes": torch.cat([centre, extent], 1) / size,
    }


@torch.inference_mode()
def detect(model: nn.Module, images: np.ndarray, device: torch.device | str = "cpu", threshold: float = 0.01) -> list[np.ndarray]:
    """Return for every image (n, phase, row, column), float32 in [0, 1], the boxes found: (m, 5) x0, y0, x1, y1, score."""
    model.eval()
    found: list[np.ndarray] = []
    for start in range(0, len(images), 32):
        part = torch.from_numpy(images[start : start + 32]).to(device)
        with autocast(torch.device(device)):
            predictions = model(part.contiguous(memory_format=torch.channels_last))
        predictions = predictions[0] if isinstance(predictions, tuple) else predictions
        found += boxes_of(predictions.float().cpu().numpy(), threshold, NMS_IOU)
    return found


def validate(model: nn.Module, exams: Sequence[CachedExam], device: torch.device | str = "cpu") -> dict[str, float]:
    """Return the average precision at MATCH_IOU on the depth-matched composites, and the best score of slices without a lesion."""
    predictions, truths, false_scores = [], [], []
    for exam in exams:
        composites = sorted({place for group in exam.groups for place in group})
        empty = [n for n, one in enumerate(exam.slices) if one.empty]
        found = detect(model, enlarged(exam.images[composites + empty]), device)
        predictions += found[: len(composites)]
        truths += [exam.slices[place].boxes * (DETECTOR_SIZE / exam.images.shape[-1]) for place in composites]
        false_scores += [boxes[:, 4].max() if len(boxes) else 0.0 for boxes in found[len(composites) :]]
    if not truths:
        return {}
    return {
        "map40": average_precision(predictions, truths, MATCH_IOU),
        "empty_slices_above_0.3": float(np.mean(np.array(false_scores) > 0.3)) if false_scores else 0.0,
    }


def hard_negatives(model: nn.Module, exams: Sequence[CachedExam], device: torch.device | str = "cpu") -> list[HardNegative]:
    """Return the cached slices without a lesion in which the network sees one, by a score of HARD_SCORE or more."""
    result = []
    for number, exam in enumerate(tqdm(exams, desc="hard negatives", unit="exam", mininterval=5, leave=False)):
        empty = [n for n, one in enumerate(exam.slices) if one.empty]
        for place, boxes in zip(empty, detect(model, enlarged(exam.images[empty]), device, HARD_SCORE), strict=True):
            if len(boxes):
                result.append(HardNegative(number, place, boxes[:, :4] * (exam.images.shape[-1] / DETECTOR_SIZE)))
    return result


def _hard_of_run(folder: Path, model: nn.Module, exams: dict[str, Sequence[CachedExam]], first: int) -> list[HardNegative]:
    """Return the hard negatives that a training began with: found by its first weights, which it has only before its first epoch."""
    path = folder / HARD_FILE
    if first == 0:
        found = hard_negatives(model, exams["train"], next(model.parameters()).device)
        tqdm.write(f"{len(found)} slices without a lesion in which the first weights see one")
        write_json(path, [{"exam": one.exam, "place": one.place, "boxes": one.boxes.tolist()} for one in found])
    elif not path.is_file():
        raise InputError(f"{HARD_FILE}, with which this training of the {folder.name} began, is gone; begin anew in a new run")
    kept = json.loads(path.read_text(encoding="utf-8"))
    return [HardNegative(one["exam"], one["place"], np.array(one["boxes"], np.float32)) for one in kept]


def enlarged(images: np.ndarray) -> np.ndarray:
    """Return cached slices (n, phase, row, column), uint8, as the network's input of DETECTOR_SIZE: float32 in [0, 1]."""
    scaled = torch.from_numpy(np.array(images)).float() / 255
    if scaled.shape[-1] != DETECTOR_SIZE:
        scaled = functional.interpolate(scaled, size=(DETECTOR_SIZE, DETECTOR_SIZE), mode="bilinear", align_corners=False)
    return scaled.numpy()


def _epoch(
    model: nn.Module, average: AveragedWeights, optimiser: torch.optim.Optimizer, loss: v8DetectionLoss, batches: DetectorBatches,
    epoch: int, settings: DetectorSettings, device: torch.device,
) -> dict[str, float]:
    model.train()
    totals = torch.zeros(3)
    step, steps = epoch * len(batches), settings.epochs * len(batches)
    bar = tqdm(ThreadBuffer(batches.epoch(epoch), buffer_size=2), total=len(batches), desc=f"detector {epoch + 1}/{settings.epochs}",
               mininterval=5, leave=False)
    for batch in bar:
        factor = learning_rate_factor(step, steps, schedule="one-cycle", warmup_share=settings.warmup_share)
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * factor
        with autocast(device):
            raw = model(batch.images.to(device).contiguous(memory_format=torch.channels_last))
        # the loss in float32: assignment compares small differences
        raw = {key: [one.float() for one in value] if isinstance(value, list) else value.float() for key, value in raw.items()}
        values, parts = loss(raw, ultralytics_batch(batch, batches.size))
        optimiser.zero_grad(set_to_none=True)
        (values.sum() / settings.batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimiser.step()
        average.update(model)
        totals += torch.stack([value.detach().float().cpu() for value in parts.values()])
        step += 1
    return dict(zip(("box", "cls", "dfl"), (totals / len(batches)).tolist(), strict=True))


def _optimiser(model: nn.Module, settings: DetectorSettings) -> torch.optim.Optimizer:
    return torch.optim.AdamW([
        {"params": [weight for weight in model.parameters() if weight.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [weight for weight in model.parameters() if weight.ndim <= 1], "weight_decay": 0.0},
    ], lr=settings.learning_rate)


def _resume(path: Path, key: str, model: nn.Module, average: AveragedWeights, optimiser: torch.optim.Optimizer) -> int:
    state = resumable_checkpoint(path, key)
    if state is None:
        return 0
    model.load_state_dict(state["model"])
    average.model.load_state_dict(state["average"])
    average.updates = state["updates"]
    optimiser.load_state_dict(state["optimiser"])
    return state["epoch"] + 1
