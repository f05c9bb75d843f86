"""The module's own layout while the exam is looked at: shown when there is something to see, and the former layout back on leaving."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import exam_views


class Views:
    """Keep the layout: shown from the first exam on, away while another module is used."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._former: int | None = None
        #: Whether the layout was ours when the module was left.
        self._left = False
        self.register()

    @property
    def are_shown(self) -> bool:
        return self._application.layout() == exam_views.LAYOUT_ID

    def register(self) -> None:
        """Make the layout known; also after a scene was closed or opened, for layouts live in a node of the scene."""
        node = self._application.layout_node()
        if node is not None:
            exam_views.register_layout(node)

    def show(self, scene: Any, volumes: Mapping[str, Any]) -> None:
        """Show the phases side by side."""
        if not self.are_shown:
            self.register()
            former = self._application.layout()
            self._application.set_layout(exam_views.LAYOUT_ID)
            self._former = former
        exam_views.show_phases(scene, volumes)

    def leave(self) -> None:
        """Bring the former layout back, unless the user chose another meanwhile."""
        self._left = self.are_shown
        if self._left and self._former is not None:
            self._application.set_layout(self._former)

    def come_back(self) -> bool:
        """Show the layout again that was left; says whether it did."""
        if not self._left:
            return False
        self._left = False
        former = self._application.layout()
        self.register()
        self._application.set_layout(exam_views.LAYOUT_ID)
        self._former = former
        return True
