"""Detection: an aligned exam comes in, the detector looks at every slice, boxes are linked across slices, 3D lesions go out as Rois."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from .composites import BODY_MARGIN, DETECTOR_SIZE, DETECTOR_STRIDE, detector_images, detector_transform
from .concurrency import in_order
from .rois import IndexBox, Roi, sorted_by_size
from .vocabulary import InputError

if TYPE_CHECKING:
    import onnxruntime

    from .volumes import AlignedExam

#: Slices per run of the detector: each takes 7 MB, and more at a time are no faster.
BATCH = 2
#: A box wider or higher than this part of the body's longer in-plane side is not a lesion. Lesions of the phantoms reach 0.55.
MOST_OF_BODY = 0.75


@dataclass(frozen=True)
class LinkParameters:
    """Say how boxes become lesions. Lengths in mm, scores and overlaps in [0, 1]; chosen on validation exams, kept in the bundle.

    iou: a box continues a lesion when its intersection over union with the lesion's last box is at least this.
    gap: largest distance between two slices of a lesion without a box in between, beyond the distance of neighbouring slices.
    end_score: slices at a lesion's ends whose score is below this times the lesion's score are cut off.
    score_depth: a lesion's score is the mean of its best slices' scores over this depth; slices that are missing count as 0.
    percentile: a lesion's in-plane sides are this percentile of its slices' lower sides and 100 minus it of the upper sides.
    merge: two lesions are one when their boxes' intersection covers at least this part of the smaller one.
    pole: a lesion is the end of a surer one when it touches it from above or below and at least this part of it, seen along z, lies within
        that one's box: sections grow fast there, and boxes of neighbouring slices overlap too little to be linked. Above 1: never.
    min_score: lesions below it are dropped.
    min_extent: lesions are at least this long in every direction.
    max_lesions: no more than this many are kept, the best ones; diffuse infantile hemangiomas are 10 to 18 in our phantoms.
    """

    iou: float = 0.3
    gap: float = 6.0
    end_score: float = 0.4
    score_depth: float = 6.0
    percentile: float = 12.0
    merge: float = 0.5
    pole: float = 2.0  # bundles of before there were poles chose their thresholds without
    min_score: float = 0.4
    min_extent: float = 4.0
    max_lesions: int = 20

    @classmethod
    def of(cls, values: Mapping[str, float]) -> LinkParameters:
        """Take the parameters of bundle.json; raises InputError for a name that is not known or a value that is not a number."""
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise InputError(f"The bundle's link parameters hold {', '.join(unknown)}, unknown to this version; update the software.")
        if not all(isinstance(value, int | float) and np.isfinite(value) for value in values.values()):
            raise InputError("The bundle's link parameters must be numbers; install the bundle again.")
        return cls(**values)


@dataclass(frozen=True)
class LinkedLesion:
    """Hold a 3D box in voxel edges (x0, y0, z0, x1, y1, z1) and its score in [0, 1]."""

    box: IndexBox
    score: float


@dataclass(frozen=True)
class _Track:
    """Hold the boxes of one lesion, one a slice: slices ascending, boxes (n, 4), scores (n,)."""

    slices: tuple[int, ...]
    boxes: tuple[np.ndarray, ...]
    scores: tuple[float, ...]

    def extended(self, z: int, box: np.ndarray, score: float) -> _Track:
        return _Track((*self.slices, z), (*self.boxes, box), (*self.scores, score))


def overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the (n, m) intersection over union of (n, 4) and (m, 4) boxes (x0, y0, x1, y1)."""
    a, b = np.asarray(a, float)[:, None, :4], np.asarray(b, float)[None, :, :4]
    sides = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None)
    shared = sides.prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared
    return shared / np.maximum(union, 1e-9)


def suppress(boxes: np.ndarray, iou: float) -> np.ndarray:
    """Keep the best of overlapping boxes (greedy non-maximum suppression): (n, 5) x0, y0, x1, y1, score in, the kept rows by score out."""
    boxes = boxes[np.argsort(-boxes[:, 4], kind="stable")]
    overlaps = overlap(boxes, boxes)
    kept: list[int] = []
    for n in range(len(boxes)):
        if not kept or overlaps[n, kept].max() <= iou:
            kept.append(n)
    return boxes[kept]


