"""ctkCollapsibleButton: a header that hides what is below it."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore

from . import qt
from .state import state


class _Contents:
    """Hide and show the children of a widget, without forgetting which of them were hidden for another reason.

    CTK: Libs/Widgets/ctkCollapsibleButton.cpp, setChildVisibility and eventFilter.
    """

    def __init__(self, widget: qt.QWidget) -> None:
        self._widget = widget
        self._hidden_here: list[qt.QWidget] = []
        self._busy = False

    def follow(self, collapsed: bool) -> None:
        self._busy = True
        if collapsed:
            for child in self._widget.children():
                if isinstance(child, qt.QWidget) and not child.isHidden():
                    self._hidden_here.append(child)
                    child.setVisible(False)
        else:
            for child in self._hidden_here:
                child.setVisible(True)
            self._hidden_here = []
        self._busy = False

    def saw(self, child: Any, kind: Any, collapsed: bool) -> None:
        """Keep hidden what is shown while the header is closed; it appears when the header opens."""
        if collapsed and not self._busy and kind == QtCore.QEvent.ShowToParent:
            self._busy = True
            self._hidden_here.append(child)
            child.setVisible(False)
            self._busy = False


class ctkCollapsibleButton(qt.QAbstractButton):
    """A bar with an arrow over its contents; checked means open."""

    contentsCollapsed = QtCore.Signal(bool)

    collapsedHeight, setCollapsedHeight = state(int, "collapsedHeight", 14, "updateGeometry")
    flat, setFlat = state(bool, "flat", False, "update")
    contentsFrameShape, setContentsFrameShape = state(int, "contentsFrameShape", 0)
    contentsFrameShadow, setContentsFrameShadow = state(int, "contentsFrameShadow", 0)
    contentsLineWidth, setContentsLineWidth = state(int, "contentsLineWidth", 1)
    contentsMidLineWidth, setContentsMidLineWidth = state(int, "contentsMidLineWidth", 0)

    def __init__(self, *arguments: Any) -> None:
        text = arguments[0] if arguments and isinstance(arguments[0], str) else ""
        parent = next((argument for argument in arguments if isinstance(argument, qt.QWidget)), None)
        super().__init__(parent)
        self._collapsed = False
        self._contents = _Contents(self)
        self._open_height = self.maximumHeight
        self.setText(text)
        self.setCheckable(True)
        self.setChecked(True)
        self.setSizePolicy(qt.QSizePolicy.Minimum, qt.QSizePolicy.Preferred)
        self.setContentsMargins(0, self._bar().height(), 0, 0)
        self.setBackgroundRole(qt.QPalette.Window)
        self.toggled.connect(self._on_toggled)

    def _is_collapsed(self) -> bool:
        return self._collapsed

    def setCollapsed(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    collapsed = QtCore.Property(bool, _is_collapsed, setCollapsed)

    def _on_toggled(self, checked: bool) -> None:
        if self._collapsed != checked:
            return
        self._collapsed = not checked
        if self._collapsed:
            self._open_height = self.maximumHeight
            self.setMaximumHeight(self.sizeHint().height())
        else:
            self.setMaximumHeight(self._open_height)
        self._contents.follow(self._collapsed)
        self.updateGeometry()
        self.contentsCollapsed.emit(self._collapsed)

    def childEvent(self, event: qt.QChildEvent) -> None:
        if event.added() and event.child().isWidgetType():
            event.child().installEventFilter(self)
        super().childEvent(event)

    def eventFilter(self, child: qt.QObject, event: qt.QEvent) -> bool:
        self._contents.saw(child, event.type(), self._collapsed)
        return super().eventFilter(child, event)

    def _bar(self) -> qt.QSize:
        option = qt.QStyleOptionButton()
        option.initFrom(self)
        text = self.fontMetrics().size(qt.Qt.TextShowMnemonic, self.text or "XXXX")
        size = qt.QSize(self._arrow(option) + 6 + text.width(), max(self._arrow(option), text.height()))
        return self.style().sizeFromContents(qt.QStyle.CT_PushButton, option, size, self)

    def _arrow(self, option: qt.QStyleOptionButton) -> int:
        return self.style().pixelMetric(qt.QStyle.PM_IndicatorWidth, option, self)

    def sizeHint(self) -> qt.QSize:
        bar = self._bar()
        closed = qt.QSize(bar.width(), bar.height() + self.collapsedHeight)
        return closed if self._collapsed or self.layout() is None else self.layout().totalSizeHint().expandedTo(closed)

    def minimumSizeHint(self) -> qt.QSize:
        bar = self._bar()
        if self._collapsed:
            return qt.QSize(bar.width(), bar.height() + self.collapsedHeight)
        return bar if self.layout() is None else self.layout().totalMinimumSize().expandedTo(bar)

    def hitButton(self, position: qt.QPoint) -> bool:
        return position.y() < self._bar().height()

    def paintEvent(self, _event: qt.QPaintEvent) -> None:
        painter = qt.QPainter(self)
        option = qt.QStyleOptionButton()
        option.initFrom(self)
        option.rect.setHeight(self._bar().height())
        option.state |= qt.QStyle.State_Sunken if self.isDown() else qt.QStyle.State_Raised
        self.style().drawControl(qt.QStyle.CE_PushButtonBevel, option, painter, self)
        side = self._arrow(option)
        arrow = qt.QStyleOption()
        arrow.initFrom(self)
        edge = (option.rect.height() - side) // 2
        arrow.rect = qt.QRect(edge, edge, side, side)
        direction = qt.QStyle.PE_IndicatorArrowRight if self._collapsed else qt.QStyle.PE_IndicatorArrowDown
        self.style().drawPrimitive(direction, arrow, painter, self)
        option.rect.setLeft(arrow.rect.right() + 6)
        flags = int(qt.Qt.AlignLeft | qt.Qt.AlignVCenter) | int(qt.Qt.TextHideMnemonic)
        self.style().drawItemText(painter, option.rect, flags, option.palette, self.isEnabled(), self.text, qt.QPalette.ButtonText)
        painter.end()
