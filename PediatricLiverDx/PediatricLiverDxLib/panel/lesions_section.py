"""The table of lesions, one row an ROI: click to see it in all views, untick to leave it out, add and remove ROIs."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

from .. import wording
from ..colours import SIDES
from .application import value_of

#: Rows that are seen without scrolling.
_ROWS_SHOWN = 5

_LESION, _RESULT, _STATE = range(3)


class LesionsSection:
    """Let the radiologist choose, correct and leave out lesions."""

    def __init__(self, panel: Any) -> None:
        self._panel, self._ui = panel, panel.ui
        #: ID of the ROI of each row.
        self._rows: list[str] = []
        #: Whether the table is being filled, so that its signals mean nothing.
        self._filling = False
        table = self._table = self._ui.lesionTable
        table.horizontalHeader().setSectionResizeMode(_LESION, qt.QHeaderView.ResizeToContents)
        table.horizontalHeader().setSectionResizeMode(_RESULT, qt.QHeaderView.Stretch)
        table.horizontalHeader().setSectionResizeMode(_STATE, qt.QHeaderView.ResizeToContents)
        table.setIconSize(qt.QSize(10, 10))
        table.setHorizontalHeaderLabels([_("Lesion"), _("Result"), _("State")])
        table.itemChanged.connect(self._ticked)
        table.itemSelectionChanged.connect(self._selected)
        table.cellClicked.connect(self._clicked)
        self._ui.addRoiButton.clicked.connect(self._add)
        self._ui.removeRoiButton.clicked.connect(self._remove)
        self._ui.undoButton.clicked.connect(self._undo)

    def selected_roi(self) -> Any | None:
        """Return the ROI of the chosen row, of the first one where none is chosen, None without rows."""
        rois = self._rois()
        chosen = self._panel.parameters.selectedLesion if self._panel.parameters else ""
        return next((roi for roi in rois if roi.GetID() == chosen), rois[0] if rois else None)

    def refresh(self) -> None:
        rois = self._rois()
        self._filling = True
        try:
            self._fill(rois)
        finally:
            self._filling = False
        # the top of the panel may be scrolled away while results are read
        self._ui.lesionWarning.setVisible(bool(rois) and self._panel.model.state.is_phantom_only)
        self._ui.lesionWarning.setText(_("From a model that never saw a patient."))
        self._ui.noLesionLabel.setVisible(not rois)
        self._table.setVisible(bool(rois))
        diagnosis = self._panel.diagnosis()
        nothing = _("Diagnose looks for lesions. You can also add an ROI yourself.")
        if diagnosis is not None and not diagnosis.lesions:
            outdated = self._panel.session.exam.is_outdated()
            nothing = _("The phases or the model changed. Diagnose again.") if outdated else wording.NO_LESION
        self._ui.noLesionLabel.setText(nothing)
        self._ui.addRoiButton.setEnabled(bool(self._panel.volumes()))
        self._table.setEnabled(not self._panel.session.is_busy or bool(rois))
        self.refresh_buttons()

    def refresh_buttons(self) -> None:
        """Let ROIs be removed and brought back, but not while a result is being shown: half of one would go with them."""
        session, history = self._panel.session, self._panel.history
        self._ui.removeRoiButton.setEnabled(bool(self._rois()) and not session.is_showing)
        step = history.next if history is not None else None
        self._ui.undoButton.setEnabled(step is not None and not session.is_busy)
        self._ui.undoButton.setToolTip(_undo_tip(step))

    def _rois(self) -> list[Any]:
        exam = self._panel.session.exam
        return list(exam.rois()) if exam is not None else []

    def _fill(self, rois: list[Any]) -> None:
        table = self._table
        ids = [roi.GetID() for roi in rois]
        if ids != self._rows:
            self._rows = ids
            table.setRowCount(0)
            table.setRowCount(len(ids))
            for row in range(len(ids)):
                for column in range(3):
                    item = qt.QTableWidgetItem("")
                    item.setFlags(qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled)
                    table.setItem(row, column, item)
                table.item(row, _LESION).setFlags(qt.Qt.ItemIsSelectable | qt.Qt.ItemIsEnabled | qt.Qt.ItemIsUserCheckable)
        changed = False
        for row, roi in enumerate(rois):
            changed |= self._fill_row(row, self._panel.session.exam.row_of(roi))
        selected = self.selected_roi()
        if selected is not None:
            table.setCurrentCell(ids.index(selected.GetID()), _RESULT)
        if changed:
            self._fit_height(len(ids))

    def _fill_row(self, row: int, lesion: Any) -> bool:
        """Write what changed of a row; says whether anything did."""
        table = self._table
        results = [text[0].upper() + text[1:] for text in (lesion.side_text, lesion.subtype_text) if text]
        texts = {
            _LESION: "\n".join(text for text in (lesion.name, lesion.size_text.replace(" × ", "×")) if text),
            _RESULT: "\n".join(results) or _("not diagnosed yet"),
            _STATE: {"fresh": _("Up to\ndate"), "stale": _("Changed"), "new": _("New")}[lesion.fresh],
        }
        tip = {
            "fresh": _("The result belongs to this ROI as it is."),
            "stale": _("The ROI or the phases changed since the diagnosis. Diagnose again."),
            "new": _("This ROI was not diagnosed yet."),
        }[lesion.fresh]
        # in a narrow panel the words are cut
        tips = {_LESION: _("Untick to leave this lesion out."), _RESULT: "\n".join([*results, tip]), _STATE: tip}
        state = qt.Qt.Checked if lesion.include else qt.Qt.Unchecked
        key = repr((texts, lesion.fresh, lesion.include))
        if table.item(row, _STATE).data(qt.Qt.UserRole) == key:
            return False
        table.item(row, _STATE).setData(qt.Qt.UserRole, key)
        for column, text in texts.items():
            item = table.item(row, column)
            item.setText(text)
            item.setToolTip(tips[column])
            font = qt.QFont(value_of(table.font))
            # a result that no longer holds steps back
            font.setItalic(lesion.fresh == "stale" and column != _LESION)
            font.setBold(lesion.fresh == "stale" and column == _STATE)
            item.setFont(font)
        side = next((side for side in SIDES if lesion.side_text.lower().startswith(side)), None)
        grey = qt.QColor(128, 128, 128) if side else None
        colour = qt.QColor(*SIDES[side]) if side and lesion.fresh == "fresh" else grey
        table.item(row, _RESULT).setData(qt.Qt.DecorationRole, colour)
        table.item(row, _LESION).setCheckState(state)
        return True

    def _fit_height(self, rows: int) -> None:
        table = self._table
        # two lines of text; asking the table would need columns that are laid out already
        row_height = 2 * qt.QFontMetrics(value_of(table.font)).lineSpacing() + 8
        for row in range(rows):
            table.setRowHeight(row, row_height)
        header = max(value_of(table.horizontalHeader().height), row_height // 2)
        height = header + min(rows, _ROWS_SHOWN) * row_height + 2 * value_of(table.frameWidth) + 2
        table.setMinimumHeight(height)
        table.setMaximumHeight(height)

    # what the user does -------------------------------------------------------------------------------------------------------

    def _roi_of(self, row: int) -> Any | None:
        rois = {roi.GetID(): roi for roi in self._rois()}
        return rois.get(self._rows[row]) if 0 <= row < len(self._rows) else None

    def _ticked(self, item: Any, *arguments: Any) -> None:
        if self._filling or item is None or item.column() != _LESION:
            return
        roi = self._roi_of(item.row())
        if roi is not None:
            self._panel.session.exam.set_included(roi, item.checkState() == qt.Qt.Checked)
            self._panel.refresh_soon()

    def _selected(self, *arguments: Any) -> None:
        if not self._filling:
            self._choose(self._table.currentRow())

    def _clicked(self, row: int, *arguments: Any) -> None:
        self._choose(row)

    def _choose(self, row: int) -> None:
        roi = self._roi_of(row)
        if roi is not None:
            self._panel.show_lesion(roi)

    def _add(self, *arguments: Any) -> None:
        roi = self._panel.add_roi()
        if roi is not None:
            self._panel.show_lesion(roi, jump=False)

    def _remove(self, *arguments: Any) -> None:
        roi = self.selected_roi()
        if roi is None or self._panel.history is None or self._panel.session.is_showing:
            return
        name = roi.GetName()
        is_kept = self._panel.history.remove(roi)
        self._panel.refresh_soon()
        text = (_("{lesion} was removed. Undo brings it back.") if is_kept else _("{lesion} was removed.")).format(lesion=name)
        # after what is said of any ROI that is removed
        self._panel.application.later(0, lambda: self._panel.session.say(text))

    def _undo(self, *arguments: Any) -> None:
        if self._panel.history is None or self._panel.session.is_showing:
            return
        roi = self._panel.history.undo()
        if roi is not None:
            self._panel.session.say("")
            self._panel.show_lesion(roi)
        self._panel.refresh_soon()


def _undo_tip(step: tuple[str, str] | None) -> str:
    if step is None:
        return _("Take back what was done to the ROIs last.")
    what, lesion = step
    tips = {
        "move": _("Put the ROI of {lesion} back to where it was."), "bring": _("Bring {lesion} back."),
        "take": _("Take {lesion} away again."),
    }
    return tips[what].format(lesion=lesion)
