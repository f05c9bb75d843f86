"""Lesions marked in LabelMe (arXiv 2511.19478): a folder of `<PHASE>_<slice>.json` in, each lesion's box in every slice it reaches out.

Files: PHASE is PC, AP, PVP or DP in any case, slice a whole number. Slice 0 is the lowest (most inferior) slice of that phase's volume and
numbers grow upwards, in whatever order the volume's own files hold its slices. The pictures that were drawn on lie beside them, and are
not read: HU come from the volumes, and neither imagePath nor imageData is looked at.

Pixels: a picture is a whole axial slice, one pixel a voxel, columns running to the patient's left and rows to posterior. Points are in
pixel edges, as LabelMe shows them: the first pixel reaches from 0 to 1.

Shapes: rectangles and polygons, whatever their label; a polygon counts as the box around it. Shapes of one group_id are one lesion, those
in one slice enclosed by one box. Without group ids an exam has one lesion, with at most one shape a slice. Only the shapes of the exam's
reference phase (PVP, else AP, DP, PC) are taken, since lesions are given on its grid.

Reach: K marked slices are, as in the paper, the centres of a lesion's thirds, so the lesion reaches half their spacing beyond the outer
two: composite_slices then gives them again, as nearly as whole slices and the volume's ends allow (always where they are evenly spaced).
Any other number of slices is the lesion from the lowest to the highest. Boxes between marked slices are interpolated linearly, those
beyond the outer ones are theirs, a little too large at the lesion's poles.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from PediatricLiverDxLib.alignment import REFERENCE_ORDER
from PediatricLiverDxLib.composites import composite_slices
from PediatricLiverDxLib.vocabulary import PHASES, InputError, K
from PediatricLiverDxLib.volumes import Grid

_NAME = re.compile(rf"({'|'.join(PHASES)})_([0-9]+)", re.IGNORECASE)
#: Shapes that have a box, and how many points they have at least.
_FEWEST_POINTS = {"rectangle": 2, "polygon": 3}


def read_boxes(folder: Path, phases: Collection[str], grid: Grid) -> dict[int, tuple[int, np.ndarray]]:
    """Return each lesion's lowest slice and its boxes from there upwards, (slice, 4) float32 (x0, y0, x1, y1) in voxel edges.

    Lesions are keyed by group_id, or by 1 without one. phases: those that the exam has. grid: of the exam's reference phase. Raises
    InputError for files, names or shapes that are not as above.
    """
    files = _files(folder)
    reference = next(phase for phase in REFERENCE_ORDER if phase in phases)
    marked: dict[int | None, dict[int, np.ndarray]] = {}
    for z, path in sorted(files[reference].items()):
        if z >= grid.size_xyz[2]:
            raise InputError(f"{path.name} marks slice {z}, but {reference} has the slices 0 (lowest) to {grid.size_xyz[2] - 1}; rename it")
        for group, box in _slice_boxes(path, grid.size_xyz[:2]).items():
            marked.setdefault(group, {})[z] = box
    if not marked:
        elsewhere = [phase for phase in PHASES if any(_content(path)["shapes"] for path in files[phase].values())]
        if elsewhere:
            raise InputError(
                f"{folder.name} marks lesions in {', '.join(elsewhere)} but not in {reference}, whose grid they are needed on; "
                f"mark them in {reference}, too"
            )
    if None in marked and len(marked) > 1:
        raise InputError(f"{folder.name}: some shapes of {reference} have a group id, others none; give every shape its lesion's group id")
    return {1 if group is None else group: _filled(boxes, grid.size_xyz[2]) for group, boxes in marked.items()}


def _files(folder: Path) -> dict[str, dict[int, Path]]:
    """Return phase -> slice -> file."""
    files: dict[str, dict[int, Path]] = {phase: {} for phase in PHASES}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() != ".json" or path.name.startswith("."):
            continue
        named = _NAME.fullmatch(path.stem)
        if not named:
            raise InputError(f"{path.name} does not say its phase and slice; name it like PVP_12.json, with PC, AP, PVP or DP")
        of_phase, z = files[named[1].upper()], int(named[2])
        if z in of_phase:
            raise InputError(f"{of_phase[z].name} and {path.name} are the same phase and slice; keep one of them")
        of_phase[z] = path
    if not any(files.values()):
        raise InputError(f"{folder.name} holds no LabelMe file; lesions must be a mask volume or a folder of files like PVP_12.json")
    return files


def _content(path: Path) -> dict:
    """Return a file's JSON, with the keys that are read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        whole = isinstance(content["shapes"], list) and {"imageWidth", "imageHeight"} <= content.keys()
    except (ValueError, TypeError, KeyError):
        whole = False
    if not whole:
        raise InputError(f"{path.name} is not a whole LabelMe file; save it again in LabelMe")
    return content


