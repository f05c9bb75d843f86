"""Train the lesion classifiers: cached exams in, one folder a backbone out, with weights, history and validation logits.

One trunk, three binary heads in the order of HEADS. Under Balanced-MixUp a composite carries shares w of the four classes; then
    stage 1            target w_HB + w_OMHT, weight 1
    benign subtype     target w_OBHT / (w_HH + w_OBHT), weight w_HH + w_OBHT
    malignant subtype  target w_OMHT / (w_HB + w_OMHT), weight w_HB + w_OMHT
so that a head learns only from its own side. Where the cohort names entities, a fourth linear layer learns to tell them from the pooled
features (cross-entropy, weighted by `entity_weight`): seven looks teach the trunk more than four classes do. It is dropped afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.data import ThreadBuffer
from PediatricLiverDxLib.composites import COMPOSITE_SIZE
from PediatricLiverDxLib.vocabulary import CLASSES, HEADS, InputError, K
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from .backbones import Backbone, build_backbone
from .bundle_weights import load_bundle_weights, network_file
from .cache import CachedExam
from .composite_batches import ENTITIES, CompositeBatches
from .configuration import ClassifierSettings, Configuration
from .origins import origin_of, write_origin
from .pkcp import mean_over_composites
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
from .statistics import auc


@dataclass(frozen=True)
class LesionLogits:
    """Logits (n, 3) of n lesions, each the mean over its K composites, with exam_id, class index and size rank (0 the largest)."""

    exam_ids: np.ndarray
    classes: np.ndarray
    ranks: np.ndarray
    logits: np.ndarray

    def save(self, path: Path) -> None:
        np.savez(path, exam_ids=self.exam_ids, classes=self.classes, ranks=self.ranks, logits=self.logits)

    @classmethod
    def load(cls, path: Path) -> LesionLogits:
        with np.load(path, allow_pickle=False) as file:
            return cls(file["exam_ids"], file["classes"], file["ranks"], file["logits"])

    def largest(self) -> LesionLogits:
        """Return the largest lesion of each exam only."""
        keep = self.ranks == 0
        return LesionLogits(self.exam_ids[keep], self.classes[keep], self.ranks[keep], self.logits[keep])


def train_classifier(
    name: str,
    exams: dict[str, Sequence[CachedExam]],
    configuration: Configuration,
    folder: Path,
    *,
    device: str = "auto",
    pretrained: Path | None = None,
    start: Path | None = None,
    stop_after: int | None = None,
) -> Path:
    """Train backbone `name` on exams["train"], watching exams["validation"]; return the file of its averaged weights.

    Begins at random weights, with a `pretrained` trunk (see build_backbone), or at the network of the bundle in the folder `start`. Goes on
    where `folder` left off; `stop_after` ends after that many epochs in all, as an interruption would.
    """
    settings = configuration.classifiers
    folder = Path(folder) / name
    folder.mkdir(parents=True, exist_ok=True)
    target = pick_device(device)
    torch.manual_seed(configuration.seed)
    epochs, first_epochs = settings.epochs[name], settings.first_epochs[name]
    batches_of = {
        size: CompositeBatches(exams["train"], settings, seed=configuration.seed, size=size)
        for size in {COMPOSITE_SIZE, *([settings.first_size[name]] if first_epochs else [])}
    }
    if not batches_of[COMPOSITE_SIZE].sources:
        raise InputError("no lesion is marked in any training exam; the classifiers have nothing to learn from")
    model = build_backbone(name, pretrained)
    origin = {"trunk": pretrained.name} if pretrained else origin_of(start, name)
    if start is not None:
        start = network_file(start, name)
        load_bundle_weights(model, start, next(batches_of[COMPOSITE_SIZE].epoch(0)).images)
    model = model.to(target, memory_format=torch.channels_last)
    average = AveragedWeights(model, settings.ema_decay)
    entity_layer = nn.Linear(model.head.in_features, len(ENTITIES)).to(target)
    optimiser = _optimiser(nn.ModuleList([model, entity_layer]), settings, settings.learning_rate[name])
    key = training_key(settings, configuration.seed, exams, name, start=pretrained or start)
    first = _resume(folder / "checkpoint.pt", key, model, entity_layer, average, optimiser)
    if first == 0:
        for result in ("weights.safetensors", "validation.npz"):
            (folder / result).unlink(missing_ok=True)  # of another training, which what follows does not describe
    configuration.write(folder / "configuration.json")
    write_origin(folder, origin)
    with SummaryWriter(str(folder / "tensorboard")) as board:
        for epoch in range(first, min(epochs, stop_after if stop_after is not None else epochs)):
            # drop path and the like draw from torch's own generator; seeded by epoch, a resumed run draws the same
            torch.manual_seed(configuration.seed * 100_003 + epoch)
            started = time.monotonic()
            batches = batches_of[settings.first_size[name] if epoch < first_epochs else COMPOSITE_SIZE]
            loss = _epoch(model, entity_layer, average, optimiser, batches, epoch, epochs, settings, target, name)
            seconds = time.monotonic() - started
            found = predict(average.model, exams["validation"], target)
            entry = {"epoch": epoch, "loss": loss, "composites_per_s": len(batches) * settings.batch / seconds, **scores(found)}
            for measure, value in entry.items():
                board.add_scalar(measure, value, epoch)
            append_history(folder / "history.jsonl", entry)
            save_checkpoint(
                folder / "checkpoint.pt", key=key, epoch=epoch, model=model.state_dict(), entity_layer=entity_layer.state_dict(),
                optimiser=optimiser.state_dict(),
                average=average.model.state_dict(), updates=average.updates,
            )
            tqdm.write(" ".join(f"{key} {value:.4g}" for key, value in entry.items()))
    weights = folder / "weights.safetensors"
    save_file({key: value.contiguous().cpu() for key, value in average.model.state_dict().items()}, weights)
    predict(average.model, exams["validation"], target).save(folder / "validation.npz")
    return weights


def head_losses(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Return the three heads' losses (3,), each weighted by its share of the batch; logits (n, 3), classes (n, 4) shares."""
    targets, weights = head_targets(classes)
    losses = functional.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
    return (losses * weights).sum(0) / logits.shape[0]


