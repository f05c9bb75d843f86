"""A host: scene, application, main window, and slicer's names put in place; made fresh as often as wanted in one process."""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtWidgets

from . import ctk, i18n, modules, mrml, packages, parameter_node, qmrml, qt, sample_data, scripted_module
from .application import Application, start_qt
from .layout import LayoutManager
from .window import qSlicerMainWindow

#: Names under which Slicer's Python finds what is stood in for.
PYTHON_MODULES = {
    "qt": qt,
    "ctk": ctk,
    "SampleData": sample_data,
    "slicer.i18n": i18n,
    "slicer.packaging": packages,
    "slicer.parameterNodeWrapper": parameter_node,
    "slicer.ScriptedLoadableModule": scripted_module,
}
#: Classes of Slicer's own widgets, which Slicer puts into ``slicer``.
SLICER_CLASSES = (
    qmrml.qMRMLWidget,
    qmrml.qMRMLNodeComboBox,
    modules.qSlicerScriptedLoadableModuleWidget,
)


class Host:
    """Stand in for a running Slicer.

    Args:
        main_window: Without one there are no views and no module selector, as in Slicer's generic module tests.
        size: Of the window in pixels.
    """

    def __init__(self, main_window: bool = True, size: tuple[int, int] = (1600, 1000)) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="host-")
        self.folder = Path(self._temporary.name)
        for name in ("tmp", "settings"):
            (self.folder / name).mkdir()
        #: What went wrong in slots and observers, where nobody can catch it.
        self.errors: list[BaseException] = []
        self._hook = sys.excepthook
        sys.excepthook = self._note
        start_qt()
        QtCore.QSettings.setPath(QtCore.QSettings.IniFormat, QtCore.QSettings.UserScope, str(self.folder / "settings"))
        self._mrml = mrml.start(self.folder)
        self.modules = types.SimpleNamespace()
        self.app = Application(self._mrml, self.folder, self.modules)
        self._install()
        for name, logic in self._mrml.logics.items():
            setattr(self.modules, name.lower(), modules.CoreModule(name, logic))
        self.window: qSlicerMainWindow | None = None
        if main_window:
            self.window = qSlicerMainWindow(self.modules)
            self.window.resize(*size)
            self.layout = LayoutManager(self._mrml, self.window.viewport())
            self.app.has_window(self.layout)
            self.window.show()
        self._loaded: list[modules.ScriptedModule] = []

    def _install(self) -> None:
        for name, module in PYTHON_MODULES.items():
            sys.modules[name] = module
            if name.startswith("slicer."):
                setattr(slicer, name.removeprefix("slicer."), module)
        for kind in SLICER_CLASSES:
            setattr(slicer, kind.__name__, kind)
        slicer.qSlicerScriptedLoadableModule = modules.ScriptedModule
        ours = {"app": self.app, "modules": self.modules, "mrmlScene": self._mrml.scene, "dicomDatabase": None, "selfTests": {}}
        self._before = {name: getattr(slicer, name, None) for name in ours}
        vars(slicer).update(ours)
        packages.forget()

    def _note(self, kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
        self.errors.append(error)
        self._hook(kind, error, trace)

    # use -------------------------------------------------------------------------------------------------------------------

    def load(self, path: Path) -> modules.ScriptedModule:
        """Load a scripted module from its file, and say that the application has started."""
        module = modules.load(Path(path), self.modules, self._mrml.scene)
        self._loaded.append(module)
        self.app.startupCompleted.emit()
        return module

    def turn(self, seconds: float = 0.0) -> None:
        """Let the event loop turn for so long: once at least, and ten times where a time is given, on a machine that is held up as well."""
        end = time.monotonic() + seconds
        for rounds in itertools.count(1):
            self.app.processEvents()
            # deleteLater() waits for this, which Slicer's own event loop does
            self.app.sendPostedEvents(None, QtCore.QEvent.DeferredDelete)
            if time.monotonic() >= end and (seconds == 0 or rounds >= 10):
                return
            time.sleep(0.002)

    def wait(self, until: Callable[[], Any], seconds: float = 30.0) -> bool:
        """Let the event loop turn until something is so; says whether it came to be in time."""
        end = time.monotonic() + seconds
        while not until():
            if time.monotonic() > end:
                return False
            self.turn(0.02)
        return True

    def picture(self, path: Path, widget: QtWidgets.QWidget | None = None) -> Path:
        """Write the window, or one widget, as PNG, with every view drawn as it is now."""
        self.turn(0.05)
        self.layout.render_now()
        self.turn()
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not (widget or self.window).grab().save(str(path)):
            raise OSError(f"{path} cannot be written")
        return path

    def close(self) -> None:
        """End the modules, the views and the scene, as closing Slicer does."""
        for module in self._loaded:
            modules.unload(module, self.app.moduleManager())
            sys.modules.pop(module.name, None)
        if self.window is not None:
            self.layout.stop()
            self.app.has_window(None)
            self.window.close()
            self.window.deleteLater()
            self.window = None
        self.turn()
        self._mrml.stop()
        vars(slicer).update(self._before)
        sys.excepthook = self._hook
        self._temporary.cleanup()

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_arguments: object) -> None:
        self.close()