def _slice_boxes(path: Path, size_xy: tuple[int, int]) -> dict[int | None, np.ndarray]:
    """Return group_id -> (4,) box of one file."""
    content = _content(path)
    drawn_on = content["imageWidth"], content["imageHeight"]
    if drawn_on != tuple(size_xy):
        raise InputError(
            f"{path.name} was drawn on {drawn_on[0]} x {drawn_on[1]} pixels, but the volume's slices have {size_xy[0]} x {size_xy[1]}; "
            "draw on pictures of whole slices, one pixel a voxel"
        )
    boxes: dict[int | None, np.ndarray] = {}
    for group, box in _boxes(path.name, content["shapes"], size_xy):
        if group in boxes and group is None:
            raise InputError(f"{path.name} holds several lesions without group id; give the shapes of each lesion a group id of its own")
        before = boxes.get(group, box)
        boxes[group] = np.concatenate([np.minimum(before[:2], box[:2]), np.maximum(before[2:], box[2:])])
    return boxes


def _boxes(name: str, shapes: Sequence[dict], size_xy: tuple[int, int]) -> Iterator[tuple[int | None, np.ndarray]]:
    """Yield group_id and (4,) box of each shape."""
    for shape in shapes:
        try:
            kind, group = shape["shape_type"], shape.get("group_id")
            points = np.array(shape["points"], float).reshape(len(shape["points"]), 2)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise InputError(f"{name} holds a shape that LabelMe does not write; draw it again") from None
        if kind not in _FEWEST_POINTS:
            raise InputError(f"{name} holds a shape of type '{kind}'; mark lesions with rectangles or polygons")
        if group is not None and type(group) is not int:
            raise InputError(f"{name} holds a shape whose group id is '{group}'; a whole number is expected")
        if len(points) < _FEWEST_POINTS[kind]:
            raise InputError(f"{name} holds a {kind} of {len(points)} points, at least {_FEWEST_POINTS[kind]} are expected; draw it again")
        low, high = points.min(0), points.max(0)
        # written so that a point that is not a number is refused, too
        if not ((low >= 0).all() and (high <= size_xy).all()):
            raise InputError(f"{name} holds a {kind} that reaches outside its picture of {size_xy[0]} x {size_xy[1]} pixels; draw it again")
        if not (low < high).all():
            raise InputError(f"{name} holds a {kind} without any area; draw it again")
        yield group, np.concatenate([low, high])


def _filled(marked: Mapping[int, np.ndarray], n_slices: int) -> tuple[int, np.ndarray]:
    """Return the lesion's lowest slice and (slice, 4) float32 boxes of all that it reaches."""
    slices = sorted(marked)
    first, end = _reach(slices, n_slices)
    sides = np.array([marked[z] for z in slices]).T
    return first, np.stack([np.interp(np.arange(first, end), slices, side) for side in sides], 1).astype(np.float32)


def _reach(slices: Sequence[int], n_slices: int) -> tuple[int, int]:
    """Return the lesion's lowest slice and the one above its highest."""
    if len(slices) != K:
        return slices[0], slices[-1] + 1
    beyond = (slices[-1] - slices[0]) / (K - 1) / 2
    ends = max(slices[0] + 0.5 - beyond, 0), min(slices[-1] + 0.5 + beyond, n_slices)

    def misfit(reach: tuple[int, int]) -> tuple[float, float]:
        again = composite_slices(*reach)
        return sum(abs(one - other) for one, other in zip(again, slices, strict=True)), abs(reach[0] - ends[0]) + abs(reach[1] - ends[1])

    return min(product(*((math.floor(end), math.ceil(end)) for end in ends)), key=misfit)
