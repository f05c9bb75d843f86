"""The module's own layout while the exam is looked at: shown when there is something to see, and the former layout back on leaving."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slicer import vtkMRMLLayoutNode

from .. import exam_views


class Views:
    """Keep the layout: shown from the first exam on, away while another module is used."""

    def __init__(self, application: Any) -> None:
        self._application = application
        layout = application.layout()
        self._former = layout if layout != exam_views.LAYOUT_ID else None
        #: Whether the layout was ours when the module was left.
        self._left = False
        #: What the views show: they are laid out once, for zoom and place are the user's from then on.
        self._phases: dict[str, str] = {}
        self.register()

    @property
    def are_shown(self) -> bool:
        return self._application.layout() == exam_views.LAYOUT_ID

    def register(self) -> None:
        """Make the layout known; also after a scene was closed or opened, for layouts live in a node of the scene."""
        node = self._application.layout_node()
        if node is not None:
            exam_views.register_layout(node)

    def show(self, scene: Any, volumes: Mapping[str, Any]) -> bool:
        """Show the phases side by side; False where they are already, and the views were left as they are."""
        phases = {phase: volume.GetID() for phase, volume in volumes.items()}
        if self.are_shown and phases == self._phases:
            return False
        are_new = not self.are_shown
        self._show_layout()
        exam_views.show_phases(scene, volumes)
        self._phases = phases
        # views get their size, and their sliders set them to a height of 0, once the event loop is back
        self._application.later(0, lambda: self._settle(volumes, fit_in=scene if are_new else None))
        return True

    def _settle(self, volumes: Mapping[str, Any], fit_in: Any | None = None) -> None:
        """Let the names of the views be read, and, with the scene given, fit the phases into them; unless others are shown by now."""
        if self.are_shown and self._phases == {phase: volume.GetID() for phase, volume in volumes.items()}:
            if fit_in is not None:
                exam_views.fit_views(fit_in, volumes)
            self._application.widen_view_labels([exam_views.view_tag(phase) for phase in volumes])

    def leave(self) -> None:
        """Bring the former layout back, unless the user chose another meanwhile."""
        self._left = self.are_shown
        if self._left:
            # a scene that was saved in our layout opens in it: then there was no other
            self._application.set_layout(self._former or vtkMRMLLayoutNode.SlicerLayoutFourUpView)

    def adopt(self, volumes: Mapping[str, Any]) -> None:
        """Take the views as they are for those of these volumes: a scene was opened that was saved in our layout."""
        if self.are_shown:
            self._phases = {phase: volume.GetID() for phase, volume in volumes.items()}
            self._application.later(0, lambda: self._settle(volumes))

    def forget(self) -> None:
        """Lay the views out anew next time: the scene is another one."""
        self._phases = {}
        self.register()

    def come_back(self) -> bool:
        """Show the layout again that was left; says whether it did."""
        if not self._left:
            return False
        self._left = False
        self._show_layout()
        return True

    def _show_layout(self) -> None:
        if self.are_shown:
            return
        self.register()
        former = self._application.layout()
        self._application.set_layout(exam_views.LAYOUT_ID)
        self._former = former
