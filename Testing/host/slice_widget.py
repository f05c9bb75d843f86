"""qMRMLSliceWidget: the bar with the slice slider, and a slice view drawn by slicer-core's own displayable managers."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets

from .rendering import RenderView

#: vtkCornerAnnotation's places, and the font size of Slicer's slice view annotations.
_LOWER_LEFT, _FONT = 0, 14


class SliceView(RenderView):
    """Draw one slice node (Libs/MRML/Widgets/qMRMLSliceView.cxx)."""

    def __init__(self, logic: Any, node: Any, parent: QtWidgets.QWidget) -> None:
        super().__init__(parent)
        self._logic, self._node = logic, node
        self._renderer = vtk.vtkRenderer()
        # markups place their handles for such a camera (CTK's vtkLightBoxRendererManager)
        self._renderer.GetActiveCamera().ParallelProjectionOn()
        self.renderWindow().AddRenderer(self._renderer)
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._image_actor = vtk.vtkActor2D()
        self._image_actor.SetMapper(self._mapper)
        self._renderer.AddViewProp(self._image_actor)
        self._corner = vtk.vtkCornerAnnotation()
        self._corner.SetMaximumFontSize(_FONT)
        self._corner.SetMinimumFontSize(_FONT)
        self._renderer.AddViewProp(self._corner)
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        self._managers = factory.InstantiateDisplayableManagers(self._renderer)
        self._style = slicer.vtkMRMLSliceViewInteractorStyle()
        self._style.SetSliceLogic(logic)
        self._style.SetDisplayableManagers(self._managers)
        self._style.SetInteractor(self.interactor())
        logic.SetDisplayableManagerGroup(self._managers)
        self._managers.SetMRMLDisplayableNode(node)
        self._tags = [
            (caller, caller.AddObserver(event, self._on_change))
            for caller, event in (
                (self._managers, vtk.vtkCommand.UpdateEvent),
                (logic, vtk.vtkCommand.ModifiedEvent),
                (logic.GetSliceCompositeNode(), vtk.vtkCommand.ModifiedEvent),
                (node, vtk.vtkCommand.ModifiedEvent),
            )
        ]
        self.resized.connect(self.fit_node)

    def displayableManagerGroup(self) -> Any:
        return self._managers

    def displayableManagerByClassName(self, name: str) -> Any:
        return self._managers.GetDisplayableManagerByClassName(name)

    def interactorObserver(self) -> Any:
        return self._style

    def interactorStyle(self) -> Any:
        return self._style

    def mrmlSliceNode(self) -> Any:
        return self._node

    def cornerAnnotation(self) -> Any:
        return self._corner

    def fit_node(self) -> None:
        """Tell the slice node the size of the view; its field of view follows."""
        self._logic.ResizeSliceNode(max(self.width, 1), max(self.height, 1))

    def _on_change(self, *_arguments: object) -> None:
        self.scheduleRender()

    def forceRender(self) -> None:
        self._mapper.SetInputConnection(self._logic.GetImageDataConnection())
        self._image_actor.SetVisibility(self._logic.GetImageDataConnection() is not None)
        self._corner.SetText(_LOWER_LEFT, self._names())
        super().forceRender()

    def _names(self) -> str:
        """Return what Slicer's DataProbe writes into the lower left corner (DataProbeLib/SliceViewAnnotations.py)."""
        composite = self._logic.GetSliceCompositeNode()
        scene = self._node.GetScene()
        background, foreground = (
            scene.GetNodeByID(identity or "-") for identity in (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID())
        )
        if background is None:
            return ""
        if foreground is None:
            return f"B: {background.GetName()}"
        return f"F: {foreground.GetName()} ({composite.GetForegroundOpacity() * 100:.0f}%)\nB: {background.GetName()}"

    def stop(self) -> None:
        for caller, tag in self._tags:
            caller.RemoveObserver(tag)
        self._managers.SetMRMLDisplayableNode(None)
        self._style.SetInteractor(None)
        self.close_window()


