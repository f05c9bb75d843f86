"""qSlicerLayoutManager: views laid out as the layout node's description says; the nodes of the views come from the real layout logic."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import vtk
from PySide6 import QtCore, QtWidgets

from .mrml import Mrml
from .plot_widget import PlotWidget
from .slice_widget import SliceWidget

#: In Slicer's main window at the first start: the conventional layout.
FIRST_LAYOUT = 2


class LayoutManager(QtCore.QObject):
    """Make a widget for every view of the current layout, and keep it for when the view comes back.

    Views of other kinds (3D, tables) are grey placeholders: nothing here looks at them.
    """

    layoutChanged = QtCore.Signal(int)

    def __init__(self, mrml: Mrml, viewport: QtWidgets.QWidget) -> None:
        super().__init__(viewport)
        self._mrml, self._viewport = mrml, viewport
        self._column = QtWidgets.QVBoxLayout(viewport)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._widgets: dict[str, QtWidgets.QWidget] = {}
        self._shown: QtWidgets.QWidget | None = None
        self._description = ""
        self._node = mrml.layout_logic.GetLayoutNode()
        scene = mrml.scene
        self._tags = [
            (self._node, self._node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._on_layout)),
            (scene, scene.AddObserver(scene.StartBatchProcessEvent, self._on_batch)),
            (scene, scene.AddObserver(scene.EndBatchProcessEvent, self._on_batch)),
        ]
        self.setLayout(FIRST_LAYOUT)

    # what the module and slicer.util ask for -------------------------------------------------------------------------------

    def layoutLogic(self) -> Any:
        return self._mrml.layout_logic

    def mrmlScene(self) -> Any:
        return self._mrml.scene

    def mrmlSliceLogics(self) -> Any:
        return self._mrml.application_logic.GetSliceLogics()

    def viewport(self) -> QtWidgets.QWidget:
        return self._viewport

    @property
    def layout(self) -> int:
        return self._node.GetViewArrangement()

    def setLayout(self, layout: int) -> None:
        self._node.SetViewArrangement(layout)
        self._on_layout()

    def sliceViewNames(self) -> list[str]:
        return [widget.mrmlSliceNode().GetLayoutName() for widget in self._of(SliceWidget)]

    def sliceWidget(self, name: str) -> SliceWidget | None:
        found = [widget for widget in self._of(SliceWidget) if widget.mrmlSliceNode().GetLayoutName() == name]
        return found[0] if found else None

    @property
    def plotViewCount(self) -> int:
        return len(self._of(PlotWidget))

    threeDViewCount = tableViewCount = 0

    def plotWidget(self, index: int) -> PlotWidget | None:
        widgets = self._of(PlotWidget)
        return widgets[index] if 0 <= index < len(widgets) else None

    def resetSliceViews(self) -> None:
        for widget in self._of(SliceWidget):
            widget.sliceLogic().FitSliceToBackground()

    def resetThreeDViews(self) -> None:
        """Nothing is drawn in 3D here."""

    # how it is done --------------------------------------------------------------------------------------------------------

    def _of(self, kind: type) -> list[Any]:
        return [widget for widget in self._widgets.values() if isinstance(widget, kind)]

    def _on_layout(self, *_arguments: object) -> None:
        description = self._node.GetCurrentLayoutDescription() or ""
        if description == self._description or self._mrml.scene.IsBatchProcessing():
            return
        self._description = description
        for widget in self._widgets.values():
            widget.setParent(self._viewport)
            widget.setVisible(False)
        if self._shown is not None:
            self._column.removeWidget(self._shown)
            self._shown.deleteLater()
        self._shown = QtWidgets.QWidget(self._viewport)
        if description:
            self._build(ElementTree.fromstring(description), self._shown)
        self._column.addWidget(self._shown)
        self._shown.setVisible(True)
        self.layoutChanged.emit(self.layout)

    def _build(self, element: ElementTree.Element, parent: QtWidgets.QWidget) -> None:
        if element.tag == "view":
            column = QtWidgets.QVBoxLayout(parent)
            column.setContentsMargins(0, 0, 0, 0)
            widget = self._view(element)
            column.addWidget(widget)
            widget.setVisible(True)
            return
        items = element.findall("item")
        sizes = [int(item.get("splitSize", 500)) for item in items]
        direction = QtCore.Qt.Vertical if element.get("type") == "vertical" else QtCore.Qt.Horizontal
        holder: Any
        if element.get("type") == "tab":
            holder = QtWidgets.QTabWidget(parent)
        elif element.get("split") == "true":
            holder = QtWidgets.QSplitter(direction, parent)
        else:
            holder = QtWidgets.QWidget(parent)
            row = QtWidgets.QVBoxLayout(holder) if direction == QtCore.Qt.Vertical else QtWidgets.QHBoxLayout(holder)
            row.setContentsMargins(0, 0, 0, 0)
            row.setSpacing(2)
        around = QtWidgets.QVBoxLayout(parent)
        around.setContentsMargins(0, 0, 0, 0)
        around.addWidget(holder)
        for item in items:
            cell = QtWidgets.QWidget(holder)
            self._build(item[0], cell)
            if isinstance(holder, QtWidgets.QTabWidget):
                holder.addTab(cell, item.get("name", ""))
            elif isinstance(holder, QtWidgets.QSplitter):
                holder.addWidget(cell)
            else:
                holder.layout().addWidget(cell, 1)
        if isinstance(holder, QtWidgets.QSplitter):
            holder.setSizes(sizes)

    def _view(self, element: ElementTree.Element) -> QtWidgets.QWidget:
        kind, tag = element.get("class", ""), element.get("singletontag", "")
        node = self._mrml.scene.GetSingletonNode(tag, kind)
        key = f"{kind}{tag}"
        if key not in self._widgets:
            if node is not None and kind == "vtkMRMLSliceNode":
                self._widgets[key] = SliceWidget(self._mrml.application_logic, node, self._viewport)
            elif node is not None and kind == "vtkMRMLPlotViewNode":
                self._widgets[key] = PlotWidget(node, self._viewport)
            else:
                placeholder = QtWidgets.QLabel(kind.removeprefix("vtkMRML").removesuffix("Node"), self._viewport)
                placeholder.setAlignment(QtCore.Qt.AlignCenter)
                placeholder.setStyleSheet("background-color: #c8c8dc; color: #707080;")
                self._widgets[key] = placeholder
        return self._widgets[key]

    def _on_batch(self, _scene: Any, event: str) -> None:
        """While a scene is closed or read nothing is drawn; afterwards the views get their size and the layout is looked at again."""
        reading = event == "StartBatchProcessEvent" or self._mrml.scene.IsBatchProcessing()
        for widget in (*self._of(SliceWidget), *self._of(PlotWidget)):
            view = widget.sliceView() if isinstance(widget, SliceWidget) else widget.plotView()
            view.paused = bool(reading)
            if not reading:
                if isinstance(widget, SliceWidget):
                    view.fit_node()
                view.scheduleRender()
        if not reading:
            self._on_layout()

    def render_now(self) -> None:
        """Draw every visible view, for a picture."""
        for widget in (*self._of(SliceWidget), *self._of(PlotWidget)):
            view = widget.sliceView() if isinstance(widget, SliceWidget) else widget.plotView()
            if view.isVisible():
                if isinstance(widget, SliceWidget):
                    view.fit_node()
                view.forceRender()

    def stop(self) -> None:
        for caller, tag in self._tags:
            caller.RemoveObserver(tag)
        for widget in (*self._of(SliceWidget), *self._of(PlotWidget)):
            widget.stop()
        self._widgets = {}