def boxes_of(predictions: np.ndarray, threshold: float, iou_nms: float) -> list[np.ndarray]:
    """Turn the detector's output (n, 5, anchors): cx, cy, w, h in pixels and score into one (m, 5) array x0, y0, x1, y1, score a slice."""
    found = []
    for prediction in predictions:
        cx, cy, w, h, score = prediction[:, prediction[4] >= threshold].astype(float)
        found.append(suppress(np.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, score], 1), iou_nms))
    return found


def link(
    boxes_per_slice: Sequence[np.ndarray], spacing_xyz: Sequence[float], parameters: LinkParameters | None = None
) -> list[LinkedLesion]:
    """Link the slices' boxes into 3D lesions, by descending score.

    boxes_per_slice: for every slice an (m, 5) array of x0, y0, x1, y1 in voxel edges and score. spacing_xyz: mm.
    Each slice's boxes continue the lesions that end at most `gap` before, pairs of largest overlap first; what is left
    over begins new ones. A lesion whose box jumps is thereby split in two, lesions that lie in one another are merged, and so is one
    with the pole of another.
    """
    parameters = parameters or LinkParameters()
    # a spacing may come from a matrix, as 3.0000000000000004 mm; a whole slice more or less must not hang on that
    spacing_xyz = np.round(np.asarray(spacing_xyz, float), 6)
    depth = float(spacing_xyz[2])
    tracks: list[_Track] = []
    for z, boxes in enumerate(boxes_per_slice):
        boxes = np.asarray(boxes, float).reshape(-1, 5)
        open_ = [n for n, track in enumerate(tracks) if (z - track.slices[-1] - 1) * depth <= parameters.gap]
        taken: set[int] = set()
        if open_ and len(boxes):
            overlaps = overlap(np.array([tracks[n].boxes[-1] for n in open_]), boxes)
            while overlaps.max() >= max(parameters.iou, 1e-9):
                row, column = np.unravel_index(overlaps.argmax(), overlaps.shape)
                tracks[open_[row]] = tracks[open_[row]].extended(z, boxes[column, :4], float(boxes[column, 4]))
                overlaps[row], overlaps[:, column] = -1, -1
                taken.add(int(column))
        tracks += [_Track((z,), (box[:4],), (float(box[4]),)) for n, box in enumerate(boxes) if n not in taken]
    lesions = _merged([_lesion_of(track, depth, parameters) for track in tracks], parameters)
    kept = [lesion for lesion in lesions if lesion.score >= parameters.min_score and _extent(lesion, spacing_xyz) >= parameters.min_extent]
    return sorted(kept, key=lambda lesion: -lesion.score)[: int(parameters.max_lesions)]


def _lesion_of(track: _Track, depth: float, parameters: LinkParameters) -> LinkedLesion:
    scores = np.array(track.scores)
    best = np.sort(scores)[::-1][: max(1, round(parameters.score_depth / depth))]
    score = float(best.sum() / max(1, round(parameters.score_depth / depth)))
    strong = np.flatnonzero(scores >= parameters.end_score * score)
    kept = slice(int(strong[0]), int(strong[-1]) + 1)
    boxes = np.array(track.boxes[kept])
    low = np.percentile(boxes[:, :2], parameters.percentile, axis=0)
    high = np.percentile(boxes[:, 2:], 100 - parameters.percentile, axis=0)
    z0, z1 = track.slices[kept.start], track.slices[kept.stop - 1] + 1
    return LinkedLesion((float(low[0]), float(low[1]), float(z0), float(high[0]), float(high[1]), float(z1)), score)


def _merged(lesions: list[LinkedLesion], parameters: LinkParameters) -> list[LinkedLesion]:
    """Join lesions that lie in one another or continue one another: the better one's score; its box, made longer along z by the other's."""
    lesions = sorted(lesions, key=lambda lesion: -lesion.score)
    kept: list[LinkedLesion] = []
    for lesion in lesions:
        for n, other in enumerate(kept):
            if _shared_part(lesion.box, other.box) >= parameters.merge or _is_pole(lesion.box, other.box, parameters.pole):
                z0, z1 = min(lesion.box[2], other.box[2]), max(lesion.box[5], other.box[5])
                # a weak lesion may lie in a strong one but must not stretch it
                if lesion.score >= 0.5 * other.score:
                    kept[n] = LinkedLesion((*other.box[:2], z0, *other.box[3:5], z1), other.score)
                break
        else:
            kept.append(lesion)
    return kept


