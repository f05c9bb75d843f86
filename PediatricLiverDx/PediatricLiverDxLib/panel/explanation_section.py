"""Why the chosen lesion was judged so: the heat map over the images, the chart of the phases, and a sentence for each question."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from .. import exam_views, wording

_STAGES = ("stage1", "stage2")


class ExplanationSection:
    """Show what the result of the chosen lesion rests on."""

    def __init__(self, panel: Any) -> None:
        self._panel, self._ui = panel, panel.ui
        #: What the views show, so that they are only touched when that changes.
        self._shown: tuple = ()
        self._ui.chartComboBox.currentIndexChanged.connect(self._chart_chosen)

    def refresh(self) -> None:
        roi, lesion = self._panel.selected_lesion()
        for control in (self._ui.camCheckBox, self._ui.opacitySlider, self._ui.thresholdSlider, self._ui.chartComboBox):
            control.setEnabled(lesion is not None)
        if lesion is None:
            nothing = _("Nothing to explain yet: diagnose first.")
            self._ui.camLabel.setText(nothing if roi is None else _("This lesion was not diagnosed yet."))
        else:
            self._ui.camLabel.setText(self._cam_text(roi, lesion))
        for stage, label in zip(_STAGES, (self._ui.stage1Label, self._ui.stage2Label), strict=True):
            shapley = lesion.phase_shapley.get(stage) if lesion else None
            label.setText(f"{_title(stage)} {wording.contribution(shapley)}" if shapley else "")
            label.setVisible(shapley is not None)
        self._show(roi if lesion else None)

    def forget_views(self) -> None:
        """Show everything anew at the next refresh: the views were changed by others."""
        self._shown = ()

    def _cam_text(self, roi: Any, lesion: Any) -> str:
        text = _("Bright areas speak for {outcome} in {lesion}; they do not outline the tumour.").format(
            outcome=wording.noun(wording.side_of(lesion)), lesion=wording.lesion_name(lesion)
        )
        if self._panel.session.exam.is_stale(roi):
            text += " " + _("They belong to the ROI before it was changed.")
        return text

    def _show(self, roi: Any | None) -> None:
        """Bring heat map and chart into the views, where they are not yet."""
        parameters, exam, scene = self._panel.parameters, self._panel.session.exam, self._panel.scene
        if parameters is None or exam is None or not self._panel.views.are_shown:
            return
        cam = exam.cam_node(roi) if roi is not None else None
        visible = bool(parameters.camVisible) and cam is not None
        chart = self._chart(roi)
        shown = tuple(node.GetID() if node is not None else "" for node in (cam, chart))
        look = (visible, parameters.camOpacity, parameters.camThreshold)
        if self._shown[:1] != (shown,):
            exam_views.show_overlay(scene, cam, parameters.camOpacity, parameters.camThreshold)
            exam_views.show_chart(scene, chart)
        if self._shown != (shown, look):
            exam_views.set_overlay(scene, *look)
            self._shown = (shown, look)

    def _chart(self, roi: Any | None) -> Any | None:
        if roi is None:
            return None
        index = max(0, self._panel.value_of(self._ui.chartComboBox.currentIndex))
        return self._panel.session.exam.chart_nodes(roi).get(_STAGES[index])

    def _chart_chosen(self, *arguments: Any) -> None:
        self._panel.refresh_soon()


def _title(stage: str) -> str:
    return f"<b>{_('Benign or malignant:')}</b>" if stage == "stage1" else f"<b>{_('Type of tumour:')}</b>"
