"""The one place where the panel meets the application around it: layout, dialogs, DICOM database, desktop. Tests replace it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import qt
import slicer

#: DICOM keyword -> tag, of what tells phases and patients apart.
DICOM_TAGS = {
    "AcquisitionDateTime": "0008,002a",
    "AcquisitionNumber": "0020,0012",
    "AcquisitionTime": "0008,0032",
    "ContrastBolusAgent": "0018,0010",
    "ContrastBolusRoute": "0018,1040",
    "ContrastBolusStartTime": "0018,1042",
    "ConvolutionKernel": "0018,1210",
    "FrameOfReferenceUID": "0020,0052",
    "ImageType": "0008,0008",
    "KVP": "0018,0060",
    "Modality": "0008,0060",
    "PatientBirthDate": "0010,0030",
    "PatientID": "0010,0020",
    "PatientName": "0010,0010",
    "ProtocolName": "0018,1030",
    "RescaleType": "0028,1054",
    "SeriesDescription": "0008,103e",
    "SeriesNumber": "0020,0011",
    "StudyDate": "0008,0020",
    "StudyInstanceUID": "0020,000d",
}


def value_of(attribute: Any) -> Any:
    """Return a widget's property, which PythonQt gives as a value and PySide6 as a method."""
    return attribute() if callable(attribute) else attribute


class Application:
    """Speak with the application. Everything here survives the lack of a main window."""

    def __init__(self, parent: Any) -> None:
        self._parent = parent
        #: What is to be called, one a turn of the event loop.
        self._due: deque[Callable[[], None]] = deque()

    # time ---------------------------------------------------------------------------------------------------------------------

    def later(self, milliseconds: int, call: Callable[[], None]) -> None:
        """Call a function when the event loop is back, after this many ms."""
        qt.QTimer.singleShot(milliseconds, call)

    def in_turn(self, call: Callable[[], None]) -> None:
        """Call a function when the event loop is back, each in a turn of its own: what draws all views anew holds up the mouse enough."""
        self._due.append(call)
        if len(self._due) == 1:
            qt.QTimer.singleShot(0, self._next)

    def _next(self) -> None:
        try:
            self._due[0]()
        finally:
            self._due.popleft()
            if self._due:
                qt.QTimer.singleShot(0, self._next)

    # layout -------------------------------------------------------------------------------------------------------------------

    def layout_node(self) -> Any | None:
        manager = slicer.app.layoutManager()
        return None if manager is None else manager.layoutLogic().GetLayoutNode()

    def layout(self) -> int | None:
        """Return the layout that is shown; None without a main window."""
        node = self.layout_node()
        return None if node is None else node.GetViewArrangement()

    def set_layout(self, layout: int) -> None:
        manager = slicer.app.layoutManager()
        if manager is not None:
            manager.setLayout(layout)

    def widen_view_labels(self, views: Sequence[str]) -> None:
        """Let the labels of slice views be seen whole: in a narrow view the application leaves room for two letters only."""
        manager = slicer.app.layoutManager()
        for view in views if manager is not None else ():
            widget = manager.sliceWidget(view)
            for label in slicer.util.findChildren(widget, name="ViewLabel") if widget is not None else ():
                label.setMinimumWidth(value_of(label.sizeHint).width())

    def colors_logic(self) -> Any | None:
        module = getattr(slicer.modules, "colors", None)
        return None if module is None else module.logic()

    # dialogs ------------------------------------------------------------------------------------------------------------------

    def ask(self, question: str) -> bool:
        """Ask for a yes; in the application's testing mode nobody is asked."""
        return bool(slicer.util.confirmOkCancelDisplay(question, windowTitle="PediatricLiverDx"))

    def choose_folder(self, title: str, start: str = "") -> Path | None:
        """Ask for a folder; None where the user changed their mind."""
        chosen = qt.QFileDialog.getExistingDirectory(self._parent, title, start)
        return Path(chosen) if chosen else None

    def open(self, path: Path) -> bool:
        """Open a file or folder with the desktop's own program; says whether there is one."""
        return bool(qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(path))))

    def open_save_dialog(self) -> None:
        """Open the application's own dialog for saving the scene."""
        slicer.util.openSaveDataDialog()

    # DICOM --------------------------------------------------------------------------------------------------------------------

    def tags_of(self, volume: Any) -> Mapping[str, str]:
        """Return the DICOM values that tell phases and patients apart, keyword -> text; none for a volume that is not from the database."""
        instances = (volume.GetAttribute("DICOM.instanceUIDs") or "").split()
        database = getattr(slicer, "dicomDatabase", None)
        if not instances or database is None:
            return {}
        try:
            file = database.fileForInstance(instances[0])
            values = {keyword: str(database.fileValue(file, tag) or "") for keyword, tag in DICOM_TAGS.items()} if file else {}
        except (RuntimeError, AttributeError, ValueError):
            # a database that was closed or moved away: the volume's name has to do
            return {}
        return {keyword: value.strip() for keyword, value in values.items() if value.strip()}