class SliceController(QtWidgets.QWidget):
    """The bar above a slice view: its colour and label, a slider for the slice, its position in mm."""

    STEPS = 1000

    def __init__(self, logic: Any, node: Any, parent: QtWidgets.QWidget) -> None:
        super().__init__(parent)
        self._logic, self._node = logic, node
        self._label = QtWidgets.QLabel(self)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Horizontal, self)
        self._slider.setRange(0, self.STEPS)
        self._offset = QtWidgets.QLabel(self)
        self._offset.setMinimumWidth(70)
        self._offset.setAlignment(QtCore.Qt.AlignRight | QtCore.Qt.AlignVCenter)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 4, 0)
        row.addWidget(self._label)
        row.addWidget(self._slider, 1)
        row.addWidget(self._offset)
        self._slider.valueChanged.connect(self._on_slider)
        self._tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, self.show_node)
        self.show_node()

    def sliceLogic(self) -> Any:
        return self._logic

    def _range(self) -> tuple[float, float]:
        limits, resolution = [0.0, 0.0], vtk.reference(0.0)
        return (limits[0], limits[1]) if self._logic.GetSliceOffsetRangeResolution(limits, resolution) else (-100.0, 100.0)

    def show_node(self, *_arguments: object) -> None:
        color = QtGui.QColor.fromRgbF(*self._node.GetLayoutColor())
        dark = "black" if color.lightnessF() > 0.5 else "white"
        self._label.setText(self._node.GetLayoutLabel() or self._node.GetLayoutName())
        self._label.setStyleSheet(f"background-color: {color.name()}; color: {dark}; font-weight: bold; padding: 2px 8px;")
        low, high = self._range()
        offset = self._logic.GetSliceOffset()
        self._slider.blockSignals(True)
        self._slider.setValue(round((offset - low) / max(high - low, 1e-6) * self.STEPS))
        self._slider.blockSignals(False)
        ends = {"Axial": "SI", "Sagittal": "RL", "Coronal": "AP"}.get(self._node.GetOrientation())
        letter = ends and ends[offset < 0]
        self._offset.setText(f"{letter}: {abs(offset):.2f}mm" if letter else f"{offset:.2f}mm")

    def _on_slider(self, value: int) -> None:
        low, high = self._range()
        self._logic.StartSliceOffsetInteraction()
        self._logic.SetSliceOffset(low + value / self.STEPS * (high - low))
        self._logic.EndSliceOffsetInteraction()

    def stop(self) -> None:
        self._node.RemoveObserver(self._tag)


class SliceWidget(QtWidgets.QWidget):
    """A slice node's bar and view."""

    def __init__(self, application_logic: Any, node: Any, parent: QtWidgets.QWidget) -> None:
        super().__init__(parent)
        self.setObjectName(f"qMRMLSliceWidget{node.GetLayoutName()}")
        self._node = node
        self._logic = slicer.vtkMRMLSliceLogic()
        self._logic.SetMRMLApplicationLogic(application_logic)
        application_logic.GetSliceLogics().AddItem(self._logic)
        self._logic.SetMRMLScene(node.GetScene())
        self._logic.SetSliceNode(node)
        self._controller = SliceController(self._logic, node, self)
        self._view = SliceView(self._logic, node, self)
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self._controller)
        column.addWidget(self._view, 1)

    def mrmlSliceNode(self) -> Any:
        return self._node

    def mrmlSliceCompositeNode(self) -> Any:
        return self._logic.GetSliceCompositeNode()

    def sliceLogic(self) -> Any:
        return self._logic

    def sliceView(self) -> SliceView:
        return self._view

    def sliceController(self) -> SliceController:
        return self._controller

    def interactorStyle(self) -> Any:
        return self._view.interactorStyle()

    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()

    def stop(self) -> None:
        """End all observations and give the graphics context back."""
        self._controller.stop()
        self._view.stop()
        self._logic.GetMRMLApplicationLogic().GetSliceLogics().RemoveItem(self._logic)
        self._logic.SetMRMLScene(None)
