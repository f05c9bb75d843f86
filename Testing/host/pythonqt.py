"""Make PySide6's classes behave as PythonQt's: a property is a value and not a call."""

from __future__ import annotations

from enum import Enum
from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

#: Virtual functions in C++, asked for by Qt itself: a value under these names would never end asking for itself.
_VIRTUAL = {"sizeHint", "minimumSizeHint"}


class PropertyValue:
    """Give and take the value of one Qt property of an instance; the class itself keeps what it had under that name.

    PythonQt looks at properties first, so ``label.text`` is a str and ``label.text()`` fails there; with this it fails here as well.
    """

    def __init__(self, name: str, under_that_name: Any) -> None:
        self._name = name
        self._under_that_name = under_that_name

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            if self._under_that_name is None:
                raise AttributeError(self._name)
            return getattr(self._under_that_name, "__get__", lambda *_: self._under_that_name)(None, owner)
        return QtCore.QObject.property(instance, self._name)

    def __set__(self, instance: Any, value: Any) -> None:
        if not instance.metaObject().property(instance.metaObject().indexOfProperty(self._name)).isWritable():
            raise AttributeError(f"Property '{self._name}' of {type(instance).__name__} is not writable")
        # PythonQt knows enumerations as numbers
        if not instance.setProperty(self._name, value.value if isinstance(value, Enum) else value):
            raise AttributeError(f"Property '{self._name}' does not accept an object of type {type(value).__name__} ({value!r})")


def imitate() -> None:
    """Change PySide6's classes, once for the process."""
    if hasattr(QtCore.QObject, "className"):
        return
    for module in (QtCore, QtGui, QtWidgets):
        for name in dir(module):
            kind = getattr(module, name)
            if isinstance(kind, type) and issubclass(kind, QtCore.QObject):
                facts = kind.staticMetaObject
                for index in range(facts.propertyOffset(), facts.propertyCount()):
                    own = facts.property(index).name()
                    if own not in _VIRTUAL:
                        setattr(kind, own, PropertyValue(own, kind.__dict__.get(own)))
    QtCore.QObject.name = PropertyValue("objectName", None)
    QtCore.QObject.className = lambda self: self.metaObject().className()
