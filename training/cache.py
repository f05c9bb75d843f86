"""Cut out of every exam, once, what training reads again and again: lesion crops, composites, detector slices.

A folder an exam: `crops.npy` int16 HU (lesion, cached slice, phase, row, column), wide enough around each lesion for its box to be
jittered; `composites.npy` uint8 (lesion, K, phase, row, column), exactly as in diagnosis on the true box; `slices.npy` uint8 (slice,
phase, row, column), detector inputs; `exam.json`, where they lie and a key of what they were cut from and how, written last. A folder is
made again when its key is not that of the exam, the settings and the seed any more.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PediatricLiverDxLib.composites import (
    COMPOSITE_SIZE,
    FULL_COMPOSITE_MM,
    ROI_MARGIN,
    DetectorTransform,
    Roi,
    composite_slices_of,
    composites,
    detector_images,
    detector_transform,
    resampling_matrix,
)
from PediatricLiverDxLib.vocabulary import CLASSES, NO_TUMOUR, PHASES, K
from PediatricLiverDxLib.volumes import AlignedExam
from tqdm import tqdm

from .cohort import ExamRecord
from .configuration import CacheSettings
from .processes import process_pool
from .sources import source_key
from .truth import Lesion, draw_uniform, load_exam

#: Side of a cached crop in pixels, and how much wider than a composite it shows.
CROP_SIZE = 160
CROP_MARGIN = 1.6
#: Cached slices lie at these fractions of a lesion's height; the centres of its thirds are among them.
CACHED_SLICES = 11
FRACTIONS = (np.arange(CACHED_SLICES) - 0.5) / (3 * K)
#: HU where the volume ends.
OUTSIDE_HU = -1024
#: Smallest side of a lesion's section in a detector slice, pixels; smaller ones are not shown to the detector as lesions.
SMALLEST_SECTION = 2.0


@dataclass(frozen=True)
class CachedLesion:
    """Where a cached crop lies. box: voxel edges (6,). Cached pixel edge p is at voxel edge origin + p * step, both axes.

    sections: (cached slice, 4) the lesion's box in each cached slice, voxel edges.
    """

    box: np.ndarray
    origin: np.ndarray
    step: float
    sections: np.ndarray


@dataclass(frozen=True)
class DetectorSlice:
    """One cached detector input: slice index, boxes (n, 4) in its pixels, the lesion (by size) of each, and whether it has none.

    A slice with nothing but sections below SMALLEST_SECTION has no boxes and yet is not empty.
    """

    z: int
    boxes: np.ndarray
    lesions: tuple[int, ...]
    empty: bool


@dataclass(frozen=True)
class CachedExam:
    """What is known of a cached exam; arrays are opened on first use.

    `class_index` is a place in CLASSES, -1 for an exam without a tumour; `entity` is exams.csv's, "" where it is not known.
    """

    folder: Path
    exam_id: str
    class_index: int
    present: tuple[bool, ...]
    spacing_xy: np.ndarray
    lesions: tuple[CachedLesion, ...]
    slices: tuple[DetectorSlice, ...]
    #: Detector slices of each cut lesion's K composites, as places in `slices`.
    groups: tuple[tuple[int, ...], ...]
    entity: str = ""

    @cached_property
    def crops(self) -> np.ndarray:
        return np.load(self.folder / "crops.npy", mmap_mode="r")

    @cached_property
    def composites(self) -> np.ndarray:
        return np.load(self.folder / "composites.npy", mmap_mode="r")

    @cached_property
    def images(self) -> np.ndarray:
        return np.load(self.folder / "slices.npy", mmap_mode="r")


def build_cache(
    records: Iterable[ExamRecord], folder: Path, settings: CacheSettings, *, seed: int = 0, workers: int = 1
) -> tuple[CachedExam, ...]:
    """Make what is missing or out of date under `folder`, in `workers` processes, and return all exams in the order of `records`."""
    records = tuple(records)
    folder = Path(folder)
    kept = [_kept_key(_folder_of(folder, record)) for record in records]
    if "" in kept:
        tqdm.write(f"note: {kept.count('')} cached exams do not say what they were cut from; they are taken as they are")
    missing = [record for record, key in zip(records, kept, strict=True) if key != "" and key != _key(record, settings, seed)]
    jobs = [(record, _folder_of(folder, record), settings, seed) for record in missing]
    with tqdm(total=len(jobs), desc="cache", unit="exam", disable=not jobs) as bar:
        if workers <= 1:
            for job in jobs:
                cut_exam(*job)
                bar.update()
        else:
            with process_pool(workers) as pool:
                for done in as_completed([pool.submit(cut_exam, *job) for job in jobs]):
                    done.result()
                    bar.update()
    return tuple(replace(open_exam(_folder_of(folder, record)), entity=record.entity) for record in records)


def cut_exam(record: ExamRecord, folder: Path, settings: CacheSettings, seed: int) -> None:
    """Cut one exam and write its folder."""
    aligned, lesions = load_exam(record, align_phases=draw_uniform(seed, "align", record.exam_id) < settings.align_share)
    rng = np.random.default_rng(int(draw_uniform(seed, "slices", record.exam_id) * 2**48))
    cut = lesions[: settings.lesions_per_exam]
    places = [crop_place(aligned, lesion) for lesion in cut]
    cut_out = [crop(aligned, lesion, place) for lesion, place in zip(cut, places, strict=True)]
    shown = [composites(aligned, Roi.from_index_box(aligned.grid, lesion.box)) for lesion in cut]
    chosen, groups = _detector_slices(aligned, lesions, len(cut), settings, rng)
    transform = detector_transform(aligned, settings.slice_size)
    images = np.rint(detector_images(aligned, transform, chosen) * 255).astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    # until it is written again, the folder counts as not made
    (folder / "exam.json").unlink(missing_ok=True)
    size = (CACHED_SLICES, len(PHASES), CROP_SIZE, CROP_SIZE)
    np.save(folder / "crops.npy", np.stack(cut_out) if cut_out else np.zeros((0, *size), np.int16))
    np.save(folder / "composites.npy", np.rint(np.array(shown) * 255).astype(np.uint8))
    np.save(folder / "slices.npy", images)
    description = {
        "key": _key(record, settings, seed),
        "exam_id": record.exam_id,
        "class_index": -1 if record.class_name == NO_TUMOUR else CLASSES.index(record.class_name),
        "present": [bool(value) for value in aligned.present],
        "spacing_xy": list(aligned.grid.spacing_xyz[:2]),
        "lesions": [
            {"box": list(lesion.box), "origin": list(place[0]), "step": place[1],
             "sections": [lesion.slice_box(z).tolist() for z in cached_slices(lesion)]}
            for lesion, place in zip(cut, places, strict=True)
        ],
        "slices": [
            {"z": z, **sections(lesions, z, transform)} for z in chosen
        ],
        "groups": groups,
    }
    part = folder / "exam.json.part"
    part.write_text(json.dumps(description))
    part.replace(folder / "exam.json")


def open_exam(folder: Path) -> CachedExam:
    """Return a cached exam."""
    data = json.loads((folder / "exam.json").read_text())
    return CachedExam(
        folder, data["exam_id"], data["class_index"], tuple(data["present"]), np.array(data["spacing_xy"]),
        tuple(CachedLesion(np.array(item["box"]), np.array(item["origin"]), item["step"], np.array(item["sections"]))
              for item in data["lesions"]),
        tuple(DetectorSlice(item["z"], np.array(item["boxes"], np.float32).reshape(-1, 4), tuple(item["lesions"]), item["empty"])
              for item in data["slices"]),
        tuple(tuple(group) for group in data["groups"]),
    )


def _kept_key(folder: Path) -> str | None:
    """Return the key of a folder, None where nothing whole is there, "" where it was made before there were keys."""
    path = folder / "exam.json"
    return json.loads(path.read_text()).get("key", "") if path.is_file() else None


def _key(record: ExamRecord, settings: CacheSettings, seed: int) -> str:
    """Return a hash of all that decides what is cut out of an exam."""
    geometry = [COMPOSITE_SIZE, ROI_MARGIN, FULL_COMPOSITE_MM, CROP_SIZE, CROP_MARGIN]
    return hashlib.sha256(json.dumps([source_key(record), asdict(settings), seed, geometry]).encode()).hexdigest()[:16]


def _folder_of(folder: Path, record: ExamRecord) -> Path:
    return folder / re.sub(r"[^\w.-]", "_", record.exam_id)


def cached_slices(lesion: Lesion) -> np.ndarray:
    """Return the slice indexes of FRACTIONS of a lesion, which may lie outside the volume."""
    return np.floor(lesion.box[2] + FRACTIONS * (lesion.box[5] - lesion.box[2])).astype(int)


def crop_place(aligned: AlignedExam, lesion: Lesion) -> tuple[tuple[float, float], float]:
    """Return the voxel edge where the crop starts and its step, 1 unless it would not fit into CROP_SIZE pixels."""
    low, high = np.array(lesion.box[:2]), np.array(lesion.box[3:5])
    spacing = np.array(aligned.grid.spacing_xyz[:2])
    half = ((high - low) * spacing).max() * ROI_MARGIN * CROP_MARGIN / 2 / spacing
    centre = (low + high) / 2
    if (2 * half).max() <= CROP_SIZE - 2:
        start = np.floor(centre - CROP_SIZE / 2)
        return (float(start[0]), float(start[1])), 1.0
    step = float((2 * half).max() / CROP_SIZE)
    start = centre - step * CROP_SIZE / 2
    return (float(start[0]), float(start[1])), step


def crop(aligned: AlignedExam, lesion: Lesion, place: tuple[tuple[float, float], float]) -> np.ndarray:
    """Return (cached slice, phase, row, column) int16 HU."""
    size_x, size_y, size_z = aligned.grid.size_xyz
    slices = np.clip(cached_slices(lesion), 0, size_z - 1)
    across = resampling_matrix(size_x, place[0][0], place[1], CROP_SIZE)
    down = resampling_matrix(size_y, place[0][1], place[1], CROP_SIZE)
    rows, columns = (np.flatnonzero(matrix.any(0)) for matrix in (down, across))
    rows, columns = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    out = np.full((CACHED_SLICES, len(PHASES), CROP_SIZE, CROP_SIZE), OUTSIDE_HU, np.int16)
    for p, present in enumerate(aligned.present):
        if present:
            raised = aligned.hu[p, slices, rows, columns] - OUTSIDE_HU
            out[:, p] = np.rint(down[:, rows] @ raised @ across[:, columns].T + OUTSIDE_HU).clip(OUTSIDE_HU, 3071)
    return out


def _detector_slices(
    aligned: AlignedExam, lesions: tuple[Lesion, ...], n_cut: int, settings: CacheSettings, rng: np.random.Generator
) -> tuple[list[int], list[list[int]]]:
    """Choose slices: the K of each cut lesion, further ones with a lesion, and ones without; also the places of the K of each."""
    size_z = aligned.grid.size_xyz[2]
    groups_z = [composite_slices_of(lesion.box, size_z) for lesion in lesions[:n_cut]]
    with_lesion = {int(lesion.box[2]) + place for lesion in lesions for place in np.flatnonzero(lesion.marked)}
    chosen = {z for group in groups_z for z in group}
    others = sorted(with_lesion - chosen)
    chosen |= set(rng.permutation(others)[: settings.positive_slices].tolist())
    without = sorted(set(range(size_z)) - with_lesion - chosen)
    # an exam without any lesion gives as many slices as others do
    n_without = settings.negative_slices if with_lesion else settings.negative_slices + settings.positive_slices
    chosen |= set(rng.permutation(without)[:n_without].tolist())
    ordered = sorted(int(z) for z in chosen)
    return ordered, [[ordered.index(z) for z in group] for group in groups_z]


def sections(lesions: tuple[Lesion, ...], z: int, transform: DetectorTransform) -> dict[str, list]:
    """Return the boxes of the lesions in slice z in detector pixels, the lesion of each, and whether there is no lesion at all."""
    boxes, owners = [], []
    for owner, lesion in enumerate(lesions):
        place = z - int(lesion.box[2])
        if 0 <= place < len(lesion.marked) and lesion.marked[place]:
            box = transform.to_detector(lesion.slice_boxes[place])
            owners.append(owner)
            boxes.append([float(v) for v in box])
    large = [min(box[2] - box[0], box[3] - box[1]) >= SMALLEST_SECTION for box in boxes]
    return {
        "boxes": [box for box, shown in zip(boxes, large, strict=True) if shown],
        "lesions": [owner for owner, shown in zip(owners, large, strict=True) if shown],
        "empty": not boxes,
    }
