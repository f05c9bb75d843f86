"""What the radiologist did to the boxes of an exam, to be taken back step by step: added, moved, resized, removed. MRML only.

Slicer's own undo is off unless a user switches it on, and knows nothing of results. This is of the session: a saved scene does not hold it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .exam_nodes import LEFT_OUT_ATTRIBUTE
from .lesion_nodes import FOUND_ATTRIBUTE, SCORE_ATTRIBUTE, is_drawn, is_same, roi_of
from .lesion_results import DIAGNOSED_ATTRIBUTE
from .volume_nodes import numpy_matrix, one_event, vtk_matrix

if TYPE_CHECKING:
    from .exam_nodes import ExamNodes
    from .exam_results import ShownResult
    from .rois import Roi

#: Attributes of a ROI that it has again when it is brought back.
_KEPT = (LEFT_OUT_ATTRIBUTE, FOUND_ATTRIBUTE, SCORE_ATTRIBUTE)

#: Steps that can be taken back.
_LONGEST = 50


@dataclass(frozen=True)
class _Box:
    """Where a ROI is below its parent transform: 4 x 4 matrix, and size in mm."""

    matrix: np.ndarray
    size: tuple[float, float, float]


@dataclass(frozen=True)
class _Moved:
    id: str
    before: _Box


@dataclass(frozen=True)
class _Added:
    id: str


@dataclass(frozen=True)
class _Removed:
    """A ROI that was removed. id: of its node; box: in space; below: under its parent transform; shown: the result that was shown then."""

    id: str
    name: str
    is_locked: bool
    box: Roi
    below: tuple[str, _Box] | None
    attributes: Mapping[str, str]
    shown: ShownResult | None


class RoiHistory:
    """Remember what boxes of an exam were like. Another exam, another history."""

    def __init__(self, exam: ExamNodes) -> None:
        self._exam = exam
        self._known: dict[str, _Box] = {}
        self._steps: list[_Added | _Moved | _Removed] = []
        #: ID of a ROI that was removed and brought back -> that of its node now.
        self._instead: dict[str, str] = {}

    def watch(self, rois: Sequence[Any]) -> None:
        """Get to know boxes that are new."""
        for roi in rois:
            if roi.GetID() not in self._known and is_drawn(roi):
                self._known[roi.GetID()] = _box_of(roi)

    def added(self, roi: Any) -> None:
        """Keep that the radiologist added a box."""
        self.watch([roi])
        self._keep(_Added(roi.GetID()))

    def settled(self, rois: Sequence[Any]) -> None:
        """Keep what boxes were like before they were changed: nobody is at them any more."""
        for roi in rois:
            before = self._known.get(roi.GetID())
            if before is not None and is_drawn(roi) and not _is_same(before, now := _box_of(roi)):
                self._known[roi.GetID()] = now
                self._keep(_Moved(roi.GetID(), before))

    def remove(self, roi: Any) -> bool:
        """Remove a box with everything that belongs to its lesion; says whether `undo` can bring it back: not one that is not drawn."""
        is_kept = is_drawn(roi)
        if is_kept:
            attributes = {name: value for name in _KEPT if (value := roi.GetAttribute(name)) is not None}
            parent = roi.GetParentTransformNode()
            below = (parent.GetID(), _box_of(roi)) if parent is not None else None
            name, is_locked = roi.GetName() or "", bool(roi.GetLocked())
            self._keep(_Removed(roi.GetID(), name, is_locked, roi_of(roi), below, attributes, self._exam.shown()))
        self._exam.remove_roi(roi)
        return is_kept

    @property
    def next(self) -> tuple[str, str] | None:
        """What `undo` would do: "move" a box back, "bring" one back or "take" one away, and the name of its lesion; None: nothing.

        A box that was added is not taken away any more once it has a result: that would be lost.
        """
        while self._steps and isinstance(step := self._steps[-1], (_Added, _Moved)):
            roi = self._exam.node(step.id)
            if roi is not None and (isinstance(step, _Moved) or roi.GetAttribute(DIAGNOSED_ATTRIBUTE) is None):
                return "move" if isinstance(step, _Moved) else "take", roi.GetName() or ""
            self._steps.pop()
        return ("bring", self._steps[-1].name) if self._steps else None

    def undo(self) -> Any | None:
        """Take the last step back and return its ROI; None where that is gone, or there is nothing to take back."""
        if self.next is None:
            return None
        step = self._steps.pop()
        if isinstance(step, _Removed):
            return self._bring_back(step)
        roi = self._exam.node(step.id)
        if isinstance(step, _Added):
            self._exam.remove_roi(roi)
            return None
        # first, so that this is no change of its own
        self._known[step.id] = step.before
        _put(roi, step.before)
        return roi

    def _bring_back(self, removed: _Removed) -> Any:
        roi = self._exam.add_box(removed.box)
        self._instead = {id: roi.GetID() if now == removed.id else now for id, now in self._instead.items()} | {removed.id: roi.GetID()}
        if removed.below is not None and self._exam.node(removed.below[0]) is not None:
            # what was done to it before is told below that transform
            roi.SetAndObserveTransformNodeID(removed.below[0])
            _put(roi, removed.below[1])
        for name, value in removed.attributes.items():
            roi.SetAttribute(name, value)
        roi.SetLocked(removed.is_locked)
        if removed.shown is not None:
            self._exam.show_again(removed.shown, self._instead)
        # unless another lesion is called so by now
        if removed.name not in {other.GetName() for other in self._exam.rois()}:
            roi.SetName(removed.name)
        self.watch([roi])
        # what was done to it before is of another node
        self._steps = [replace(step, id=roi.GetID()) if step.id == removed.id else step for step in self._steps]
        return roi

    def _keep(self, step: _Added | _Moved | _Removed) -> None:
        self._steps = [*self._steps[1 - _LONGEST :], step]


def _put(roi: Any, box: _Box) -> None:
    with one_event(roi):
        roi.SetAndObserveObjectToNodeMatrix(vtk_matrix(box.matrix))
        roi.SetSize(*box.size)


def _box_of(roi: Any) -> _Box:
    return _Box(numpy_matrix(roi.GetObjectToNodeMatrix()), tuple(roi.GetSize()))


def _is_same(one: _Box, other: _Box) -> bool:
    return is_same(one.matrix, other.matrix) and is_same(np.array(one.size), np.array(other.size))
