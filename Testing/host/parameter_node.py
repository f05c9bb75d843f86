"""slicer.parameterNodeWrapper: typed attributes kept in a vtkMRMLScriptedModuleNode, in the same text as Slicer keeps them.

Held against Base/Python/slicer/parameterNodeWrapper: bool as "True"/"False", numbers and str as their text, a node as a node reference
with an empty parameter of the same name. Types: bool, int, float, str, pathlib.Path and MRML nodes; no lists, packs or enumerations.
"""

from __future__ import annotations

import pathlib
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import slicer
import vtk

from . import ctk, qt
from .qmrml import qMRMLNodeComboBox

__all__ = [
    "Choice",
    "Default",
    "Maximum",
    "Minimum",
    "NotNone",
    "Validator",
    "WithinRange",
    "isParameterNodeWrapper",
    "parameterNodeWrapper",
]

#: Dynamic property of a widget in a .ui file that names its parameter.
WIDGET_PROPERTY = "SlicerParameterName"


# annotations ----------------------------------------------------------------------------------------------------------------------


class Validator:
    """Refuse a value with ValueError."""

    def validate(self, value: Any) -> None:
        raise NotImplementedError


class NotNone(Validator):
    def validate(self, value: Any) -> None:
        if value is None:
            raise ValueError("Value must not be None")


class WithinRange(Validator):
    def __init__(self, minimum: float, maximum: float) -> None:
        self.minimum, self.maximum = minimum, maximum

    def validate(self, value: float) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within range [{self.minimum}, {self.maximum}], is {value}")


class Minimum(Validator):
    def __init__(self, minimum: float) -> None:
        self.minimum = minimum

    def validate(self, value: float) -> None:
        if value < self.minimum:
            raise ValueError(f"Value must be greater than {self.minimum}, is {value}")


class Maximum(Validator):
    def __init__(self, maximum: float) -> None:
        self.maximum = maximum

    def validate(self, value: float) -> None:
        if value > self.maximum:
            raise ValueError(f"Value must be less than {self.maximum}, is {value}")


class Choice(Validator):
    def __init__(self, choices: Any) -> None:
        self.choices = choices

    def validate(self, value: Any) -> None:
        if value not in self.choices:
            raise ValueError(f"Value is {value}, but must be in one of the following: {self.choices}")


class Default:
    """Say the value before any is set; generator is called for it each time."""

    def __init__(self, value: Any = None, *, generator: Callable[[], Any] | None = None) -> None:
        self._value, self._generator = value, generator

    @property
    def value(self) -> Any:
        return self._generator() if self._generator else self._value


# one parameter --------------------------------------------------------------------------------------------------------------------


class _Parameter:
    """Read and write one parameter of a node."""

    def __init__(self, name: str, annotated: Any, default: Default | None) -> None:
        self.name, self.annotated = name, annotated
        self.type, *notes = typing.get_args(typing.Annotated[annotated, None])
        notes = notes[:-1]
        self.is_node = isinstance(self.type, type) and issubclass(self.type, slicer.vtkMRMLNode)
        if not self.is_node and self.type not in (bool, int, float, str, pathlib.Path):
            raise TypeError(f"Testing/host cannot keep {name} of type {self.type} in a parameter node")
        self.validators = [note for note in notes if isinstance(note, Validator)]
        if strange := [note for note in notes if not isinstance(note, (Validator, Default))]:
            raise TypeError(f"Testing/host does not know the annotations {strange} of {name}")
        annotated_default = next((note for note in notes if isinstance(note, Default)), None)
        empty = Default(None if self.is_node else self.type())
        self.default = default or annotated_default or empty

    def is_in(self, node: Any) -> bool:
        return node.HasParameter(self.name)

    def check(self, value: Any) -> None:
        if value is None and not self.is_node:
            raise ValueError("Value must not be None")
        allowed = (int, float) if self.type is float else self.type
        if value is not None and not isinstance(value, allowed):
            raise TypeError(f"Value must be of type '{allowed}', is type '{type(value)}' value '{value}'")
        for validator in self.validators:
            validator.validate(value)

    def write(self, node: Any, value: Any) -> None:
        self.check(value)
        if self.is_node:
            node.SetParameter(self.name, "")
            node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
        else:
            node.SetParameter(self.name, str(value))

    def read(self, node: Any) -> Any:
        if not self.is_in(node):
            self.write(node, self.default.value)
        if self.is_node:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)
        return text == "True" if self.type is bool else self.type(text)


