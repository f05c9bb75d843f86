"""slicer.app: the Qt application with the members of qSlicerApplication that the module and slicer.util use."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from PySide6 import QtCore, QtWidgets

from .files import FileManager
from .layout import LayoutManager
from .mrml import Mrml


class ModuleManager:
    """Know the modules; tell a module's widget when it is about to be unloaded, which is connected by the signal's signature."""

    def __init__(self, modules: Any) -> None:
        self._modules = modules
        self._receivers: list[Callable[[str], None]] = []

    def connect(self, _signature: str, receiver: Callable[[str], None]) -> None:
        self._receivers.append(receiver)

    def disconnect(self, _signature: str, receiver: Callable[[str], None]) -> None:
        self._receivers.remove(receiver)

    def say_unloading(self, name: str) -> None:
        for receiver in list(self._receivers):
            receiver(name)

    def module(self, name: str) -> Any:
        return getattr(self._modules, name.lower(), None)

    def factoryManager(self) -> Any:
        return SimpleNamespace(loadedModuleNames=lambda: [one.name for one in vars(self._modules).values() if hasattr(one, "logic")])


class Application(QtCore.QObject):
    """slicer.app: what is not here is asked of the process's QApplication, which outlives it."""

    startupCompleted = QtCore.Signal()
    mrmlSceneChanged = QtCore.Signal(object)

    def __init__(self, mrml: Mrml, folder: Path, modules: Any) -> None:
        super().__init__()
        self._mrml, self._folder = mrml, folder
        self._files = FileManager(mrml)
        self._modules = ModuleManager(modules)
        self._layout: LayoutManager | None = None
        self._testing = True
        self._render_pauses = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(QtWidgets.QApplication.instance(), name)

    def has_window(self, layout: LayoutManager | None) -> None:
        self._layout = layout

    # what modules ask ------------------------------------------------------------------------------------------------------

    majorVersion, minorVersion = 5, 12
    applicationVersion = "5.12.4"
    revision = "host"
    applicationName = "Slicer"
    documentationBaseUrl = "https://slicer.readthedocs.io/en/latest/"

    @property
    def slicerHome(self) -> str:
        return str(self._folder)

    @property
    def temporaryPath(self) -> str:
        return str(self._folder / "tmp")

    @property
    def cachePath(self) -> str:
        return str(self._folder / "cache")

    def moduleDocumentationUrl(self, name: str) -> str:
        return f"{self.documentationBaseUrl}user_guide/modules/{name.lower()}.html"

    def mrmlScene(self) -> Any:
        return self._mrml.scene

    def applicationLogic(self) -> Any:
        return self._mrml.application_logic

    def layoutManager(self) -> LayoutManager | None:
        return self._layout

    def coreIOManager(self) -> FileManager:
        return self._files

    ioManager = coreIOManager

    def moduleManager(self) -> ModuleManager:
        return self._modules

    def commandOptions(self) -> Any:
        return SimpleNamespace(noMainWindow=self._layout is None, runPythonAndExit=False, testingEnabled=self._testing)

    def testingEnabled(self) -> bool:
        """In Slicer: --testing. No dialog of slicer.util waits for an answer then."""
        return self._testing

    def set_testing(self, testing: bool) -> None:
        self._testing = testing

    def settings(self) -> QtCore.QSettings:
        return QtCore.QSettings()

    userSettings = revisionUserSettings = settings

    def pauseRender(self) -> None:
        self._render_pauses += 1

    def resumeRender(self) -> None:
        self._render_pauses -= 1

    def setRenderPaused(self, paused: bool) -> None:
        self._render_pauses += 1 if paused else -1

    def restart(self) -> None:
        raise RuntimeError("Testing/host does not restart")


def _print_message(kind: QtCore.QtMsgType, _context: Any, text: str) -> None:
    # Qt's platform without a screen says this for every window
    if "propagateSizeHints" not in text:
        print(text, file=sys.stderr)


def start_qt() -> None:
    """Make the process's QApplication, unless there is one; its settings never reach those of the user."""
    QtCore.QSettings.setDefaultFormat(QtCore.QSettings.IniFormat)
    instance = QtWidgets.QApplication.instance() or QtWidgets.QApplication(sys.argv[:1])
    QtCore.qInstallMessageHandler(_print_message)
    instance.setStyle("Fusion")
    instance.setQuitOnLastWindowClosed(False)
