"""qSlicerModulePanel: help above, the module below, as wide as the module asks for (Base/QTGUI/qSlicerModulePanel.cxx)."""

from __future__ import annotations

from typing import Any

from . import qt
from .collapsible import ctkCollapsibleButton


class ModulePanel(qt.QScrollArea):
    """Hold one module at a time. A module that is too wide makes the panel wide: it does not scroll sideways."""

    def __init__(self, parent: qt.QWidget) -> None:
        super().__init__(parent)
        self.setWidgetResizable(True)
        self.setFrameShape(qt.QFrame.NoFrame)
        self.setHorizontalScrollBarPolicy(qt.Qt.ScrollBarAlwaysOff)
        contents = qt.QWidget(self)
        self._column = qt.QVBoxLayout(contents)
        self._help = ctkCollapsibleButton("Help && Acknowledgement", contents)
        self._help_text = qt.QTextBrowser(self._help)
        qt.QVBoxLayout(self._help).addWidget(self._help_text)
        self._help.setCollapsed(True)
        self._column.addWidget(self._help)
        self.setWidget(contents)
        self._shown: Any = None
        self.put(None, "")

    def put(self, widget: Any, help_text: str) -> None:
        """Show a module's widget, or none; the one before is kept by its owner."""
        if self._shown is not None:
            self._shown.removeEventFilter(self)
            self._column.removeWidget(self._shown)
            self._shown.setParent(None)
        self._shown = widget
        self._help.setVisible(bool(help_text))
        self._help_text.setHtml(help_text)
        if widget is not None:
            widget.layout().setContentsMargins(0, 0, 0, 0)
            widget.setSizePolicy(qt.QSizePolicy.Minimum, widget.sizePolicy.verticalPolicy())
            self._column.addWidget(widget, 1)
            widget.setVisible(True)
            widget.installEventFilter(self)
        self.updateGeometry()

    def eventFilter(self, watched: qt.QObject, event: qt.QEvent) -> bool:
        if event.type() == qt.QEvent.Resize and watched is self._shown:
            self.updateGeometry()
        return super().eventFilter(watched, event)

    def minimumSizeHint(self) -> qt.QSize:
        width = self.widget().minimumSizeHint().width() + self.verticalScrollBar().sizeHint().width()
        return qt.QSize(width, super().minimumSizeHint().height())