def _is_pole(one: IndexBox, other: IndexBox, share: float) -> bool:
    """Tell whether a box touches the other along z, or reaches into it, with `share` of its section or more within the other's."""
    low, high = np.maximum(one[:3], other[:3]), np.minimum(one[3:], other[3:])
    shared = np.clip(high[:2] - low[:2], 0, None).prod()
    return bool(high[2] >= low[2] and shared >= share * (one[3] - one[0]) * (one[4] - one[1]))


def _shared_part(a: IndexBox, b: IndexBox) -> float:
    """Return the part of the smaller box that lies in the other."""
    low, high = np.maximum(a[:3], b[:3]), np.minimum(a[3:], b[3:])
    volumes = [np.prod(np.subtract(box[3:], box[:3])) for box in (a, b)]
    return float(np.clip(high - low, 0, None).prod() / max(min(volumes), 1e-9))


def _extent(lesion: LinkedLesion, spacing_xyz: Sequence[float]) -> float:
    """Return the box's shortest side in mm; one slice counts as its thickness, and a thick slice never makes a lesion too short."""
    sides = np.subtract(lesion.box[3:], lesion.box[:3]) * np.asarray(spacing_xyz, float)
    return float(sides[:2].min() if lesion.box[5] - lesion.box[2] <= 1 and spacing_xyz[2] > 3 else sides.min())


@dataclass(frozen=True)
class Detector:
    """Find lesions in an aligned exam.

    session: ONNX Runtime session of detector.onnx. threshold: lowest score of a slice's box. iou_nms: for non-maximum suppression.
    threads: batches of slices at a time.
    """

    session: onnxruntime.InferenceSession
    threshold: float
    iou_nms: float
    link: LinkParameters
    size: int = DETECTOR_SIZE
    threads: int = 1

    def slice_boxes(self, aligned: AlignedExam, progress: Callable[[float], None] | None = None) -> list[np.ndarray]:
        """Return for every slice an (m, 5) array of x0, y0, x1, y1 in voxel edges of the aligned grid, cut at its borders, and score.

        Boxes that span most of the body (MOST_OF_BODY) are left out.
        """
        transform = detector_transform(aligned, self.size, DETECTOR_STRIDE)
        widest = MOST_OF_BODY * self.size / BODY_MARGIN
        width, height, n_slices = aligned.grid.size_xyz
        found: list[np.ndarray] = []

        def predict(z: int) -> np.ndarray:
            images = detector_images(aligned, transform, range(z, min(z + BATCH, n_slices)))
            return self.session.run(["predictions"], {"images": images})[0]

        for predictions in in_order(predict, range(0, n_slices, BATCH), self.threads):
            for boxes in boxes_of(predictions, self.threshold, self.iou_nms):
                boxes = boxes[(boxes[:, 2:4] - boxes[:, :2]).max(1) <= widest]
                boxes[:, :4] = transform.to_index(boxes[:, :4])
                boxes[:, :4:2], boxes[:, 1:4:2] = boxes[:, :4:2].clip(0, width), boxes[:, 1:4:2].clip(0, height)
                found.append(boxes[(boxes[:, 2:4] > boxes[:, :2]).all(1)])
            if progress:
                progress(len(found) / n_slices)
        return found

    def find(self, aligned: AlignedExam, progress: Callable[[float], None] | None = None) -> list[Roi]:
        """Return the lesions as Rois, L1 the largest. progress is told the part done, 0 to 1; what it raises ends the search."""
        lesions = link(self.slice_boxes(aligned, progress), aligned.grid.spacing_xyz, self.link)
        return sorted_by_size([Roi.from_index_box(aligned.grid, lesion.box, source="detector", score=lesion.score) for lesion in lesions])
