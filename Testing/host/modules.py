"""slicer.modules: modules by their names in lower letters; scripted ones are loaded from their file as Slicer's factory does."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from . import qt
from .qmrml import qMRMLWidget


class CoreModule:
    """A module of which only the logic is there."""

    def __init__(self, name: str, logic: Any) -> None:
        self.name, self.title = name, name
        self._logic = logic

    def logic(self) -> Any:
        return self._logic

    def widgetRepresentation(self) -> None:
        return None


class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """The parent that a scripted module's widget fills (Base/QTGUI/qSlicerScriptedLoadableModuleWidget.cxx)."""

    def __init__(self, module: ScriptedModule) -> None:
        super().__init__()
        self.setObjectName(f"{module.name}ModuleWidget")
        self._module = module
        self.isEntered = False
        qt.QVBoxLayout(self)
        self._instance: Any = None

    def self(self) -> Any:
        return self._instance

    def fill(self) -> None:
        """Make the Python widget in here and call its setup()."""
        name = self._module.name
        self._instance = getattr(sys.modules[name], f"{name}Widget")(self)
        setattr(self._module.namespace, f"{name}Widget", self._instance)
        self._instance.setup()

    def reload(self) -> None:
        self.fill()
        if self.isEntered:
            self._call("enter")

    def _call(self, method: str) -> None:
        if hasattr(self._instance, method):
            getattr(self._instance, method)()

    def enter(self) -> None:
        self.isEntered = True
        self._call("enter")

    def exit(self) -> None:
        self.isEntered = False
        self._call("exit")


class ScriptedModule:
    """What a module's class gets as its parent (qSlicerScriptedLoadableModule): where it lies, and what it says about itself."""

    def __init__(self, path: Path, namespace: Any, scene: Any) -> None:
        self.path, self.name = str(path), path.stem
        self.namespace, self._scene = namespace, scene
        self.title, self.helpText, self.acknowledgementText = "", "", ""
        self.categories: list[str] = []
        self.dependencies: list[str] = []
        self.contributors: list[str] = []
        self.associatedNodeTypes: list[str] = []
        self.icon = qt.QIcon()
        self.hidden = False
        self._widget: qSlicerScriptedLoadableModuleWidget | None = None

    def logic(self) -> None:
        return None

    def widgetRepresentation(self) -> qSlicerScriptedLoadableModuleWidget | None:
        """Return the module's widget, made at the first call."""
        if self._widget is None:
            self._widget = qSlicerScriptedLoadableModuleWidget(self)
            self._widget.setMRMLScene(self._scene)
            self._widget.fill()
        return self._widget

    def has_widget(self) -> bool:
        return self._widget is not None


def load(path: Path, namespace: SimpleNamespace, scene: Any) -> ScriptedModule:
    """Import a scripted module's file and make its module object; its folder is on the path afterwards, as in Slicer."""
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    code = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = code
    spec.loader.exec_module(code)
    module = ScriptedModule(path, namespace, scene)
    setattr(namespace, path.stem.lower(), module)
    setattr(namespace, f"{path.stem}Instance", getattr(code, path.stem)(module))
    return module


def unload(module: ScriptedModule, manager: Any) -> None:
    """Say goodbye to a module's widget: leave it, cleanup(), delete it."""
    if module.has_widget():
        widget = module.widgetRepresentation()
        if widget.isEntered:
            widget.exit()
        manager.say_unloading(module.name)
        widget.setParent(None)
        widget.deleteLater()
