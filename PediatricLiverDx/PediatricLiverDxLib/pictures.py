"""The pictures of a report as HTML: whole slices with the boxes, what the networks saw with the attention map, bars of phase values.

Slices are shown as radiologists do: the patient's right on the left, seen from below; each phase in its own window.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from . import wording
from .colours import CAM_OPACITY, CAM_THRESHOLD, cam_ramp
from .composites import DetectorTransform, body_midline, detector_images, detector_transform
from .png import data_uri, grey_png, ramp_png
from .vocabulary import PHASE_NAMES, PHASES, WINDOWS

if TYPE_CHECKING:
    from .attribution import PhaseShapley
    from .diagnosis import LesionDiagnosis
    from .volumes import AlignedExam

#: Greatest width of a whole-slice picture in pixels, by how many lesions share the file.
_WIDTHS = ((3, 384), (8, 224))
_SMALLEST_WIDTH = 160
#: Width of a whole-slice picture in the units of what is drawn over it.
_UNITS = 320

_ROWS = ("lower", "middle", "upper")


class SlicePictures:
    """Draw whole axial slices of one exam, all cut to the same square around the body and trimmed to its height."""

    def __init__(self, aligned: AlignedExam, lesions: tuple[LesionDiagnosis, ...]) -> None:
        self._aligned = aligned
        self._lesions = lesions
        width = next((width for limit, width in _WIDTHS if len(lesions) <= limit), _SMALLEST_WIDTH)
        transform = detector_transform(aligned, width)
        native = int(np.ceil(transform.step_xy[0] * width))
        if native < width:  # more pixels than the scanner gave cost bytes and show nothing
            step = tuple(step * width / native for step in transform.step_xy)
            width, transform = native, DetectorTransform(transform.start_xy, step, native, native)
        self._transform, self._per_pixel = transform, _UNITS / width
        mask, stride = aligned.body
        self._midline = body_midline(aligned)
        rows = np.flatnonzero(mask.any((0, 2)))
        ends = transform.to_detector(np.array([0, rows[0] * stride[1], 0, (rows[-1] + 1) * stride[1]]))
        self._top = max(0, int(ends[1]) - 4)
        self._bottom = min(width, int(np.ceil(ends[3])) + 4)

    def views(self, z: int, lesion: LesionDiagnosis | None) -> dict[str, str]:
        """Return phase -> picture of slice z with the boxes of all lesions that it cuts, for the phases that were acquired."""
        images = detector_images(self._aligned, self._transform, (z,))[0, :, self._top : self._bottom]
        marks = self._marks(z, lesion)
        height = self.height_label(z)
        with_box = f", with the box of {wording.lesion_name(lesion)}" if lesion else ""
        return {
            phase: _view(
                phase,
                images[p],
                f"Whole axial slice, {PHASE_NAMES[phase]} phase, {height}{with_box}",
                marks,
            )
            for p, phase in enumerate(PHASES)
            if self._aligned.present[p]
        }

    def height_label(self, z: int) -> str:
        """Return where slice z lies: its number from below and its middle's height in RAS, as Slicer shows it."""
        size = self._aligned.grid.size_xyz
        height = self._aligned.grid.index_to_ras(np.array([[(size[0] - 1) / 2, (size[1] - 1) / 2, z]]))[0, 2]
        return f"slice {z + 1} of {size[2]}, {'S' if height >= 0 else 'I'} {abs(height):.1f} mm"

    def _marks(self, z: int, lesion: LesionDiagnosis | None) -> str:
        height = (self._bottom - self._top) * self._per_pixel
        marks = []
        for other in self._lesions:
            box = other.roi.index_box(self._aligned.grid)
            if box[2] <= z + 0.5 <= box[5]:
                corners = self._transform.to_detector(np.array([box[0], box[1], box[3], box[4]]))
                x0, y0, x1, y1 = (corners - [0, self._top, 0, self._top]) * self._per_pixel
                kind = "box" if other is lesion else "box other"
                marks.append(f'<rect class="{kind}" x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}"/>')
                if other is not lesion:
                    marks.append(f'<text x="{x0:.1f}" y="{y0 - 3:.1f}">{escape(other.id)}</text>')
        unit_mm = self._transform.step_xy[0] * self._aligned.grid.spacing_xyz[0] / self._per_pixel
        right, low = _UNITS - 6, height - 7
        bar = 50 / unit_mm
        marks.append(f'<path class="bar" d="M{right - bar:.1f} {low:.1f}H{right}"/>')
        marks.append(f'<text x="{right - bar:.1f}" y="{low - 5:.1f}">5 cm</text>')
        marks.append(f'<text x="5" y="{height / 2:.0f}">R</text>')
        return f'<svg viewBox="0 0 {_UNITS} {height:.2f}" preserveAspectRatio="none" aria-hidden="true">{"".join(marks)}</svg>'

    def place(self, lesion: LesionDiagnosis) -> str:
        """Return on which side of the body's midline a lesion lies; which part of the liver that is, no network was asked."""
        return wording.place(lesion, self._aligned.grid, self._midline)

    def grid(self, lesion: LesionDiagnosis) -> str:
        """Return the grid of a lesion's slices (upper first) by phases."""
        rows = [
            (f"{_ROWS[k].capitalize()} third", self.height_label(z), self.views(z, lesion))
            for k, z in _distinct_slices(lesion)
        ]
        return _grid(rows)

    def overview(self) -> str:
        """Return the grid of three slices spread over the exam, for when there is no lesion to go to."""
        count = self._aligned.grid.size_xyz[2]
        parts = {round((count - 1) * part): name for part, name in ((0.25, "Lower"), (0.5, "Middle"), (0.75, "Upper"))}
        return _grid([(name, self.height_label(z), self.views(z, None)) for z, name in sorted(parts.items(), reverse=True)])

    def thumbnail(self, lesion: LesionDiagnosis) -> str:
        """Return the middle slice in the reference phase."""
        return self.views(lesion.slices[1], lesion)[self._aligned.reference]


