"""Which model is used, whom it is for, whether its files are intact; and what has to be installed to run it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from .. import wording
from ..bundle import MODEL_CARD
from ..vocabulary import InputError
from .bundle_check import BundleState, check_bundle


class ModelSection:
    """Say what the results come from."""

    def __init__(self, panel: Any) -> None:
        self._panel, self._ui = panel, panel.ui
        self.state = BundleState()
        self._folder: str | None = None
        self._checking: Any | None = None
        self._card: Any | None = None
        # of the stripe alone: labels below a style sheet keep their colours when the application turns dark or light
        self._ui.warningStripe.setStyleSheet("background-color: #D55E00;")
        self._ui.researchLabel.setText(wording.RESEARCH_ONLY)
        self._ui.bundleCardButton.clicked.connect(self._show_card)
        self._ui.chooseBundleButton.clicked.connect(self._choose)
        self._ui.shippedBundleButton.clicked.connect(self._use_shipped)
        self._ui.installFolderButton.clicked.connect(self._install)

    def refresh(self) -> None:
        parameters, busy = self._panel.parameters, self._panel.session.is_busy
        folder = parameters.bundle if parameters is not None else ""
        if folder != self._folder:
            self._folder = folder
            self._checking = check_bundle(folder)
            self._step(self._checking)
        state, info = self.state, self.state.info
        self._ui.warningLabel.setText(f"<b>{_('Trained on computer-made phantoms only, never on a patient.')}</b>")
        self._ui.warningLabel.setVisible(state.is_phantom_only)
        self._ui.bundleName.setText(f"<b>{info.name} {info.version}</b>" if info else "")
        self._ui.bundleName.setVisible(info is not None)
        self._ui.bundleUse.setText(info.intended_use if info else "")
        self._ui.bundleUse.setVisible(info is not None)
        self._ui.bundleState.setText(f"⚠ {state.text}" if state.problem else state.text)
        self._ui.bundleFolder.setText(_("Folder: {folder}").format(folder=folder))
        self._ui.bundleFolder.setVisible(bool(folder))
        self._ui.bundleCardButton.setEnabled(info is not None)
        self._ui.chooseBundleButton.setEnabled(not busy and parameters is not None)
        self._ui.shippedBundleButton.setVisible(bool(folder))
        self._ui.shippedBundleButton.setEnabled(not busy)
        complete = self._panel.installation.is_complete()
        self._ui.installFolderButton.setVisible(not complete)
        self._ui.installFolderButton.setEnabled(not busy)
        self._ui.installLabel.setText(_("ONNX Runtime, which the model needs, is not installed yet; Diagnose asks before installing it."))
        self._ui.installLabel.setVisible(not complete)

    def stop(self) -> None:
        self._checking = None
        if self._card is not None:
            self._card.deleteLater()
            self._card = None

    def _step(self, checking: Any) -> None:
        """Go one step on with checking the files, unless another model was chosen meanwhile."""
        if checking is not self._checking:
            return
        state = next(checking, None)
        if state is None:
            self._checking = None
            return
        changed = state != self.state
        self.state = state
        if changed:
            self._panel.refresh_soon()
        self._panel.application.later(1, lambda: self._step(checking))

    def _show_card(self, *arguments: Any) -> None:
        folder = self.state.folder
        try:
            text = (folder / MODEL_CARD).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            text = _("This model has no card. It says of itself: {use}").format(use=self.state.info.intended_use)
        if self._card is None:
            self._card = qt.QDialog(self._panel.widget)
            self._card.setWindowTitle(_("About this model"))
            self._card.resize(720, 640)
            layout = qt.QVBoxLayout(self._card)
            browser = qt.QTextBrowser(self._card)
            browser.setObjectName("card")
            layout.addWidget(browser)
            self._card_text = browser
        self._card_text.setMarkdown(text)
        self._card.show()

    def _choose(self, *arguments: Any) -> None:
        folder = self._panel.application.choose_folder(_("Folder of the model"), self._folder or "")
        if folder is not None:
            self._panel.parameters.bundle = str(folder)
            self._panel.refresh_soon()

    def _use_shipped(self, *arguments: Any) -> None:
        self._panel.parameters.bundle = ""
        self._panel.refresh_soon()

    def _install(self, *arguments: Any) -> None:
        folder = self._panel.application.choose_folder(_("Folder with the installation files"))
        if folder is None:
            return
        try:
            self._panel.installation.use_folder(Path(folder))
        except InputError as error:
            self._panel.session.say(str(error), problem=True)
        else:
            self._panel.session.say(_("Installed."))
        self._panel.refresh()
