"""Whether a part of the panel is in sight, and scrolling to it."""

from __future__ import annotations

from typing import Any

import qt

from .application import value_of


def is_in_sight(widget: Any) -> bool:
    """Tell whether all of a widget's height is within the area that it is scrolled in; so it is where there is none."""
    area = _area_of(widget)
    if area is None:
        return True
    seen = value_of(area.viewport)
    top = widget.mapToGlobal(qt.QPoint(0, 0)).y() - seen.mapToGlobal(qt.QPoint(0, 0)).y()
    return top >= 0 and top + value_of(widget.height) <= value_of(seen.height)


def bring_into_sight(widget: Any) -> None:
    """Scroll as little as needed for a widget to be seen."""
    area = _area_of(widget)
    if area is not None and not is_in_sight(widget):
        area.ensureWidgetVisible(widget)


def _area_of(widget: Any) -> Any | None:
    around = widget.parentWidget()
    while around is not None and not hasattr(around, "ensureWidgetVisible"):
        around = around.parentWidget()
    return around
