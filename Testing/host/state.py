"""Declare a Qt property of a widget of this folder together with its setter: a .ui file, PythonQt style and setX() all reach it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PySide6 import QtCore


def state(kind: Any, name: str, default: Any, then: str = "") -> tuple[Any, Callable[[Any, Any], None]]:
    """Return the property and its setter; after a change the method called ``then`` runs.

    Args:
        kind: Python type, or a C++ type as text.
        name: Of the property; the value is kept as _<name>.
        default: Before it is set.
        then: Method without arguments.
    """

    def getter(self: Any) -> Any:
        return self.__dict__.get(f"_{name}", default)

    def setter(self: Any, value: Any) -> None:
        if getter(self) != value:
            self.__dict__[f"_{name}"] = value
            if then:
                getattr(self, then)()

    return QtCore.Property(kind, getter, setter), setter
