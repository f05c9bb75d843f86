"""A VTK render window without a screen, shown in a widget; mouse and wheel go back to it. What ctkVTKRenderView is in Slicer."""

from __future__ import annotations

from typing import Any

import vtk
from PySide6 import QtCore, QtGui, QtWidgets

#: Qt's mouse buttons as VTK's interactor calls them.
_BUTTONS = {
    QtCore.Qt.LeftButton: "LeftButton",
    QtCore.Qt.MiddleButton: "MiddleButton",
    QtCore.Qt.RightButton: "RightButton",
}


class RenderView(QtWidgets.QWidget):
    """Show an off-screen render window; draws when asked to and at most once per turn of the event loop."""

    resized = QtCore.Signal()

    def __init__(self, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._window = vtk.vtkEGLRenderWindow()
        self._window.SetOffScreenRendering(1)
        self._window.SetMultiSamples(0)
        self._interactor = vtk.vtkGenericRenderWindowInteractor()
        self._interactor.SetRenderWindow(self._window)
        self._interactor.SetInteractorStyle(vtk.vtkInteractorStyleUser())
        self._image = QtGui.QImage()
        self._timer = QtCore.QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._render_if_seen)
        self.paused = False
        self.setMouseTracking(True)
        self.setFocusPolicy(QtCore.Qt.StrongFocus)
        self.setMinimumSize(40, 40)

    def renderWindow(self) -> Any:
        return self._window

    def interactor(self) -> Any:
        return self._interactor

    def scheduleRender(self, *_arguments: object) -> None:
        if not self._timer.isActive():
            self._timer.start(0)

    def _render_if_seen(self) -> None:
        if self.isVisible() and not self.paused:
            self.forceRender()

    def forceRender(self) -> None:
        """Draw now."""
        self._window.SetSize(max(self.width, 1), max(self.height, 1))
        self._window.Render()
        pixels = vtk.vtkUnsignedCharArray()
        width, height = self._window.GetSize()
        self._window.GetRGBACharPixelData(0, 0, width - 1, height - 1, 0, pixels)
        picture = QtGui.QImage(memoryview(pixels), width, height, 4 * width, QtGui.QImage.Format_RGBX8888)
        self._image = picture.mirrored()
        self.update()

    def close_window(self) -> None:
        """Give the graphics context back."""
        self._timer.stop()
        self._window.Finalize()

    def paintEvent(self, _event: QtGui.QPaintEvent) -> None:
        painter = QtGui.QPainter(self)
        painter.fillRect(self.rect, QtGui.QColor("black"))
        painter.drawImage(0, 0, self._image)
        painter.end()

    def showEvent(self, event: QtGui.QShowEvent) -> None:
        super().showEvent(event)
        self.scheduleRender()

    def resizeEvent(self, event: QtGui.QResizeEvent) -> None:
        super().resizeEvent(event)
        self.resized.emit()
        self.scheduleRender()

    def _tell(self, event: Any, name: str) -> None:
        position = event.position()
        modifiers = event.modifiers()
        shift, control = (bool(modifiers & key) for key in (QtCore.Qt.ShiftModifier, QtCore.Qt.ControlModifier))
        x, y = round(position.x()), self.height - 1 - round(position.y())
        self._interactor.SetEventInformation(x, y, control, shift, chr(0), 0, None)
        self._interactor.InvokeEvent(name)

    def mousePressEvent(self, event: QtGui.QMouseEvent) -> None:
        self._tell(event, _BUTTONS[event.button()] + "PressEvent")

    def mouseReleaseEvent(self, event: QtGui.QMouseEvent) -> None:
        self._tell(event, _BUTTONS[event.button()] + "ReleaseEvent")

    def mouseMoveEvent(self, event: QtGui.QMouseEvent) -> None:
        self._tell(event, "MouseMoveEvent")

    def wheelEvent(self, event: QtGui.QWheelEvent) -> None:
        self._tell(event, "MouseWheelForwardEvent" if event.angleDelta().y() > 0 else "MouseWheelBackwardEvent")

    def enterEvent(self, event: QtGui.QEnterEvent) -> None:
        self._tell(event, "EnterEvent")

    def leaveEvent(self, event: QtCore.QEvent) -> None:
        super().leaveEvent(event)
        self._interactor.InvokeEvent("LeaveEvent")