def head_targets(classes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return targets and weights, both (n, 3) in the order of HEADS, of class shares (n, 4)."""
    hh, obht, hb, omht = classes.unbind(1)
    benign, malignant = hh + obht, hb + omht
    targets = torch.stack([malignant / (benign + malignant), obht / benign.clamp_min(1e-6), omht / malignant.clamp_min(1e-6)], 1)
    return targets, torch.stack([torch.ones_like(benign), benign, malignant], 1)


@torch.inference_mode()
def predict(model: Backbone, exams: Sequence[CachedExam], device: torch.device | str = "cpu", batch: int = 96) -> LesionLogits:
    """Return the logits of every cached lesion on its true box, as diagnosis makes its composites; nothing is augmented."""
    model.eval()

    def logits(composites: np.ndarray) -> np.ndarray:
        images = torch.from_numpy(composites).to(device).contiguous(memory_format=torch.channels_last)
        with autocast(torch.device(device)):
            return model(images)[1].float().cpu().numpy()

    return lesion_logits(exams, logits, batch)


def lesion_logits(exams: Sequence[CachedExam], network: Callable[[np.ndarray], np.ndarray], batch: int = 96) -> LesionLogits:
    """Return what `network` says of every cached lesion: composites (n, 4, size, size) in [0, 1] in, logits (n, 3) out."""
    rows = [(exam, rank) for exam in exams for rank in range(len(exam.lesions))]
    logits = [np.zeros((0, len(HEADS)), np.float32)]
    for start in range(0, len(rows), batch // K):
        composites = np.concatenate([exam.composites[rank] for exam, rank in rows[start : start + batch // K]])
        logits.append(network(composites.astype(np.float32) / 255))
    _, means = mean_over_composites(np.concatenate(logits), np.repeat(np.arange(len(rows)), K))
    return LesionLogits(
        np.array([exam.exam_id for exam, _ in rows]), np.array([exam.class_index for exam, _ in rows], int),
        np.array([rank for _, rank in rows], int), means,
    )


def scores(found: LesionLogits) -> dict[str, float]:
    """Return validation loss and AUC per head over the largest lesion of each exam."""
    largest = found.largest()
    if not len(largest.classes):
        return {}
    shares = torch.eye(len(CLASSES))[torch.from_numpy(largest.classes)]
    targets, weights = head_targets(shares)
    result = {"validation_loss": float(head_losses(torch.from_numpy(largest.logits), shares).sum())}
    for place, head in enumerate(HEADS):
        own = weights[:, place].numpy() > 0
        result[f"auc_{head}"] = auc(targets[own, place].numpy() > 0.5, largest.logits[own, place])
    return result


def load_backbone(name: str, weights: Path) -> Backbone:
    """Return a trained backbone, ready for evaluation."""
    from safetensors.torch import load_file

    model = build_backbone(name)
    model.load_state_dict(load_file(weights))
    return model.eval()


def entity_loss(logits: torch.Tensor, entities: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy of entity logits (n, 7) against shares (n, 7); rows of zeros, entity not known, count nothing."""
    return -(torch.log_softmax(logits.float(), 1) * entities).sum() / len(entities)


def _epoch(
    model: Backbone, entity_layer: nn.Linear, average: AveragedWeights, optimiser: torch.optim.Optimizer, batches: CompositeBatches,
    epoch: int, epochs: int, settings: ClassifierSettings, device: torch.device, name: str,
) -> float:
    """Learn from one epoch's batches; return the heads' mean loss."""
    model.train()
    total = 0.0
    step = epoch * len(batches)
    # one batch is drawn while the one before it is learnt from
    for batch in tqdm(ThreadBuffer(batches.epoch(epoch), buffer_size=2), total=len(batches), desc=f"{name} {epoch + 1}/{epochs}",
                      mininterval=5, leave=False):
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate[name] * learning_rate_factor(step, epochs * len(batches), schedule=settings.schedule)
        with autocast(device):
            features, logits = model(batch.images.to(device).contiguous(memory_format=torch.channels_last))
        heads = head_losses(logits, batch.classes.to(device)).sum()
        named = entity_loss(entity_layer(features.float().mean((2, 3))), batch.entities.to(device))
        loss = heads + settings.entity_weight * named
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        average.update(model)
        total += float(heads.detach())
        step += 1
    return total / len(batches)


def _optimiser(model: nn.Module, settings: ClassifierSettings, learning_rate: float) -> torch.optim.Optimizer:
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    vectors = [weight for weight in model.parameters() if weight.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    if settings.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=learning_rate)
    if settings.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=learning_rate, momentum=settings.momentum)
    raise InputError(f"expected an optimiser among adamw, sgd, got {settings.optimiser}")


def _resume(
    path: Path, key: str, model: nn.Module, entity_layer: nn.Linear, average: AveragedWeights, optimiser: torch.optim.Optimizer
) -> int:
    state = resumable_checkpoint(path, key)
    if state is None:
        return 0
    model.load_state_dict(state["model"])
    entity_layer.load_state_dict(state["entity_layer"])
    average.model.load_state_dict(state["average"])
    average.updates = state["updates"]
    optimiser.load_state_dict(state["optimiser"])
    return state["epoch"] + 1
