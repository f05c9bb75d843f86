"""Lesion boxes: a Roi in RAS mm, its box on a voxel grid, and Slicer's ROI markups (.mrk.json) in and out."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .vocabulary import InputError

if TYPE_CHECKING:
    from .volumes import Grid

#: A box on a voxel grid as (x0, y0, z0, x1, y1, z1) in voxel edges: voxel i covers [i, i + 1), its centre is i + 0.5.
IndexBox = tuple[float, float, float, float, float, float]

Vector = tuple[float, float, float]
IDENTITY: tuple[Vector, Vector, Vector] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))

#: How far, in voxels, a box may reach beyond the volume's edge before anybody is told.
EDGE_TOLERANCE = 0.5

MARKUPS_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/markups-schema-v1.0.3.json#"
)


@dataclass(frozen=True)
class Roi:
    """Hold one lesion's box.

    center_ras_mm: centre, RAS mm.
    size_mm: full edge lengths along the box's own three axes, mm, all > 0.
    axes_ras: the three unit axes of the box, one a row, in RAS; nearest to right, anterior, superior.
    id: name in results, unique in an exam ("L1").
    source: "detector" or "radiologist".
    score: detector's confidence in [0, 1]; None for a radiologist's box.
    """

    center_ras_mm: Vector
    size_mm: Vector
    axes_ras: tuple[Vector, Vector, Vector] = IDENTITY
    id: str = "L1"
    source: str = "radiologist"
    score: float | None = None

    def __post_init__(self) -> None:
        numbers = np.array([self.center_ras_mm, self.size_mm, *self.axes_ras], float)
        if not np.isfinite(numbers).all():
            raise InputError(f"The ROI {self.id} has a centre, size or orientation that is not a number; place it again.")
        if min(self.size_mm) <= 0:
            sizes = " x ".join(f"{s:g}" for s in self.size_mm)
            raise InputError(f"The ROI {self.id} has a size of {sizes} mm, expected three sizes above 0; draw it again.")
        if not np.allclose(numbers[2:] @ numbers[2:].T, np.eye(3), atol=1e-3):
            raise InputError(f"The axes of ROI {self.id} are not three perpendicular unit vectors; place it again.")

    @property
    def volume_mm3(self) -> float:
        return float(np.prod(self.size_mm))

    @classmethod
    def from_index_box(
        cls, grid: Grid, box: IndexBox, *, id: str = "L1", source: str = "detector", score: float | None = None
    ) -> Roi:
        """Make the Roi of a box in voxel edges; its axes are the grid's own, turned to point right, anterior, superior."""
        low, high = np.asarray(box[:3], float), np.asarray(box[3:], float)
        center = grid.index_to_ras(((low + high) / 2 - 0.5)[None])[0]
        axes = np.diff(grid.index_to_ras(np.array([[0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1]], float)), axis=0)[::2]
        axes = axes / np.linalg.norm(axes, axis=1, keepdims=True)
        # grid axis i lies nearest to RAS axis i, because the grid is canonical; only its sign may be the other one
        axes = axes * np.where(np.diag(axes) < 0, -1.0, 1.0)[:, None]
        size = (high - low) * np.asarray(grid.spacing_xyz, float)
        return cls(_vector(center), _vector(size), tuple(_vector(axis) for axis in axes), id=id, source=source, score=score)

    def index_box(self, grid: Grid) -> IndexBox:
        """Return the smallest box in voxel edges that encloses this Roi; for a Roi turned against the grid it is larger than the Roi."""
        half = np.asarray(self.size_mm, float) / 2
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
        corners = np.asarray(self.center_ras_mm, float) + (signs * half) @ np.asarray(self.axes_ras, float)
        edges = grid.ras_to_index(corners) + 0.5
        return tuple(float(v) for v in (*edges.min(0), *edges.max(0)))

    def clamp_to(self, grid: Grid) -> tuple[Roi, str | None]:
        """Return this Roi cut at the volume's edge, and a sentence when it was cut.

        A Roi that reaches beyond it by no more than half a voxel is cut without a word. Raises InputError when it lies outside altogether.
        """
        box = np.asarray(self.index_box(grid))
        size = np.asarray(grid.size_xyz, float)
        low, high = np.maximum(box[:3], 0), np.minimum(box[3:], size)
        if np.any(high - low <= 1e-6):
            where = ", ".join(f"{v:.0f}" for v in self.center_ras_mm)
            raise InputError(
                f"The ROI {self.id} (centre RAS {where} mm) lies outside the volume; move it onto the lesion or remove it."
            )
        over = max(float((low - box[:3]).max()), float((box[3:] - high).max()))
        if over <= 1e-6:
            return self, None
        clamped = Roi.from_index_box(grid, (*low, *high), id=self.id, source=self.source, score=self.score)
        if over <= EDGE_TOLERANCE:
            return clamped, None
        kept = float(np.prod(high - low) / np.prod(box[3:] - box[:3]))
        return clamped, f"ROI {self.id} reaches beyond the edge of the volume and was cut to the {kept:.0%} of it that lies inside."


