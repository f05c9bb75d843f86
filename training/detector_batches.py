"""Training batches for the detector: cached slices of four phases in, jittered images with their boxes out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PediatricLiverDxLib.composites import DETECTOR_SIZE, DETECTOR_STRIDE
from PediatricLiverDxLib.vocabulary import CLASSES, PHASES
from torch.nn import functional

from . import augmentation, pkcp, sampling
from .cache import SMALLEST_SECTION, CachedExam
from .configuration import DetectorSettings


@dataclass(frozen=True)
class DetectorBatch:
    """images (n, phase, row, column) in [0, 1]; boxes (m, 4) x0, y0, x1, y1 in pixels; owner (m,) the image of each box."""

    images: torch.Tensor
    boxes: torch.Tensor
    owner: torch.Tensor


@dataclass(frozen=True)
class HardNegative:
    """A cached slice without a lesion, by exam and place, and the boxes (m, 4), in its pixels, in which a detector sees one."""

    exam: int
    place: int
    boxes: np.ndarray


class DetectorBatches:
    """Draws batches; what an epoch holds depends only on the seed and the epoch's number.

    An image shows a part of a slice, settings.view. A share of the images has no lesion, some of them from `hard`; a share shows a small
    lesion, each slice with one equally likely. Of the others every exam is equally likely, then every one of its slices; a share of them
    are PKCP composites: each phase shows one of a lesion's K slices (pkcp.choices_of), and each lesion's box encloses its boxes in them.
    """

    def __init__(
        self, exams: Sequence[CachedExam], settings: DetectorSettings, *, seed: int, size: int = DETECTOR_SIZE,
        hard: Sequence[HardNegative] = (),
    ) -> None:
        self.exams, self.settings, self.seed, self._hard = list(exams), settings, seed, hard
        #: Side of the images in pixels, a multiple of the network's largest stride.
        self.size = max(1, round(size * settings.view / DETECTOR_STRIDE)) * DETECTOR_STRIDE
        self._view = self.size / size
        self._kept_size = self.exams[0].images.shape[-1]
        small = settings.small * self._kept_size
        self._small = [(n, place) for n, exam in enumerate(self.exams) for place in slices_with_small_lesions(exam, small)]
        self._positive = [n for n, exam in enumerate(self.exams) if any(len(one.boxes) for one in exam.slices)]
        self._negative = [n for n, exam in enumerate(self.exams) if any(one.empty for one in exam.slices)]

    def __len__(self) -> int:
        return max(1, self.settings.images_per_epoch // self.settings.batch)

    def epoch(self, number: int) -> Iterator[DetectorBatch]:
        """Yield the batches of an epoch."""
        rng = np.random.default_rng([self.seed, number])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        for _ in range(len(self)):
            yield self._draw(rng, generator)

    def _draw(self, rng: np.random.Generator, generator: torch.Generator) -> DetectorBatch:
        settings, n = self.settings, self.settings.batch
        raw = np.empty((n, len(PHASES), self._kept_size, self._kept_size), np.uint8)
        # what the part shown is around need not be a lesion
        boxes, around, present = [], [], []
        for row in range(n):
            if self._small and rng.random() < settings.small_share:
                number, place = self._small[rng.integers(len(self._small))]
                exam = self.exams[number]
                raw[row], found = exam.images[place], exam.slices[place].boxes
                shown = found
            else:
                negative = self._negative and (rng.random() < settings.negative_share or not self._positive)
                if negative and self._hard and rng.random() < settings.hard_share:
                    hard = self._hard[rng.integers(len(self._hard))]
                    exam = self.exams[hard.exam]
                    raw[row], found, shown = exam.images[hard.place], np.zeros((0, 4), np.float32), hard.boxes
                else:
                    exam = self.exams[rng.choice(self._negative if negative else self._positive)]
                    raw[row], found = self._image(exam, bool(negative), rng)
                    shown = found
            boxes.append(found)
            around.append(shown)
            present.append(exam.present)
        matrix, inverse = self._affine(rng, around)
        grid = functional.affine_grid(torch.from_numpy(matrix), [n, 1, self.size, self.size], align_corners=False)
        images = functional.grid_sample(torch.from_numpy(raw).float().div_(255), grid, mode="bilinear", align_corners=False)
        # air stays air: below the window nothing is known any more that a shift could bring back
        images = torch.where(images > 0, augmentation.jitter_window(images, generator, settings.intensity), 0)
        images = augmentation.degrade(images, generator, settings.intensity * 0.7).clamp_(0, 1)
        kept = augmentation.draw_kept_phases(torch.tensor(present), generator, settings.phase_dropout)
        kept[~kept.any(1)] = torch.tensor(present)[~kept.any(1)]
        images *= kept[:, :, None, None]
        boxes = [self._moved(found, inverse[row]) for row, found in enumerate(boxes)]
        if rng.random() < settings.mixup:
            partner = np.roll(np.arange(n), 1)
            weight = torch.from_numpy(sampling.draw_lambda(rng, n, settings.mixup_beta))
            images = sampling.mix(images, images[partner], weight)
            boxes = [np.concatenate([boxes[row], boxes[partner[row]]]) for row in range(n)]
        owner = np.repeat(np.arange(n), [len(found) for found in boxes])
        return DetectorBatch(images, torch.from_numpy(np.concatenate(boxes)), torch.from_numpy(owner))

    def _image(self, exam: CachedExam, negative: bool, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        if negative:
            return exam.images[rng.choice([n for n, one in enumerate(exam.slices) if one.empty])], np.zeros((0, 4), np.float32)
        if exam.groups and rng.random() < self.settings.pkcp_share:
            group = exam.groups[rng.integers(len(exam.groups))]
            choices = pkcp.choices_of(CLASSES[exam.class_index], self.settings.expanded_classes)
            places = np.array(group)[list(choices[rng.integers(len(choices))])]
            if any(len(exam.slices[place].boxes) for place in places):
                return exam.images[places, np.arange(len(PHASES))], composite_boxes(exam, places)
        place = rng.choice([n for n, one in enumerate(exam.slices) if len(one.boxes)])
        return exam.images[place], exam.slices[place].boxes

    def _affine(self, rng: np.random.Generator, around: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return maps from output to input in grid_sample's coordinates (n, 2, 3), and their inverses."""
        settings, n = self.settings, len(around)
        angle = np.deg2rad(rng.uniform(-settings.rotation, settings.rotation, n))
        scale = self._view * np.exp(rng.uniform(-settings.scale, settings.scale, (n, 1)) + rng.uniform(-0.1, 0.1, (n, 2)))
        full = np.tile(np.eye(3), (n, 1, 1))
        full[:, 0, 0], full[:, 0, 1] = np.cos(angle) * scale[:, 0], -np.sin(angle) * scale[:, 1]
        full[:, 1, 0], full[:, 1, 1] = np.sin(angle) * scale[:, 0], np.cos(angle) * scale[:, 1]
        full[:, :2, 2] = rng.uniform(-2 * settings.translation, 2 * settings.translation, (n, 2))
        full[:, :2, 2] += np.array([self._middle(rng, boxes) for boxes in around])
        return full[:, :2].astype(np.float32), np.linalg.inv(full)[:, :2]

    def _middle(self, rng: np.random.Generator, boxes: np.ndarray) -> np.ndarray:
        """Draw the middle (x, y) of the part of a slice that is shown, in grid_sample's coordinates.

        Before jitter that part holds the middle of one of the boxes, lesions or what was taken for one.
        """
        most = 1 - self._view
        if most <= 0:
            return np.zeros(2)
        if not len(boxes):
            return rng.uniform(-most, most, 2)
        box = boxes[rng.integers(len(boxes))]
        lesion = (box[:2] + box[2:]) / self._kept_size - 1
        return rng.uniform(np.clip(lesion - self._view, -most, most), np.clip(lesion + self._view, -most, most))

    def _moved(self, boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """Map boxes (m, 4) into the jittered image, cut at its border, without those that left it."""
        if not len(boxes):
            return boxes.astype(np.float32)
        kept_size = self._kept_size
        centre, half = (boxes[:, :2] + boxes[:, 2:]) / kept_size - 1, (boxes[:, 2:] - boxes[:, :2]) / kept_size
        centre = centre @ matrix[:, :2].T + matrix[:, 2]
        # the box of a turned ellipse, which a lesion is closer to than to a turned rectangle
        half = np.sqrt(half**2 @ (matrix[:, :2] ** 2).T)
        moved = (np.concatenate([centre - half, centre + half], 1) + 1) / 2 * self.size
        clipped = moved.clip(0, self.size)
        kept = (clipped[:, 2:] - clipped[:, :2]).prod(1) > 0.4 * (moved[:, 2:] - moved[:, :2]).prod(1)
        kept &= (clipped[:, 2:] - clipped[:, :2]).min(1) >= SMALLEST_SECTION
        return clipped[kept].astype(np.float32)


def slices_with_small_lesions(exam: CachedExam, side: float) -> list[int]:
    """Return the cached slices, by place, that show a lesion whose section is below `side` pixels in every one of them.

    The small section at a large lesion's end is not meant: there are more of these than slices of small lesions.
    """
    largest: dict[int, float] = {}
    for one in exam.slices:
        for owner, section in zip(one.lesions, (one.boxes[:, 2:] - one.boxes[:, :2]).max(1, initial=0), strict=True):
            largest[owner] = max(largest.get(owner, 0), float(section))
    return [place for place, one in enumerate(exam.slices) if any(largest[owner] < side for owner in one.lesions)]


def composite_boxes(exam: CachedExam, places: Sequence[int]) -> np.ndarray:
    """Return (m, 4), for each lesion in any of the cached slices `places` the box that encloses its boxes in them."""
    boxes: dict[int, list[np.ndarray]] = {}
    for place in places:
        one = exam.slices[place]
        for owner, box in zip(one.lesions, one.boxes, strict=True):
            boxes.setdefault(owner, []).append(box)
    return np.array([pkcp.enclosing_box(np.array(found)) for found in boxes.values()], np.float32).reshape(-1, 4)
