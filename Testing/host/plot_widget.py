"""qMRMLPlotWidget: the chart of a plot view node, drawn by VTK from the plot series nodes as Slicer draws it."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from PySide6 import QtWidgets

from .rendering import RenderView

_NODE = slicer.vtkMRMLPlotSeriesNode
_PENS = {
    _NODE.LineStyleNone: vtk.vtkPen.NO_PEN,
    _NODE.LineStyleSolid: vtk.vtkPen.SOLID_LINE,
    _NODE.LineStyleDash: vtk.vtkPen.DASH_LINE,
    _NODE.LineStyleDot: vtk.vtkPen.DOT_LINE,
    _NODE.LineStyleDashDot: vtk.vtkPen.DASH_DOT_LINE,
    _NODE.LineStyleDashDotDot: vtk.vtkPen.DASH_DOT_DOT_LINE,
}
_MARKERS = {
    _NODE.MarkerStyleNone: 0,
    _NODE.MarkerStyleCross: 1,
    _NODE.MarkerStylePlus: 2,
    _NODE.MarkerStyleSquare: 3,
    _NODE.MarkerStyleCircle: 4,
    _NODE.MarkerStyleDiamond: 5,
}


class PlotView(RenderView):
    """Draw the chart that the view node names (Libs/MRML/Widgets/qMRMLPlotView.cxx)."""

    def __init__(self, node: Any, parent: QtWidgets.QWidget) -> None:
        super().__init__(parent)
        self._node = node
        # what vtkContextView holds; that itself would ask for a screen
        renderer, actor = vtk.vtkRenderer(), vtk.vtkContextActor()
        renderer.SetBackground(1.0, 1.0, 1.0)
        renderer.SetUseFXAA(True)
        renderer.AddActor(actor)
        actor.GetScene().SetRenderer(renderer)
        self.renderWindow().AddRenderer(renderer)
        self._chart = vtk.vtkChartXY()
        self._chart.GetBackgroundBrush().SetColor(255, 253, 246)
        actor.GetScene().AddItem(self._chart)
        self._tags: list[tuple[Any, int]] = []
        self._tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._on_change)
        self._changed_tag = node.AddObserver(node.PlotChartNodeChangedEvent, self._on_change)
        self.read_nodes()

    def mrmlPlotViewNode(self) -> Any:
        return self._node

    def chart(self) -> Any:
        return self._chart

    def _on_change(self, *_arguments: object) -> None:
        self.scheduleRender()

    def forceRender(self) -> None:
        self.read_nodes()
        super().forceRender()

    def _watch(self, nodes: list[Any]) -> None:
        for caller, tag in self._tags:
            caller.RemoveObserver(tag)
        self._tags = [(node, node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._on_change)) for node in nodes]

    def read_nodes(self) -> None:
        """Build the chart from its nodes."""
        self._chart.ClearPlots()
        scene = self._node.GetScene()
        chart = scene.GetNodeByID(self._node.GetPlotChartNodeID() or "-") if scene else None
        if chart is None:
            self._chart.SetVisible(False)
            self._watch([])
            return
        self._chart.SetVisible(True)
        series = [chart.GetNthPlotSeriesNode(index) for index in range(chart.GetNumberOfPlotSeriesNodes())]
        series = [node for node in series if node is not None]
        for node in series:
            self._add(node)
        self._lay(chart)
        self._watch([chart, *series, *(node.GetTableNode() for node in series if node.GetTableNode())])

    def _add(self, node: Any) -> None:
        table = node.GetTableNode().GetTable() if node.GetTableNode() else None
        if table is None or table.GetColumnByName(node.GetYColumnName() or "") is None:
            return
        bar = node.GetPlotType() in (node.PlotTypeBar, node.PlotTypeScatterBar)
        plot = self._chart.AddPlot(vtk.vtkChart.BAR if bar else vtk.vtkChart.LINE)
        plot.SetWidth(node.GetLineWidth())
        plot.SetColorF(*node.GetColor())
        plot.SetOpacity(node.GetOpacity())
        plot.GetPen().SetOpacityF(node.GetOpacity())
        plot.GetPen().SetLineType(vtk.vtkPen.SOLID_LINE if node.GetPlotType() == node.PlotTypeBar else _PENS[node.GetLineStyle()])
        if not bar:
            plot.SetMarkerSize(node.GetMarkerSize())
            plot.SetMarkerStyle(_MARKERS[node.GetMarkerStyle()])
        labels = table.GetColumnByName(node.GetLabelColumnName()) if node.GetLabelColumnName() else None
        plot.SetIndexedLabels(labels if isinstance(labels, vtk.vtkStringArray) else None)
        if node.IsXColumnRequired():
            plot.SetUseIndexForXSeries(False)
            plot.SetInputData(table, node.GetXColumnName(), node.GetYColumnName())
        else:
            plot.SetUseIndexForXSeries(True)
            plot.SetInputData(table, node.GetYColumnName(), node.GetYColumnName())
        plot.SetLabel(node.GetName() or node.GetYColumnName())

    def _lay(self, node: Any) -> None:
        title = self._chart.GetTitleProperties()
        font = title.GetFontFamilyFromString(node.GetFontType() or "Arial")
        self._chart.SetTitle((node.GetTitle() or "") if node.GetTitleVisibility() else "")
        title.SetFontFamily(font)
        title.SetFontSize(node.GetTitleFontSize())
        self._chart.SetShowLegend(bool(node.GetLegendVisibility()))
        self._chart.GetLegend().GetLabelProperties().SetFontSize(node.GetLegendFontSize())
        self._chart.GetLegend().GetLabelProperties().SetFontFamily(font)
        for place in (vtk.vtkAxis.BOTTOM, vtk.vtkAxis.TOP, vtk.vtkAxis.LEFT, vtk.vtkAxis.RIGHT):
            axis = self._chart.GetAxis(place)
            letter = "X" if place in (vtk.vtkAxis.BOTTOM, vtk.vtkAxis.TOP) else "Y"

            def of(name: str, letter: str = letter) -> Any:
                return getattr(node, f"Get{letter}Axis{name}")()

            axis.SetTitle((of("Title") or "") if of("TitleVisibility") else "")
            axis.SetLogScale(bool(of("LogScale")))
            if of("RangeAuto"):
                axis.SetBehavior(vtk.vtkAxis.AUTO)
            else:
                axis.SetBehavior(vtk.vtkAxis.FIXED)
                axis.SetUnscaledRange(*of("Range"))
            axis.SetGridVisible(bool(node.GetGridVisibility()))
            axis.GetTitleProperties().SetBold(False)
            for texts, size in (
                (axis.GetTitleProperties(), node.GetAxisTitleFontSize()),
                (axis.GetLabelProperties(), node.GetAxisLabelFontSize()),
            ):
                texts.SetFontFamily(font)
                texts.SetFontSize(size)
        self._chart.RecalculateBounds()

    def stop(self) -> None:
        self._watch([])
        self._node.RemoveObserver(self._tag)
        self._node.RemoveObserver(self._changed_tag)
        self.close_window()


class PlotController(QtWidgets.QWidget):
    """The bar above a plot view: its label."""

    def __init__(self, node: Any, parent: QtWidgets.QWidget) -> None:
        super().__init__(parent)
        label = QtWidgets.QLabel(node.GetLayoutLabel() or node.GetLayoutName(), self)
        label.setStyleSheet("background-color: #e1ba3c; color: black; font-weight: bold; padding: 2px 8px;")
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(label)
        row.addStretch(1)


class PlotWidget(QtWidgets.QWidget):
    """A plot view node's bar and view."""

    def __init__(self, node: Any, parent: QtWidgets.QWidget) -> None:
        super().__init__(parent)
        self.setObjectName(f"qMRMLPlotWidget{node.GetLayoutName()}")
        self._controller, self._view = PlotController(node, self), PlotView(node, self)
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self._controller)
        column.addWidget(self._view, 1)

    def mrmlPlotViewNode(self) -> Any:
        return self._view.mrmlPlotViewNode()

    def plotView(self) -> PlotView:
        return self._view

    def plotController(self) -> PlotController:
        return self._controller

    def stop(self) -> None:
        self._view.stop()
