"""The button that starts and cancels, how far it is, one line on how it went, and whether the result can be trusted."""

from __future__ import annotations

from html import escape
from typing import Any

from slicer.i18n import tr as _

from .. import wording
from .application import value_of
from .run import Step

#: Frame colour of a verdict: readable on light and dark backgrounds, and never the only sign.
_VERDICT_COLOURS = {"trust": "#009E73", "look": "#E69F00", "do not trust": "#D55E00"}

#: Reasons that are seen at once, so that the lesions below stay in sight; the others are a click away.
_REASONS_SHOWN = 1


class DiagnoseSection:
    """Let the radiologist start, watch and stop a run."""

    def __init__(self, panel: Any) -> None:
        self._panel, self._ui = panel, panel.ui
        self._verdict: str | None = None
        self._all_reasons = False
        #: Percent and text as they are shown.
        self._shown: tuple[int, str] = (0, "")
        # a bar that comes and goes would move everything below it, also for the fraction of a second of a correction
        policy = value_of(self._ui.progressBar.sizePolicy)
        policy.setRetainSizeWhenHidden(True)
        self._ui.progressBar.setSizePolicy(policy)
        self._ui.gateReasons.linkActivated.connect(self._more_clicked)
        self._ui.runButton.clicked.connect(self._run_clicked)
        self._ui.detectButton.clicked.connect(self._detect_clicked)

    def _run_clicked(self, *arguments: Any) -> None:
        if self._panel.session.is_busy:
            self._panel.session.cancel()
        else:
            self._panel.diagnose()

    def _detect_clicked(self, *arguments: Any) -> None:
        self._panel.detect()

    def _more_clicked(self, *arguments: Any) -> None:
        self._all_reasons = True
        self.refresh()

    def refresh(self) -> None:
        session = self._panel.session
        busy = session.is_busy
        # "Cancel" stays where "Diagnose" was: the same place of the mouse
        self._ui.runButton.setText(_("Cancel") if busy else _("Diagnose"))
        self._ui.runButton.setEnabled(session.step is not Step.CANCELLING)
        tip = _("Stop what is running.") if busy else _("Diagnose every included lesion; look for lesions first where there are none.")
        self._ui.runButton.setToolTip(tip)
        self._ui.detectButton.setEnabled(not busy)
        self._ui.progressBar.setVisible(busy)
        self._ui.statusLabel.setVisible(bool(session.status.text))
        self.refresh_progress()
        self._show_gate(None if busy else self._panel.diagnosis())

    def refresh_progress(self) -> None:
        """Show how far the run is; many times a second."""
        shown = (round(100 * self._panel.session.fraction), self._status())
        # a bar paints itself at once, and a new text lays the panel out anew
        if shown[0] != self._shown[0]:
            self._ui.progressBar.setValue(10 * shown[0])
        if shown[1] != self._shown[1]:
            self._ui.statusLabel.setText(shown[1])
        self._shown = shown

    def _status(self) -> str:
        session = self._panel.session
        text = session.status.text
        text = text[:1].upper() + text[1:]
        if not session.is_busy:
            return f"⚠ {text}" if session.status.problem else text
        if session.seconds_left is None or session.step is not Step.RUNNING:
            return f"{text}…"
        seconds = max(1, round(session.seconds_left))
        left = _("about {n} s left").format(n=seconds) if seconds < 90 else _("about {n} min left").format(n=round(seconds / 60))
        return f"{text} · {left}"

    def _show_gate(self, diagnosis: Any) -> None:
        self._ui.gateFrame.setVisible(diagnosis is not None)
        if diagnosis is None:
            return
        gate = diagnosis.gate
        self._ui.gateTitle.setText(f"<b>{wording.GATE_TITLES[gate.verdict]}.</b>")
        said = [*gate.reasons, *diagnosis.warnings]
        shown = said if self._all_reasons or len(said) <= _REASONS_SHOWN else said[:_REASONS_SHOWN]
        lines = [escape(sentence) for sentence in shown]
        if len(shown) < len(said):
            lines[-1] += f' <a href="all">{_("{n} more").format(n=len(said) - len(shown))}</a>'
        self._ui.gateReasons.setText("<br>".join(f"• {line}" for line in lines))
        self._ui.gateReasons.setVisible(bool(said))
        if self._verdict != gate.verdict:
            self._verdict = gate.verdict
            self._ui.gateStripe.setStyleSheet(f"background-color: {_VERDICT_COLOURS[gate.verdict]};")