def sorted_by_size(rois: list[Roi]) -> list[Roi]:
    """Return the Rois by descending volume, renamed L1, L2, ..."""
    ordered = sorted(rois, key=lambda roi: -roi.volume_mm3)
    return [replace(roi, id=f"L{n}") for n, roi in enumerate(ordered, 1)]


def read_rois(path: Path) -> list[Roi]:
    """Read every ROI of a Slicer markups file, in LPS or RAS, turned or not, in mm; their ids are "1", "2", ...

    Raises InputError for a file that is not a markups file, holds no ROI, or an ROI without a box.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
        markups = document["markups"]
        rois = [markup for markup in markups if markup.get("type") == "ROI"]
    except OSError as error:
        raise InputError(f"The ROI file {path.name} cannot be read ({error.strerror}); give a .mrk.json that Slicer wrote.") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path.name} is not a Slicer markups file; save the ROI in Slicer as .mrk.json and give that.") from None
    if not rois:
        kinds = ", ".join(sorted({str(markup.get("type")) for markup in markups})) or "nothing"
        raise InputError(f"{path.name} holds {kinds} but no ROI; expected a markup of type ROI.")
    return [_roi_of(markup, str(n), f"{path.name} #{n}" if len(rois) > 1 else path.name) for n, markup in enumerate(rois, 1)]


def _roi_of(markup: dict[str, Any], id: str, name: str) -> Roi:
    """Return the Roi of a markup. name: of its place in the file, for errors; never in the Roi, whose id comes into results."""
    units = markup.get("coordinateUnits", "mm")
    if isinstance(units, list):  # coded as [value, scheme, meaning]
        units = units[0] if units else "no unit"
    if units != "mm":
        raise InputError(f"The ROI in {name} is in {units}, expected mm; save it again in mm.")
    system = str(markup.get("coordinateSystem", "LPS"))
    if system not in ("LPS", "RAS", "0", "1"):
        raise InputError(f"The ROI in {name} has the coordinate system {system}, expected LPS or RAS.")
    if markup.get("insideOut"):
        raise InputError(f"The ROI in {name} is inside out, expected a box around the lesion; turn that off in Slicer and save it again.")
    to_ras = np.array([1.0, 1.0, 1.0]) if system in ("RAS", "0") else np.array([-1.0, -1.0, 1.0])
    try:
        center = np.asarray(markup["center"], float).reshape(3) * to_ras
        size = np.asarray(markup["size"], float).reshape(3)
        # the matrix's columns are the box's axes; it is written row by row
        axes = np.asarray(markup.get("orientation", np.eye(3)), float).reshape(3, 3).T * to_ras
    except (KeyError, TypeError, ValueError):
        raise InputError(f"The ROI in {name} has no complete box (centre and size, three numbers each); place it again.") from None
    axes, size = nearest_to_ras(axes, size)
    try:
        return Roi(_vector(center), size, axes, id=id, source="radiologist")
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def nearest_to_ras(axes: Sequence[Sequence[float]], size: Sequence[float]) -> tuple[tuple[Vector, Vector, Vector], Vector]:
    """Order and turn a box's axes so that row i points along RAS axis i, and order its sizes alike; the box itself stays as it is."""
    axes, size = np.asarray(axes, float), np.asarray(size, float)
    best = max(itertools.permutations(range(3)), key=lambda order: sum(abs(axes[row, column]) for column, row in enumerate(order)))
    axes, size = axes[list(best)], size[list(best)]
    axes = axes * np.where(np.diag(axes) < 0, -1.0, 1.0)[:, None]
    return tuple(_vector(axis) for axis in axes), _vector(size)


def write_roi(roi: Roi, path: Path) -> None:
    """Write one Roi as a Slicer ROI markup, LPS mm."""
    to_lps = np.array([-1.0, -1.0, 1.0])
    axes = np.asarray(roi.axes_ras) * to_lps
    center = [float(v) for v in np.asarray(roi.center_ras_mm) * to_lps]
    orientation = [float(v) + 0.0 for v in axes.T.ravel()]
    markup = {
        "type": "ROI",
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "locked": False,
        "fixedNumberOfControlPoints": False,
        "labelFormat": "%N-%d",
        "lastUsedControlPointNumber": 1,
        "roiType": "Box",
        "center": center,
        "orientation": orientation,
        "size": [float(v) for v in roi.size_mm],
        "insideOut": False,
        "controlPoints": [
            {
                "id": "1",
                "label": roi.id,
                "description": "",
                "associatedNodeID": "",
                "position": center,
                "orientation": [-1.0, -0.0, -0.0, -0.0, -1.0, -0.0, 0.0, 0.0, 1.0],
                "selected": True,
                "locked": False,
                "visibility": True,
                "positionStatus": "defined",
            }
        ],
        "measurements": [],
    }
    Path(path).write_text(json.dumps({"@schema": MARKUPS_SCHEMA, "markups": [markup]}, indent=1), encoding="utf-8")


def _vector(values: np.ndarray) -> Vector:
    x, y, z = (float(v) + 0.0 for v in values)
    return (x, y, z)