def crop_grid(lesion: LesionDiagnosis, present: tuple[bool, ...], slices: SlicePictures) -> str:
    """Return the grid of what the networks saw, each with the attention map over it."""
    ramp, rows = cam_ramp(), []
    cams = lesion.cam_slices / max(float(lesion.cam_slices.max()), 1e-12)
    for k, z in _distinct_slices(lesion):
        cam = data_uri(ramp_png(_within_box(cams[k], lesion.composites[k]), ramp, CAM_THRESHOLD, CAM_OPACITY))
        overlay = f'<img class="cam" src="{cam}" alt="">'
        name = f"{wording.lesion_name(lesion)}, {_ROWS[k]} third"
        views = {
            phase: _view(phase, lesion.composites[k, p], f"Close-up of {name}, {PHASE_NAMES[phase]} phase", overlay)
            for p, phase in enumerate(PHASES)
            if present[p]
        }
        rows.append((f"{_ROWS[k].capitalize()} third", slices.height_label(z), views))
    return _grid(rows)


def phase_bars(shapley: PhaseShapley, kind: tuple[str, str], toward: str, away: str) -> str:
    """Return an inline SVG of a phase's contributions as bars to the right (toward) and left (away) of zero, in percentage points.

    kind: CSS classes of the bars to the right and to the left.
    """
    values = {phase: shapley.values[phase] * 100 for phase in PHASES if phase in shapley.values}
    reach = max(10.0, float(np.ceil(max(abs(value) for value in values.values()) / 10) * 10))
    left, zero, right, row = 110, 300, 490, 30
    scale = (right - zero - 32) / reach
    height = row * len(values) + 52
    parts = [
        f'<text x="{zero - 8}" y="15" text-anchor="end" class="soft">← {escape(away)}</text>',
        f'<text x="{zero + 8}" y="15" class="soft">{escape(toward)} →</text>',
        f'<path class="zero" d="M{zero} 24V{height - 22}"/>',
    ]
    for n, (phase, value) in enumerate(values.items()):
        y = 28 + n * row
        width = abs(value) * scale
        x = zero if value >= 0 else zero - width
        end, anchor = (x + width + 6, "start") if value >= 0 else (x - 6, "end")
        parts.append(f'<text x="0" y="{y + 16}">{PHASE_NAMES[phase].capitalize()}</text>')
        colour, width = kind[0] if value >= 0 else kind[1], max(width, 0.5)
        parts.append(f'<rect class="{colour}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{row - 9}" rx="2"/>')
        parts.append(f'<text x="{end:.1f}" y="{y + 16}" text-anchor="{anchor}">{wording.points(shapley.values[phase])}</text>')
    parts.append(f'<text x="{zero}" y="{height - 6}" text-anchor="middle" class="soft">percentage points</text>')
    spoken = ", ".join(f"{PHASE_NAMES[phase]} {wording.points(shapley.values[phase])}" for phase in values)
    label = escape(f"Contribution of each phase to the probability of {toward}, percentage points: {spoken}")
    return f'<svg class="chart" viewBox="0 0 {right + left - 90} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'


def _within_box(cam: np.ndarray, composite: np.ndarray) -> np.ndarray:
    """Set an attention map to 0 where the lesion's box ends: the networks saw nothing there."""
    seen = composite.any(0)
    inside = seen.any(1)[:, None] & seen.any(0)
    return np.where(inside, cam, 0)


def _distinct_slices(lesion: LesionDiagnosis) -> list[tuple[int, int]]:
    """Return (place among the three, slice), upper first; a thin lesion has fewer than three different slices."""
    last: dict[int, int] = {}
    for k, z in enumerate(lesion.slices):
        if z not in last or k == 1:
            last[z] = k
    return sorted(((k, z) for z, k in last.items()), reverse=True)


def _grid(rows: list[tuple[str, str, dict[str, str]]]) -> str:
    cells = ['<div class="corner"></div>']
    for phase in PHASES:
        level, width = WINDOWS[phase]
        cells.append(f'<div class="head">{PHASE_NAMES[phase].capitalize()}<small>L {level:g} / W {width:g}</small></div>')
    for name, where, views in rows:
        lines = where.replace(" ", "\N{NO-BREAK SPACE}").replace(",\N{NO-BREAK SPACE}", "<br>")
        cells.append(f'<div class="row">{name}<small>{lines}</small></div>')
        cells += [views.get(phase, f'<div class="absent">{PHASE_NAMES[phase].capitalize()}<br>not acquired</div>') for phase in PHASES]
    acquired = rows[0][2]
    columns = " ".join(f"minmax(0,{1 if phase in acquired else 0.55}fr)" for phase in PHASES)
    return f'<div class="grid" style="--columns:{columns}">{"".join(cells)}</div>'


def _view(phase: str, image: np.ndarray, alt: str, over: str) -> str:
    """Return a picture with what is drawn over it; it grows to the window while it has the focus, its slot keeps its place."""
    name, (height, width) = PHASE_NAMES[phase].capitalize(), image.shape
    return (
        f'<div class="slot" style="aspect-ratio:{width}/{height}"><div class="view" tabindex="0" data-phase="{name}" '
        f'style="--ratio:{width / height:.4f}"><img src="{data_uri(grey_png(image))}" alt="{escape(alt)}">{over}</div></div>'
    )
