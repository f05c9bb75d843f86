"""The cache holds what diagnosis sees; batches show it, jittered, with the right labels and boxes."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PediatricLiverDxLib.composites import DETECTOR_SIZE, Roi, composites, detector_images, detector_transform
from PediatricLiverDxLib.vocabulary import CLASSES

from training.cache import FRACTIONS, CachedExam, build_cache
from training.cohort import read_exams_csv
from training.composite_batches import CompositeBatches, View, cut, inside_box
from training.configuration import CacheSettings, ClassifierSettings, DetectorSettings
from training.detector import hard_negatives
from training.detector_batches import DetectorBatches, HardNegative, composite_boxes, slices_with_small_lesions
from training.truth import load_exam

SETTINGS = CacheSettings(align_share=0.0)
STILL = ClassifierSettings(batch=4, composites_per_epoch=8, mixup_share=0.0, phase_dropout=0.0, intensity=0.0, rotation=0.0, flip=0.0)


@pytest.fixture(scope="module")
def cached(exams_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[CachedExam, ...]:
    return build_cache(read_exams_csv(exams_csv), tmp_path_factory.mktemp("cache"), SETTINGS)


def test_cached_composites_are_those_of_diagnosis(exams_csv: Path, cached: tuple[CachedExam, ...]):
    for record, exam in list(zip(read_exams_csv(exams_csv), cached, strict=True))[:5]:
        aligned, lesions = load_exam(record, align_phases=False)
        assert len(exam.lesions) == len(lesions)
        for place, lesion in enumerate(lesions):
            expected = composites(aligned, Roi.from_index_box(aligned.grid, lesion.box))
            np.testing.assert_allclose(exam.composites[place] / 255, expected, atol=0.5 / 255 + 1e-6)


def test_cached_slices_are_the_detectors_inputs_and_their_boxes_hold_the_lesions(exams_csv: Path, cached: tuple[CachedExam, ...]):
    record, exam = read_exams_csv(exams_csv)[1], cached[1]
    aligned, lesions = load_exam(record, align_phases=False)
    transform = detector_transform(aligned)
    inputs = detector_images(aligned, transform, range(aligned.grid.size_xyz[2]))
    for place, one in enumerate(exam.slices):
        np.testing.assert_allclose(exam.images[place] / 255, inputs[one.z], atol=0.5 / 255 + 1e-6)
        for owner, box in zip(one.lesions, one.boxes, strict=True):
            np.testing.assert_allclose(transform.to_index(box), lesions[owner].slice_box(one.z), atol=1e-3)
    assert any(one.empty for one in exam.slices) and any(len(one.boxes) == 2 for one in exam.slices)


def test_a_made_exam_is_not_made_again(exams_csv: Path, cached: tuple[CachedExam, ...]):
    before = {exam.folder: (exam.folder / "crops.npy").stat().st_mtime_ns for exam in cached}
    build_cache(read_exams_csv(exams_csv), cached[0].folder.parent, SETTINGS)
    assert before == {exam.folder: (exam.folder / "crops.npy").stat().st_mtime_ns for exam in cached}


def test_an_exam_is_cut_again_when_settings_or_its_files_change(exams_csv: Path, tmp_path: Path):
    record = read_exams_csv(exams_csv)[0]

    def made() -> str:
        (exam,) = build_cache([record], tmp_path, settings)
        return json.loads((exam.folder / "exam.json").read_text())["key"]

    settings = SETTINGS
    first = made()
    assert made() == first
    settings = dataclasses.replace(SETTINGS, negative_slices=1)
    second = made()
    assert second != first
    lesions = record.lesions.stat()
    os.utime(record.lesions, ns=(lesions.st_atime_ns, lesions.st_mtime_ns + 10**9))
    assert made() != second
    # a folder from before there were keys is taken as it is
    path = next(tmp_path.glob("*/exam.json"))
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "key"}))
    build_cache([record], tmp_path, settings)
    assert "key" not in json.loads(path.read_text())
    os.utime(record.lesions, ns=(lesions.st_atime_ns, lesions.st_mtime_ns))


def test_an_unjittered_cut_equals_the_composite_of_diagnosis(cached: tuple[CachedExam, ...]):
    """What training renders from its crops and what diagnosis cuts from the volume differ by rounding only."""
    for exam in cached[:6]:
        for lesion, one in enumerate(exam.lesions):
            for k in range(3):
                place = int(np.abs(FRACTIONS - (2 * k + 1) / 6).argmin())
                view = View(one.box[[0, 1, 3, 4]][None], np.zeros(1), np.ones((1, 2)), np.zeros((1, 4, 2)))
                crops = np.array(exam.crops[lesion, place])[None]
                images = cut(crops, [(exam, lesion)], view, 128).clamp(0, 1) * inside_box([(exam, lesion)], view, 128)[:, None]
                images *= torch.tensor(exam.present)[None, :, None, None]
                difference = np.abs(images[0].numpy() - exam.composites[lesion, k] / 255)
                assert difference.mean() < 0.003


def test_batches_repeat_with_the_epoch_and_differ_between_epochs(cached: tuple[CachedExam, ...]):
    batches = CompositeBatches(cached, ClassifierSettings(batch=4, composites_per_epoch=8), seed=3)
    first, again, other = (list(batches.epoch(number)) for number in (0, 0, 1))
    assert len(first) == 2
    for one, two in zip(first, again, strict=True):
        torch.testing.assert_close(one.images, two.images)
    assert not torch.equal(first[0].images, other[0].images)


def test_batches_hold_valid_images_and_class_shares(cached: tuple[CachedExam, ...]):
    for batch in CompositeBatches(cached, ClassifierSettings(batch=8, composites_per_epoch=32, mixup_share=1.0), seed=0).epoch(0):
        assert batch.images.shape == (8, 4, 128, 128) and batch.classes.shape == (8, len(CLASSES))
        assert batch.images.min() >= 0 and batch.images.max() <= 1
        torch.testing.assert_close(batch.classes.sum(1), torch.ones(8))


def test_a_flip_turns_the_image_round(cached: tuple[CachedExam, ...]):
    still, flipped = (
        next(CompositeBatches(cached, dataclasses.replace(STILL, box_jitter=0.0, phase_shift_mm=0.0, flip=flip), seed=5).epoch(0))
        for flip in (0.0, 1.0)
    )
    torch.testing.assert_close(still.images.flip(2, 3), flipped.images, atol=2e-3, rtol=0)


@pytest.mark.parametrize("view", [1.0, 0.7])
def test_detector_boxes_stay_on_their_lesions(cached: tuple[CachedExam, ...], view: float):
    """The ball of an HH exam is the brightest thing in DP: after jitter its box still holds nearly all bright pixels."""
    bright = [exam for exam in cached if CLASSES[exam.class_index] == "HH" and all(exam.present)]
    off = dict.fromkeys(("negative_share", "phase_dropout", "mixup", "pkcp_share", "intensity"), 0.0)
    settings = DetectorSettings(batch=8, images_per_epoch=16, view=view, **off)
    for batch in DetectorBatches(bright, settings, seed=1).epoch(0):
        for row, image in enumerate(batch.images):
            lit = image[3] > 0.75
            inside = torch.zeros_like(lit)
            for x0, y0, x1, y1 in batch.boxes[batch.owner == row].round().int().tolist():
                inside[max(0, y0 - 3) : y1 + 3, max(0, x0 - 3) : x1 + 3] = True
            if lit.sum() > 50 and inside.any():
                assert (lit & inside).sum() / lit.sum() > 0.85


def test_detector_batches_have_slices_without_lesions_and_their_shapes(cached: tuple[CachedExam, ...]):
    batch = next(DetectorBatches(cached, DetectorSettings(batch=16, negative_share=0.5), seed=0).epoch(0))
    assert batch.images.shape == (16, 4, DETECTOR_SIZE, DETECTOR_SIZE)
    assert len(set(range(16)) - set(batch.owner.tolist())) >= 3
    assert (batch.boxes[:, 2:] > batch.boxes[:, :2]).all() and batch.boxes.min() >= 0 and batch.boxes.max() <= DETECTOR_SIZE


def test_small_lesions_are_drawn_as_often_as_asked_and_ends_of_large_ones_are_none(cached: tuple[CachedExam, ...]):
    kept = cached[0].images.shape[-1]
    largest: dict[tuple[str, int], float] = {}
    for exam in cached:
        for one in exam.slices:
            for owner, box in zip(one.lesions, one.boxes, strict=True):
                largest[exam.exam_id, owner] = max(largest.get((exam.exam_id, owner), 0), float((box[2:] - box[:2]).max()))
    side = float(np.median(list(largest.values())))
    chosen = {(exam.exam_id, place) for exam in cached for place in slices_with_small_lesions(exam, side)}
    for exam in cached:
        for place, one in enumerate(exam.slices):
            assert ((exam.exam_id, place) in chosen) == any(largest[exam.exam_id, owner] < side for owner in one.lesions)
    sections = [float((box[2:] - box[:2]).max()) for exam in cached for one in exam.slices for box in one.boxes]
    assert chosen and sum(section < side for section in sections) > len(chosen), "large lesions end in small sections"

    off = dict.fromkeys(("phase_dropout", "mixup", "pkcp_share", "intensity", "scale", "translation", "rotation", "negative_share"), 0.0)
    shown = {}
    for share in (0.0, 1.0):
        settings = DetectorSettings(batch=64, small_share=share, small=side / kept, **off)
        batch = next(DetectorBatches(cached, settings, seed=0, size=2 * kept).epoch(0))
        longest = (batch.boxes[:, 2:] - batch.boxes[:, :2]).max(1).values
        # kept slices are enlarged; without jitter a stretch of up to a tenth is left
        shown[share] = len(set(batch.owner[longest < 2 * side * 1.12].tolist()))
    assert shown[1.0] == 64 > shown[0.0]


def test_hard_negatives_are_drawn_as_often_as_asked_and_shown_around_what_is_mistaken(cached: tuple[CachedExam, ...]):
    number, place = next((n, k) for n, exam in enumerate(cached) for k, one in enumerate(exam.slices) if one.empty)
    kept = cached[number].images.shape[-1]
    corner = np.array([[0.0, 0.0, 0.1 * kept, 0.1 * kept]])
    off = dict.fromkeys(("phase_dropout", "mixup", "pkcp_share", "intensity", "scale", "translation", "rotation"), 0.0)
    marked = [dataclasses.replace(exam) for exam in cached]
    images = np.array(marked[number].images)
    images[place] = 0
    images[place, :, : kept // 10, : kept // 10] = 255
    marked[number].__dict__["images"] = images
    hard = [HardNegative(number, place, corner)]
    for share in (0.0, 1.0):
        settings = DetectorSettings(batch=32, negative_share=1.0, hard_share=share, view=0.5, **off)
        batch = next(DetectorBatches(marked, settings, seed=0, hard=hard).epoch(0))
        assert not len(batch.boxes)
        bright = [image.max() > 0.9 and (image > 0.02).float().mean() < 0.2 for image in batch.images]
        assert all(bright) if share else sum(bright) < 8


def test_hard_negatives_are_the_empty_slices_in_which_a_network_sees_a_lesion(exams_csv: Path, tmp_path: Path):
    # kept smaller than the network's input, as configs/phantom.json does
    cached = build_cache(read_exams_csv(exams_csv)[:4], tmp_path, dataclasses.replace(SETTINGS, slice_size=160))

    class Bright(torch.nn.Module):
        """Sees a lesion of 20 x 40 pixels in the middle of every image, the surer the brighter it is."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            found = torch.tensor([DETECTOR_SIZE / 2, DETECTOR_SIZE / 2, 20.0, 40.0, 0.0]).repeat(len(images), 1)
            found[:, 4] = images.amax((1, 2, 3)) * 0.15
            return found[..., None]

    dark = dataclasses.replace(cached[0])
    dark.__dict__["images"] = np.array(dark.images) // 4
    hard = hard_negatives(Bright(), [dark, *cached[1:]])
    empty = {(n, place) for n, exam in enumerate(cached) for place, one in enumerate(exam.slices) if one.empty and n}
    assert {(one.exam, one.place) for one in hard} == empty
    np.testing.assert_allclose(hard[0].boxes, [[75, 70, 85, 90]], atol=1e-3)


