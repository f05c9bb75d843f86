"""The module ``qt`` of Slicer: the classes of Qt under one name, as PythonQt presents them."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any, ClassVar

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

from . import pythonqt

pythonqt.imitate()

#: PySide6's own additions, which PythonQt does not have: code that uses them fails here as it would there.
_ONLY_IN_PYSIDE = {"Signal", "SignalInstance", "Slot", "Property", "ClassInfo", "QtMsgType", "QUiLoader", "QProcess"}

for _module in (QtCore, QtGui, QtWidgets):
    for _name in dir(_module):
        if not _name.startswith("_") and _name not in _ONLY_IN_PYSIDE:
            globals()[_name] = getattr(_module, _name)


class _ExitCodeOnly:
    """A signal whose second argument is not passed on."""

    def __init__(self, signal: Any) -> None:
        self._signal = signal
        self._slots: dict[Any, Callable[..., None]] = {}

    def connect(self, slot: Callable[..., None]) -> None:
        self._slots[slot] = lambda code, _status: slot(code)
        self._signal.connect(self._slots[slot])

    def disconnect(self, slot: Callable[..., None]) -> None:
        self._signal.disconnect(self._slots.pop(slot))


class QProcess(QtCore.QProcess):
    """A process whose ``finished`` passes the exit code only, as it is seen in Slicer."""

    def __init__(self, parent: QtCore.QObject | None = None) -> None:
        super().__init__(parent)
        # PySide6 looks for a signal among the instance's own attributes first
        self.__dict__["finished"] = _ExitCodeOnly(self.finished)


class QUiLoader(QtUiTools.QUiLoader):
    """Read a .ui file with Slicer's own widgets in it.

    Its connections are made here and not by Qt, because the arguments of their signals are MRML objects that PySide6 cannot name.
    In Slicer a widget or signal that does not exist is only warned of; here it is an error.
    """

    #: Class name -> class; ctk and the MRML widgets enter themselves.
    classes: ClassVar[dict[str, type]] = {}

    def __init__(self, parent: QtCore.QObject | None = None) -> None:
        super().__init__(parent)
        self._unknown: list[str] = []

    def createWidget(self, class_name: str, parent: QtWidgets.QWidget | None = None, name: str = "") -> QtWidgets.QWidget:
        if class_name in self.classes:
            widget = self.classes[class_name](parent)
            widget.setObjectName(name)
            return widget
        if class_name not in self.availableWidgets():
            self._unknown.append(class_name)
        return super().createWidget(class_name, parent, name)

    def load(self, device: QtCore.QIODevice, parent: QtWidgets.QWidget | None = None) -> QtWidgets.QWidget:
        document = ElementTree.fromstring(bytes(device.readAll()))
        links = []
        for section in document.findall("connections"):
            links += [{part.tag: part.text or "" for part in link} for link in section.findall("connection")]
            document.remove(section)
        content = QtCore.QBuffer()
        content.setData(ElementTree.tostring(document))
        content.open(QtCore.QIODevice.ReadOnly)
        widget = super().load(content, parent)
        if self._unknown:
            raise RuntimeError(f"Testing/host has no {', '.join(sorted(set(self._unknown)))} for a .ui file; is the name right?")
        for link in links:
            sender, receiver = (_named(widget, link[end]) for end in ("sender", "receiver"))
            getattr(sender, link["signal"].partition("(")[0]).connect(getattr(receiver, link["slot"].partition("(")[0]))
        return widget


def _named(root: QtWidgets.QWidget, name: str) -> Any:
    found = root if root.objectName == name else root.findChild(QtCore.QObject, name)
    if found is None:
        raise RuntimeError(f"a connection of the .ui file names {name}, which is not in it")
    return found
