"""Pictures of the panel at work on the sample case, for README and tutorial."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PySide6 import QtGui, QtWidgets

from .host import Host

#: Of the window: the whole panel without scrolling, and still readable at the width of a README.
SIZE = (1660, 1140)


def dark_palette() -> QtGui.QPalette:
    """Return colours like those of Slicer's dark style (Base/QTApp, qSlicerStyle's dark palette)."""
    palette = QtGui.QPalette()
    roles = QtGui.QPalette
    for role, color in (
        (roles.Window, "#353535"),
        (roles.WindowText, "#ffffff"),
        (roles.Base, "#2a2a2a"),
        (roles.AlternateBase, "#353535"),
        (roles.ToolTipBase, "#353535"),
        (roles.ToolTipText, "#ffffff"),
        (roles.Text, "#ffffff"),
        (roles.Button, "#404040"),
        (roles.ButtonText, "#ffffff"),
        (roles.Highlight, "#2a82da"),
        (roles.HighlightedText, "#ffffff"),
        (roles.PlaceholderText, "#a0a0a0"),
        (roles.Link, "#5aa9ff"),
    ):
        palette.setColor(role, QtGui.QColor(color))
    for role in (roles.WindowText, roles.Text, roles.ButtonText):
        palette.setColor(roles.Disabled, role, QtGui.QColor("#808080"))
    return palette


class Stage:
    """The window with the module in it, for whoever tells the story.

    host: the running host. widget: the module's widget (PediatricLiverDxWidget).
    """

    def __init__(self, host: Host, widget: Any, folder: Path) -> None:
        self.host, self.widget, self._folder = host, widget, Path(folder)
        self.files: list[Path] = []

    def take(self, name: str, part: QtWidgets.QWidget | None = None) -> Path:
        """Write <name>.png: the window as it is now, or one widget of it."""
        self.files.append(self.host.picture(self._folder / f"{name}.png", part))
        return self.files[-1]

    def wait(self, until: Callable[[], Any], seconds: float = 60.0) -> None:
        if not self.host.wait(until, seconds):
            raise TimeoutError("the panel did not get there")


def write_pictures(module: Path, folder: Path, *, dark: bool = False) -> list[Path]:
    """Tell the tutorial's story on the sample case and write a picture at every step; the story is the panel's own, if it brings one."""
    with Host(size=SIZE) as host:
        import SampleData
        import slicer

        if dark:
            host.app.setPalette(dark_palette())
        try:
            name = host.load(module).name
            slicer.util.selectModule(name)
            stage = Stage(host, slicer.util.getModuleWidget(name), folder)
            for step in _story(stage, SampleData):
                stage.take(step)
        finally:
            host.app.setPalette(host.app.style().standardPalette())
    return stage.files


def _story(stage: Stage, sample_data: Any) -> Iterator[str]:
    """Do one step after the other and name the picture of each."""
    from PediatricLiverDxLib import sample_case

    ui, session, turn = stage.widget.ui, stage.widget.logic.session, stage.host.turn
    sample_case.load(sample_data)
    ui.assignButton.click()
    turn(0.2)
    yield "phases"
    ui.runButton.click()
    stage.wait(lambda: session.fraction > 0.4)
    yield "running"
    stage.wait(lambda: not session.is_busy)
    turn(0.3)
    yield "result"
    roi = session.exam.rois()[0]
    center = [0.0] * 3
    roi.GetCenterWorld(center)
    roi.SetCenterWorld(center[0] + 12, center[1], center[2])
    # until it counts as let go of, and can be undone
    turn(1.0)
    yield "corrected"
