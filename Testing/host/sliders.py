"""ctkSliderWidget: a slider and a spin box with one value between them."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore

from . import qt
from .state import state


class ctkDoubleSpinBox(qt.QDoubleSpinBox):
    """A spin box for real numbers."""


class ctkDoubleSlider(qt.QSlider):
    """A slider whose steps are counted in whole numbers; ctkSliderWidget gives them their size."""


def _of_spin_box(kind: Any, name: str) -> tuple[Any, Any]:
    """Return a property that is the spin box's, and its setter."""

    def getter(self: Any) -> Any:
        return getattr(self._spin, name)

    def setter(self: Any, value: Any) -> None:
        setattr(self._spin, name, value)
        self._lay_slider()

    return QtCore.Property(kind, getter, setter), setter


class ctkSliderWidget(qt.QWidget):
    """Choose a real number; 0 to 99.99 in steps of 1 until it is told otherwise."""

    valueChanged = QtCore.Signal(float)
    valueIsChanging = QtCore.Signal(float)

    value, setValue = _of_spin_box(float, "value")
    minimum, setMinimum = _of_spin_box(float, "minimum")
    maximum, setMaximum = _of_spin_box(float, "maximum")
    singleStep, setSingleStep = _of_spin_box(float, "singleStep")
    decimals, setDecimals = _of_spin_box(int, "decimals")
    prefix, setPrefix = _of_spin_box(str, "prefix")
    suffix, setSuffix = _of_spin_box(str, "suffix")
    pageStep, setPageStep = state(float, "pageStep", 10.0)
    tickInterval, setTickInterval = state(float, "tickInterval", 0.0)
    tracking, setTracking = state(bool, "tracking", True)

    def __init__(self, parent: qt.QWidget | None = None) -> None:
        super().__init__(parent)
        self._slider = ctkDoubleSlider(self)
        self._slider.setOrientation(qt.Qt.Horizontal)
        self._spin = ctkDoubleSpinBox(self)
        row = qt.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._slider, 1)
        row.addWidget(self._spin)
        self.setSizePolicy(qt.QSizePolicy.Minimum, qt.QSizePolicy.Fixed)
        self._slider.valueChanged.connect(self._on_slider)
        self._spin.valueChanged.connect(self._on_spin)
        self._lay_slider()

    def slider(self) -> ctkDoubleSlider:
        return self._slider

    def spinBox(self) -> ctkDoubleSpinBox:
        return self._spin

    def setRange(self, minimum: float, maximum: float) -> None:
        self._spin.setRange(minimum, maximum)
        self._lay_slider()

    def _lay_slider(self) -> None:
        step = self._spin.singleStep or 1.0
        self._slider.blockSignals(True)
        self._slider.setRange(0, round((self._spin.maximum - self._spin.minimum) / step))
        self._slider.setValue(round((self._spin.value - self._spin.minimum) / step))
        self._slider.blockSignals(False)

    def _on_slider(self, position: int) -> None:
        self._spin.setValue(self._spin.minimum + position * self._spin.singleStep)

    def _on_spin(self, value: float) -> None:
        self._lay_slider()
        self.valueIsChanging.emit(value)
        self.valueChanged.emit(value)
