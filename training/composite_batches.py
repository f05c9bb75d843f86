"""Training batches for the classifiers: cached crops in, jittered PKCP composites after Balanced-MixUp out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PediatricLiverDxLib.composites import COMPOSITE_SIZE, composite_side
from PediatricLiverDxLib.vocabulary import CLASSES, ENTITY_CLASS, PHASES, WINDOWS, K
from torch.nn import functional

from . import augmentation, pkcp, sampling
from .cache import CROP_SIZE, FRACTIONS, CachedExam
from .configuration import ClassifierSettings

#: HU beyond which nothing can matter after windowing and jitter; sampling clipped values keeps edges as in diagnosis, which windows first.
_LOW = min(level - width / 2 for level, width in WINDOWS.values()) - 60
_HIGH = max(level + width / 2 for level, width in WINDOWS.values()) + 60


#: Order of an entity's one-hot vector.
ENTITIES = tuple(ENTITY_CLASS)


@dataclass(frozen=True)
class Batch:
    """images (n, phase, row, column) in [0, 1]; classes (n, 4) and entities (n, 7), the share of each of CLASSES and ENTITIES.

    Entities of an exam whose entity is not known are all zero.
    """

    images: torch.Tensor
    classes: torch.Tensor
    entities: torch.Tensor


@dataclass(frozen=True)
class View:
    """How n composites are cut from crops. Lengths in mm, boxes in voxel edges, angles in radians, flips +1 or -1."""

    boxes: np.ndarray
    angles: np.ndarray
    flips: np.ndarray
    phase_shifts: np.ndarray


class CompositeBatches:
    """Draws batches; what an epoch holds depends only on the seed and the epoch's number."""

    def __init__(self, exams: Sequence[CachedExam], settings: ClassifierSettings, *, seed: int, size: int = COMPOSITE_SIZE) -> None:
        self.settings, self.seed, self.size = settings, seed, size
        self.sources = [(exam, place) for exam in exams for place in range(len(exam.lesions))]
        self.classes = np.array([exam.class_index for exam, _ in self.sources])
        self.entities = np.array([[exam.entity == entity for entity in ENTITIES] for exam, _ in self.sources], np.float32)
        self._choices = {
            index: np.array(pkcp.choices_of(name, settings.expanded_classes)) for index, name in enumerate(CLASSES)
        }
        # an exam with several lesions counts as one exam
        self._composites = np.array([len(self._choices[exam.class_index]) / len(exam.lesions) for exam, _ in self.sources])

    def __len__(self) -> int:
        return max(1, self.settings.composites_per_epoch // self.settings.batch)

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches of an epoch."""
        rng = np.random.default_rng([self.seed, number])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        n = self.settings.batch
        for _ in range(len(self)):
            balanced = sampling.sample_classes(rng, self.classes, self._composites, n)
            if rng.random() >= self.settings.mixup_share:
                yield self._draw(balanced, rng, generator)
                continue
            instance = sampling.sample_instances(rng, self._composites, n)
            both = self._draw(np.concatenate([instance, balanced]), rng, generator)
            weight = torch.from_numpy(sampling.draw_lambda(rng, n, self.settings.mixup_beta))
            yield Batch(*(sampling.mix(part[:n], part[n:], weight) for part in (both.images, both.classes, both.entities)))

    def _draw(self, sources: np.ndarray, rng: np.random.Generator, generator: torch.Generator) -> Batch:
        settings = self.settings
        chosen = [self.sources[source] for source in sources]
        n = len(chosen)
        crops = np.empty((n, len(PHASES), CROP_SIZE, CROP_SIZE), np.int16)
        boxes = np.empty((n, 4))
        for row, (exam, lesion) in enumerate(chosen):
            options = self._choices[exam.class_index]
            choice = options[rng.integers(len(options))]
            if rng.random() < settings.depth_matched_share:
                choice = np.full(len(PHASES), rng.integers(K))
            wanted = (2 * choice + 1) / (2 * K) + settings.slice_jitter * (rng.standard_normal() + 0.3 * rng.standard_normal(len(PHASES)))
            places = np.abs(FRACTIONS - wanted[:, None]).argmin(1)
            for p, place in enumerate(places):
                crops[row, p] = exam.crops[lesion, place, p]
            cached = exam.lesions[lesion]
            whole = rng.random() < settings.whole_box_share
            boxes[row] = cached.box[[0, 1, 3, 4]] if whole else pkcp.enclosing_box(cached.sections[places])
        view = self._jitter(boxes, rng)
        images = cut(crops, chosen, view, self.size)
        images = augmentation.jitter_window(images, generator, settings.intensity)
        images = augmentation.degrade(images, generator, settings.intensity).clamp_(0, 1)
        present = torch.tensor([exam.present for exam, _ in chosen])
        kept = augmentation.draw_kept_phases(present, generator, settings.phase_dropout)
        images *= inside_box(chosen, view, self.size)[:, None] * kept[:, :, None, None]
        return Batch(images, torch.from_numpy(sampling.one_hot(self.classes[sources])), torch.from_numpy(self.entities[sources]))

    def _jitter(self, boxes: np.ndarray, rng: np.random.Generator) -> View:
        settings = self.settings
        n = len(boxes)
        centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        centre = centre + size * rng.uniform(-settings.box_jitter, settings.box_jitter, (n, 2)) * rng.random((n, 1))
        size = size * np.exp(rng.uniform(-settings.box_jitter, settings.box_jitter, (n, 2)))
        return View(
            np.concatenate([centre - size / 2, centre + size / 2], 1),
            np.deg2rad(rng.uniform(-settings.rotation, settings.rotation, n)),
            np.where(rng.random((n, 2)) < settings.flip, -1.0, 1.0),
            rng.standard_normal((n, len(PHASES), 2)) * settings.phase_shift_mm,
        )


def cut(crops: np.ndarray, chosen: Sequence[tuple[CachedExam, int]], view: View, size: int) -> torch.Tensor:
    """Return (n, phase, size, size) in window units, not clipped to [0, 1] and not masked, as composites.crop_plane would cut them."""
    n = len(chosen)
    spacing = np.array([exam.spacing_xy for exam, _ in chosen])
    origin = np.array([exam.lesions[lesion].origin for exam, lesion in chosen])
    step = np.array([exam.lesions[lesion].step for exam, lesion in chosen])
    centre = (view.boxes[:, :2] + view.boxes[:, 2:]) / 2
    side = composite_side(((view.boxes[:, 2:] - view.boxes[:, :2]) * spacing).max(1))
    cos, sin = np.cos(view.angles), np.sin(view.angles)
    # grid_sample's coordinates run from -1 to 1 over the crop's edges: mm -> voxel -> crop pixel -> that
    to_crop = 2 / (spacing * step[:, None] * CROP_SIZE)
    rotation = np.stack([cos, -sin, sin, cos], 1).reshape(n, 2, 2) * view.flips[:, None]
    matrix = rotation * (side / 2)[:, None, None] * to_crop[:, :, None]
    offset = 2 * (centre - origin) / (step[:, None] * CROP_SIZE) - 1
    offsets = (offset[:, None] + view.phase_shifts * to_crop[:, None]).astype(np.float32)
    centres = (torch.arange(size) + 0.5) / size * 2 - 1
    matrix = torch.from_numpy(matrix.astype(np.float32)).view(n, 2, 2, 1, 1)
    grid = torch.stack([matrix[:, axis, 0] * centres + matrix[:, axis, 1] * centres[:, None] for axis in (0, 1)], 3)
    grid = (grid[:, None] + torch.from_numpy(offsets).view(n, -1, 1, 1, 2)).view(-1, size, size, 2)
    np.clip(crops, int(_LOW), int(_HIGH), out=crops)
    source = torch.from_numpy(crops).float().view(-1, 1, CROP_SIZE, CROP_SIZE)
    hu = functional.grid_sample(source, grid, mode="bilinear", padding_mode="border", align_corners=False).view(n, len(PHASES), size, size)
    return (hu - (augmentation.LEVELS - augmentation.WIDTHS / 2)) / augmentation.WIDTHS


def inside_box(chosen: Sequence[tuple[CachedExam, int]], view: View, size: int) -> torch.Tensor:
    """Return (n, size, size) float32, 1 where a pixel's centre lies inside the box."""
    spacing = np.array([exam.spacing_xy for exam, _ in chosen])
    extent = (view.boxes[:, 2:] - view.boxes[:, :2]) * spacing
    half = torch.from_numpy((extent / composite_side(extent.max(1, keepdims=True))).astype(np.float32))
    centres = ((torch.arange(size) + 0.5) / size * 2 - 1).abs()
    return ((centres <= half[:, 1, None])[:, :, None] & (centres <= half[:, 0, None])[:, None, :]).float()
