"""qSlicerMainWindow: the module panel on the left, the views on the right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PySide6 import QtCore, QtWidgets

from .module_panel import ModulePanel

#: At the first start; the user drags it, down to what the module needs.
PANEL_WIDTH = 500


class ModuleSelector(QtWidgets.QWidget):
    """Choose the module that the panel shows."""

    def __init__(self, modules: Any, show: Callable[[str], None], parent: QtWidgets.QWidget) -> None:
        super().__init__(parent)
        self._modules, self._show = modules, show
        self._box = QtWidgets.QComboBox(self)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(4, 4, 4, 4)
        row.addWidget(QtWidgets.QLabel("Modules:", self))
        row.addWidget(self._box, 1)
        self.selectedModule = ""

    def selectModule(self, name: str) -> None:
        if name and not hasattr(self._modules, name.lower()):
            raise RuntimeError(f"there is no module {name}")
        self.selectedModule = name
        title = getattr(self._modules, name.lower()).title if name else ""
        self._box.clear()
        self._box.addItem(title)
        self._show(name)  # and not by a signal, so that what goes wrong there is raised here


class qSlicerMainWindow(QtWidgets.QMainWindow):
    """The window."""

    def __init__(self, modules: Any) -> None:
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self.setWindowTitle("3D Slicer (stand-in host)")
        self._modules = modules
        self._entered: Any = None
        self._dock = QtWidgets.QDockWidget(self)
        self._dock.setObjectName("PanelDockWidget")
        self._dock.setTitleBarWidget(QtWidgets.QWidget(self._dock))
        inside = QtWidgets.QWidget(self._dock)
        column = QtWidgets.QVBoxLayout(inside)
        column.setContentsMargins(0, 0, 0, 0)
        self._selector = ModuleSelector(modules, self._show_module, inside)
        column.addWidget(self._selector)
        self._panel = ModulePanel(inside)
        column.addWidget(self._panel, 1)
        self._dock.setWidget(inside)
        self.addDockWidget(QtCore.Qt.LeftDockWidgetArea, self._dock)
        self._viewport = QtWidgets.QWidget(self)
        self.setCentralWidget(self._viewport)
        self.statusBar()
        self.resize(1600, 1000)
        self.resizeDocks([self._dock], [PANEL_WIDTH], QtCore.Qt.Horizontal)

    def moduleSelector(self) -> ModuleSelector:
        return self._selector

    def viewport(self) -> QtWidgets.QWidget:
        return self._viewport

    def panel(self) -> ModulePanel:
        return self._panel

    def _show_module(self, name: str) -> None:
        """Leave the module that is shown and enter the other (Base/QTGUI/qSlicerModulePanel.cxx)."""
        if self._entered is not None:
            self._entered.exit()
            self._panel.put(None, "")
            self._entered = None
        if name:
            module = getattr(self._modules, name.lower())
            shown = module.widgetRepresentation()
            if shown is not None:
                self._panel.put(shown, module.helpText)
                self._entered = shown
                shown.enter()
