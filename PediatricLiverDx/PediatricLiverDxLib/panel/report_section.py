"""The report and where results are saved. Until the radiologist saves, everything stays in the worker's private folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from ..outputs import REPORT


class ReportSection:
    """Let the radiologist read the report and keep the results."""

    def __init__(self, panel: Any) -> None:
        self._panel, self._ui = panel, panel.ui
        #: Which result was written as a report, and where it is.
        self._report: tuple[tuple, Path] | None = None
        #: Which result was saved.
        self._saved: tuple | None = None
        self._ui.openReportButton.clicked.connect(self._open_report)
        self._ui.openFolderButton.clicked.connect(self._open_folder)
        self._ui.saveResultsButton.clicked.connect(self._save_results)
        self._ui.saveSceneButton.clicked.connect(self._save_scene)

    def refresh(self) -> None:
        session = self._panel.session
        there = self._panel.diagnosis() is not None
        changed = self._what_changed() if there else ""
        ready = there and not session.is_busy and not changed
        folder = self._folder()
        self._ui.openReportButton.setEnabled(ready)
        self._ui.saveResultsButton.setEnabled(ready)
        self._ui.saveSceneButton.setEnabled(there)
        self._ui.openFolderButton.setEnabled(folder is not None and folder.is_dir())
        texts = (changed, self._saved_text(folder, there), self._report_text() if there else "")
        self._ui.savedLabel.setText(" ".join(text for text in texts if text))

    def _result(self) -> tuple:
        """Return what tells the present result from others: of which exam it is, and how many there were."""
        return self._panel.session.exam.id, self._panel.session.results

    def _what_changed(self) -> str:
        """Say why the report would not be of the result that is seen; empty where it would."""
        exam = self._panel.session.exam
        if exam.is_outdated():
            return _("Diagnose first: the phases or the model changed.")
        if any(exam.row_of(roi).fresh != "fresh" for roi in exam.included_rois()):
            return _("Diagnose first: a box was changed.")
        return ""

    def _saved_text(self, folder: Path | None, there: bool) -> str:
        if folder is None:
            return _("Not saved yet.") if there else _("There is no result yet.")
        text = _("Saved in {folder}.").format(folder=folder)
        if self._saved is not None and self._saved != self._result():
            text += " " + _("The result changed since then.")
        return text

    def _report_text(self) -> str:
        """Say where the report is that was opened: whether a program showed it, the system does not tell."""
        result, path = self._report or (None, None)
        if path is None or path.parent == self._folder() or result != self._result() or not path.is_file():
            return ""
        return _("The report is {path}; it goes when Slicer is closed, save the results to keep it.").format(path=path)

    def _folder(self) -> Path | None:
        parameters = self._panel.parameters
        return Path(parameters.output) if parameters is not None and parameters.output else None

    def _open_report(self, *arguments: Any) -> None:
        if self._report and self._report[0] == self._result() and self._report[1].is_file():
            self._show_report(self._report[1])
        else:
            # written from what the worker still has in memory: a second at most
            self._panel.diagnose(report=True, on_done=self._written)

    def _written(self, folder: Path) -> None:
        self._report = (self._result(), folder / REPORT)
        self._show_report(folder / REPORT)

    def _show_report(self, path: Path) -> None:
        if not self._panel.application.open(path):
            text = _("No program for web pages was found. Open the report yourself: {path}").format(path=path)
            self._panel.session.say(text, problem=True)
        self._panel.refresh_soon()

    def _open_folder(self, *arguments: Any) -> None:
        folder = self._folder()
        if folder is not None and not self._panel.application.open(folder):
            self._panel.session.say(_("The folder cannot be opened: {folder}.").format(folder=folder), problem=True)

    def _save_results(self, *arguments: Any) -> None:
        folder = self._folder()
        chosen = self._panel.application.choose_folder(_("Folder for the results"), str(folder or ""))
        if chosen is not None:
            self.save(chosen)

    def save(self, folder: Path) -> None:
        """Write report, result.json, heat maps and ROIs into a folder."""
        self._panel.diagnose(output=folder, report=True, on_done=self._kept)

    def _kept(self, folder: Path) -> None:
        self._saved = self._result()
        self._report = (self._saved, folder / REPORT)
        if self._panel.parameters is not None:
            self._panel.parameters.output = str(folder)
        self._panel.session.say(_("Saved."))

    def _save_scene(self, *arguments: Any) -> None:
        self._panel.application.open_save_dialog()