# widgets --------------------------------------------------------------------------------------------------------------------------


class _Connector:
    """Tie a widget to a parameter. Which pairs exist, and that only these classes themselves count, is from guiConnectors.py."""

    #: widget class -> (parameter types, property, signal)
    KINDS: typing.ClassVar = {
        qt.QCheckBox: ((bool,), "checked", "stateChanged"),
        qt.QPushButton: ((bool,), "checked", "toggled"),
        qt.QSpinBox: ((int,), "value", "valueChanged"),
        qt.QSlider: ((int,), "value", "valueChanged"),
        qt.QDoubleSpinBox: ((float, int), "value", "valueChanged"),
        ctk.ctkSliderWidget: ((float, int), "value", "valueChanged"),
        ctk.ctkDoubleSpinBox: ((float, int), "value", "valueChanged"),
        qt.QComboBox: ((str, int, float, bool), "currentText", "currentIndexChanged"),
        qt.QLineEdit: ((str,), "text", "textChanged"),
        qt.QLabel: ((str,), "text", None),
    }

    def __init__(self, widget: Any, parameter: _Parameter) -> None:
        self.widget, self.parameter = widget, parameter
        if type(widget) is qMRMLNodeComboBox and parameter.is_node:
            self._property, signal = None, widget.currentNodeChanged
        else:
            types, self._property, name = self.KINDS.get(type(widget), ((), None, None))
            if parameter.type not in types:
                raise RuntimeError(f"Unable to create GUI connector from datatype '{parameter.annotated}' to widget type '{type(widget)}'.")
            signal = getattr(widget, name) if name else None
            self._take_range()
        self._signal, self._slot = signal, None

    def _take_range(self) -> None:
        """Give the widget the parameter's bounds; a slider needs them."""
        if self._property != "value":
            return
        bounds = {type(one): one for one in self.parameter.validators}
        within = bounds.get(WithinRange)
        low = within.minimum if within else getattr(bounds.get(Minimum), "minimum", None)
        high = within.maximum if within else getattr(bounds.get(Maximum), "maximum", None)
        if type(self.widget) in (qt.QSlider, ctk.ctkSliderWidget) and (low is None or high is None):
            raise RuntimeError(f"Cannot have a connection to {type(self.widget).__name__} where the type is unbounded.")
        whole = type(self.widget) in (qt.QSlider, qt.QSpinBox)
        self.widget.setMinimum(low if low is not None else (-(2**31) if whole else float("-inf")))
        self.widget.setMaximum(high if high is not None else (2**31 - 1 if whole else float("inf")))

    def connect(self, slot: Callable[[], None]) -> None:
        if self._signal is not None:
            self._slot = lambda *_arguments: slot()
            self._signal.connect(self._slot)

    def disconnect(self) -> None:
        if self._slot is not None:
            self._signal.disconnect(self._slot)
            self._slot = None

    def read(self) -> Any:
        if self._property is None:
            return self.widget.currentNode()
        value = getattr(self.widget, self._property)
        return value if self.parameter.type is bool else self.parameter.type(value)

    def write(self, value: Any) -> None:
        if self._property is None:
            self.widget.setCurrentNode(value)
        else:
            setattr(self.widget, self._property, str(value) if type(self.widget) is qt.QComboBox else value)


# the wrapper ----------------------------------------------------------------------------------------------------------------------


