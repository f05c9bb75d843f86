"""Why the chosen lesion was judged so: the heat map over the images, the chart of the phases, and a sentence for each question."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from .. import exam_views, wording
from ..vocabulary import CLASS_NAMES, OUTCOMES
from ..volume_nodes import is_empty_map

_STAGES = ("stage1", "stage2")

#: Letters in a line of the legend: more would lie over the liver.
_LEGEND_LETTERS = 14


class ExplanationSection:
    """Show what the result of the chosen lesion rests on."""

    def __init__(self, panel: Any) -> None:
        self._panel, self._ui = panel, panel.ui
        #: What the views show, so that they are only touched when that changes.
        self._shown: tuple = ()
        #: Whether the list of maps is being filled, so that its signal means nothing.
        self._filling = False
        self._ui.chartComboBox.currentIndexChanged.connect(self._chart_chosen)
        for name in (_("As diagnosed"), *(_outcome(of) for of in OUTCOMES)):
            self._ui.mapComboBox.addItem(name)
        self._ui.mapComboBox.currentIndexChanged.connect(self._map_chosen)

    def refresh(self) -> None:
        roi, lesion = self._panel.selected_lesion()
        for control in (self._ui.camCheckBox, self._ui.opacitySlider, self._ui.thresholdSlider, self._ui.chartComboBox):
            control.setEnabled(lesion is not None)
        self._ui.mapComboBox.setEnabled(lesion is not None and not self._panel.session.is_busy)
        of = self._map_for(roi, lesion)
        self._show_choice(lesion)
        if lesion is None:
            nothing = _("Nothing to explain yet: diagnose first.")
            self._ui.camLabel.setText(nothing if roi is None else _("This lesion was not diagnosed yet."))
        else:
            self._ui.camLabel.setText(self._cam_text(roi, lesion, of))
        for stage, label in zip(_STAGES, (self._ui.stage1Label, self._ui.stage2Label), strict=True):
            shapley = lesion.phase_shapley.get(stage) if lesion else None
            label.setText(f"{_title(stage)} {wording.contribution(shapley)}" if shapley else "")
            label.setVisible(shapley is not None)
        self._show(roi if lesion else None, of)

    def forget_views(self) -> None:
        """Show everything anew at the next refresh: the views were changed by others."""
        self._shown = ()

    # which map ----------------------------------------------------------------------------------------------------------------

    def _map_for(self, roi: Any, lesion: Any) -> str:
        """Return the outcome that the map in the views is for: the wish, once it is there; "" without a lesion."""
        if lesion is None:
            return ""
        side, wish = wording.side_of(lesion), self._wish()
        if not wish or self._panel.session.exam.cam_node(roi, wish) is not None:
            return wish or side
        if not self._panel.session.is_busy:
            if self._panel.session.is_warm and not self._panel.session.exam.is_outdated():
                self._panel.application.later(0, lambda: self._compute(roi, wish))
            else:
                # that would take long, and nobody asked for it just now
                self._forget_wish()
        return side

    def _wish(self) -> str:
        wish = self._panel.parameters.camFor if self._panel.parameters is not None else ""
        return wish if wish in OUTCOMES else ""

    def _forget_wish(self) -> None:
        if self._panel.parameters is not None:
            self._panel.parameters.camFor = ""

    def _map_chosen(self, index: int, *arguments: Any) -> None:
        if self._filling or self._panel.parameters is None:
            return
        wish = ("", *OUTCOMES)[max(0, index)]
        self._panel.parameters.camFor = wish
        roi, lesion = self._panel.selected_lesion()
        if wish and lesion is not None:
            self._compute(roi, wish)
        self._panel.refresh_soon()

    def _compute(self, roi: Any, of: str) -> None:
        """Have a map computed, unless it is there, another one is wanted by now, or something else runs."""
        session = self._panel.session
        if session.is_busy or self._wish() != of or roi.GetScene() is None or session.exam.cam_node(roi, of) is not None:
            return
        self._panel.compute_map(roi, of, on_failed=self._forget_wish)

    def _show_choice(self, lesion: Any) -> None:
        combo, wish = self._ui.mapComboBox, self._wish()
        side = _outcome(wording.side_of(lesion)) if lesion is not None else ""
        self._filling = True
        try:
            combo.setItemText(0, _("As diagnosed: {outcome}").format(outcome=side.lower()) if side else _("As diagnosed"))
            combo.setCurrentIndex(OUTCOMES.index(wish) + 1 if wish else 0)
        finally:
            self._filling = False

    def _cam_text(self, roi: Any, lesion: Any, of: str) -> str:
        name, side = wording.lesion_name(lesion), wording.side_of(lesion)
        scale = _("Each map has a scale of its own, and its brightest area may be in another slice.")
        if is_empty_map(self._panel.session.exam.cam_node(roi, of)):
            text = _("Nothing in {lesion} speaks for {outcome}.")
        elif of == side:
            text = _("Bright areas speak for {outcome} in {lesion}; they do not outline the tumour.")
        elif of in CLASS_NAMES:
            text = _("Bright areas speak for {outcome} ({percent}) rather than {other} in {lesion}.") + " " + scale
        else:
            text = _("Bright areas speak for {outcome} ({percent}) in {lesion}.") + " " + scale
        text = text.format(
            outcome=wording.noun(of), other=wording.noun(wording.opposite(of)), percent=wording.chance(lesion, of), lesion=name
        )
        if self._panel.session.exam.is_stale(roi):
            text += " " + _("They belong to the ROI before it was changed.")
        return text

    # the views ----------------------------------------------------------------------------------------------------------------

    def _show(self, roi: Any | None, of: str) -> None:
        """Bring heat map and chart into the views, where they are not yet."""
        parameters, exam, scene = self._panel.parameters, self._panel.session.exam, self._panel.scene
        if parameters is None or exam is None or not self._panel.views.are_shown:
            return
        cam = exam.cam_node(roi, of) if roi is not None else None
        visible = bool(parameters.camVisible) and cam is not None
        chart = self._chart(roi)
        shown = tuple(node.GetID() if node is not None else "" for node in (cam, chart))
        look = (visible, parameters.camOpacity, parameters.camThreshold)
        if self._shown[:1] != (shown,):
            self._shown = (shown, look)
            # each in a turn of the event loop of its own, as all views draw themselves anew
            steps = [
                lambda: exam_views.show_overlay(scene, cam, parameters.camOpacity, parameters.camThreshold),
                lambda: exam_views.show_chart(scene, chart),
                lambda: self._show_legend(cam, of),
            ]
            for step in steps:
                self._panel.application.in_turn(lambda step=step: self._show_step(shown, step, (cam, chart)))
        elif self._shown != (shown, look):
            self._shown = (shown, look)
            exam_views.set_overlay(scene, *look)

    def _show_step(self, shown: tuple, step: Callable[[], None], nodes: tuple) -> None:
        """Take a step unless something else is to be shown by now."""
        if self._shown[:1] == (shown,) and all(node is None or node.GetScene() is not None for node in nodes):
            step()

    def _show_legend(self, cam: Any | None, of: str) -> None:
        if cam is not None:
            title = [_("Heat map"), *textwrap.wrap(_outcome(of).lower(), _LEGEND_LETTERS)]
            exam_views.show_legend(self._panel.scene, cam, "\n".join(title))
        exam_views.set_overlay(self._panel.scene, *self._shown[1])

    def _chart(self, roi: Any | None) -> Any | None:
        if roi is None:
            return None
        index = max(0, self._panel.value_of(self._ui.chartComboBox.currentIndex))
        return self._panel.session.exam.chart_nodes(roi).get(_STAGES[index])

    def _chart_chosen(self, *arguments: Any) -> None:
        self._panel.refresh_soon()


def _outcome(of: str) -> str:
    """Return an outcome as it stands in the list."""
    names = {
        "malignant": _("Malignant"),
        "benign": _("Benign"),
        "HH": _("Hepatic hemangioma"),
        "OBHT": _("Other benign tumour"),
        "HB": _("Hepatoblastoma"),
        "OMHT": _("Other malignant tumour"),
    }
    return names[of]


def _title(stage: str) -> str:
    return f"<b>{_('Benign or malignant:')}</b>" if stage == "stage1" else f"<b>{_('Type of tumour:')}</b>"
