"""The module ``ctk`` of Slicer: those of its widgets that the module and slicer.util name, with CTK's properties, signals and manners."""

from __future__ import annotations

from typing import Any

from . import qt
from .collapsible import ctkCollapsibleButton
from .sliders import ctkDoubleSlider, ctkDoubleSpinBox, ctkSliderWidget

__all__ = ["ctkCollapsibleButton", "ctkDoubleSlider", "ctkDoubleSpinBox", "ctkMessageBox", "ctkSliderWidget"]


class ctkMessageBox(qt.QMessageBox):
    """A message box (CTK adds "do not show again")."""

    def deleteLater(self) -> None:
        """Wait for exec_(): slicer.util asks for this before it, which is late enough only where an event loop runs around both."""

    def exec_(self) -> Any:
        answer = self.exec()
        super().deleteLater()
        return answer


qt.QUiLoader.classes.update({name: globals()[name] for name in __all__})