def test_a_view_shows_a_part_of_the_slice_around_a_lesion_and_nothing_larger_or_smaller(cached: tuple[CachedExam, ...]):
    off = dict.fromkeys(("phase_dropout", "mixup", "pkcp_share", "intensity", "scale", "translation", "rotation", "negative_share"), 0.0)
    sides = {}
    for view in (1.0, 0.6):
        batch = next(DetectorBatches(cached, DetectorSettings(batch=64, view=view, **off), seed=0).epoch(0))
        assert batch.images.shape[2:] == (view * DETECTOR_SIZE,) * 2
        assert len(set(batch.owner.tolist())) >= 60
        assert batch.boxes.min() >= 0 and batch.boxes.max() <= view * DETECTOR_SIZE
        whole = (batch.boxes.min(1).values > 0) & (batch.boxes.max(1).values < view * DETECTOR_SIZE)
        sides[view] = float((batch.boxes[:, 2:] - batch.boxes[:, :2])[whole].median())
    assert sides[0.6] == pytest.approx(sides[1.0], rel=0.25)


def test_classes_that_are_not_expanded_show_one_slice_in_every_phase(cached: tuple[CachedExam, ...]):
    off = dict.fromkeys(("negative_share", "phase_dropout", "mixup", "intensity"), 0.0)
    mixed = {}
    for expanded in ((), CLASSES):
        batches = DetectorBatches(cached, DetectorSettings(pkcp_share=1.0, expanded_classes=expanded, **off), seed=0)
        rng = np.random.default_rng(1)
        exam = next(exam for exam in cached if len(set(exam.groups[0])) == 3)
        found = [batches._image(exam, False, rng)[0] for _ in range(12)]
        mixed[expanded] = [not any(np.array_equal(image, whole) for whole in exam.images) for image in found]
    assert not any(mixed[()]) and any(mixed[CLASSES])


def test_a_composites_boxes_enclose_those_of_its_slices(cached: tuple[CachedExam, ...]):
    exam = cached[1]
    group = exam.groups[0]
    boxes = composite_boxes(exam, [group[0], group[1], group[2], group[0]])
    assert len(boxes) == len({owner for place in group for owner in exam.slices[place].lesions})
    for place in group:
        for box in exam.slices[place].boxes:
            assert any((found[:2] <= box[:2] + 1e-4).all() and (found[2:] >= box[2:] - 1e-4).all() for found in boxes)