class _Wrapper:
    """What every wrapped class can do."""

    allParameters: typing.ClassVar[Mapping[str, _Parameter]] = {}

    def __init__(self, parameterNode: Any) -> None:
        self.parameterNode = parameterNode
        self._guis: dict[int, tuple[list[_Connector], int]] = {}
        self._updating = False
        for parameter in self.allParameters.values():
            if not parameter.is_in(parameterNode):
                parameter.write(parameterNode, parameter.default.value)

    def default(self, name: str) -> Default:
        return self._parameter(name).default

    def dataType(self, name: str) -> Any:
        return self._parameter(name).annotated

    def _parameter(self, name: str) -> _Parameter:
        if name not in self.allParameters:
            raise ValueError(f"Cannot find a param with the given name: {name}")
        return self.allParameters[name]

    def getValue(self, name: str) -> Any:
        return self._parameter(name).read(self.parameterNode)

    def setValue(self, name: str, value: Any) -> None:
        self._parameter(name).write(self.parameterNode, value)

    # widgets

    def connectGui(self, gui: Any) -> int:
        """Tie the widgets that carry a parameter's name to the parameters; returns the tag for disconnectGui."""
        widgets = gui.findChildren(qt.QWidget) if isinstance(gui, qt.QWidget) else vars(gui).values()
        return self.connectParametersToGui({name: widget for widget in widgets if (name := widget.property(WIDGET_PROPERTY))})

    def connectParametersToGui(self, mapping: Mapping[str, Any]) -> int:
        connectors = [_Connector(widget, self._parameter(name)) for name, widget in mapping.items()]
        for connector in connectors:
            connector.write(self.getValue(connector.parameter.name))
            connector.connect(lambda connector=connector: self._from_gui(connector))
        observer = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_arguments: self._to_gui())
        tag = max(self._guis, default=-1) + 1
        self._guis[tag] = (connectors, observer)
        return tag

    def disconnectGui(self, tag: int) -> None:
        connectors, observer = self._guis.pop(tag, ([], None))
        for connector in connectors:
            connector.disconnect()
        if observer is not None:
            self.RemoveObserver(observer)

    def _from_gui(self, connector: _Connector) -> None:
        with slicer.util.NodeModify(self):
            if not self._updating:
                self.setValue(connector.parameter.name, connector.read())

    def _to_gui(self) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            with slicer.util.NodeModify(self):
                for connector in self._connectors():
                    connector.write(self.getValue(connector.parameter.name))
        finally:
            self._updating = False

    def _connectors(self) -> Iterator[_Connector]:
        for connectors, _ in list(self._guis.values()):
            yield from connectors

    # the node

    def StartModify(self) -> int:
        return self.parameterNode.StartModify()

    def EndModify(self, was_modifying: int) -> int:
        return self.parameterNode.EndModify(was_modifying)

    def AddObserver(self, event: Any, callback: Callable, priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        self.parameterNode.Modified()


def _property(name: str) -> property:
    return property(lambda self: self.getValue(name), lambda self, value: self.setValue(name, value))


def parameterNodeWrapper(kind: type | None = None) -> Any:
    """Turn a class with annotated attributes into a wrapper of a parameter node; used with and without parentheses."""
    if kind is None:
        return parameterNodeWrapper
    hints = typing.get_type_hints(kind, vars(sys.modules[kind.__module__]), include_extras=True)
    parameters = {}
    for name, annotated in hints.items():
        if hasattr(_Wrapper, name):
            raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
        default = Default(vars(kind)[name]) if name in vars(kind) else None
        parameters[name] = _Parameter(name, annotated, default)
        setattr(kind, name, _property(name))
    for name, member in vars(_Wrapper).items():
        if name not in ("__dict__", "__weakref__", "__module__", "__doc__", "__annotations__"):
            setattr(kind, name, member)
    kind.allParameters = parameters
    kind._is_parameter_node_wrapper = True
    return kind


def isParameterNodeWrapper(what: Any) -> bool:
    return getattr(what, "_is_parameter_node_wrapper", False)
