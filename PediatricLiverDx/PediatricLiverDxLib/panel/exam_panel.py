"""The panel as a whole: sections over one session, kept in step with the scene. The module's widget only hands events on to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from .. import exam_views
from ..diagnosis import Diagnosis, LesionDiagnosis
from ..exam_nodes import ExamNodes
from ..roi_history import RoiHistory
from .application import Application, value_of
from .diagnose_section import DiagnoseSection
from .exam_session import ExamSession
from .explanation_section import ExplanationSection
from .lesions_section import LesionsSection
from .model_section import ModelSection
from .parameters import ExamParameters
from .phases_section import PhasesSection
from .report_section import ReportSection
from .sight import bring_into_sight, is_in_sight
from .views import Views

#: ms after an ROI was changed by other means than the mouse, until "Update automatically" runs: numbers are typed one digit at a time.
_TYPING_MS = 600

#: ms that the panel has to lay itself out before it is looked at what is in sight.
_LAYOUT_MS = 50


class ExamPanel(VTKObservationMixin):
    """Show the exam and let the radiologist work on it.

    widget: the loaded form. ui: its children by name. session: what runs. installation: what the worker needs.
    """

    def __init__(self, widget: Any, ui: Any, session: ExamSession, installation: Any, application: Application) -> None:
        VTKObservationMixin.__init__(self)
        self.widget, self.ui, self.session, self.installation, self.application = widget, ui, session, installation, application
        self.scene = slicer.mrmlScene
        self.parameters: ExamParameters | None = None
        self.views = Views(application)
        self._gui_tag: Any | None = None
        self._is_alive = True
        self._refresh_is_due = self._tidying_is_due = self._roi_was_removed = False
        #: Whether lesions are being looked for, so that the views go to the first one in the end.
        self._is_looking = False
        #: ID of the ROI that the mouse is on.
        self._dragged: str | None = None
        #: What was done to the boxes of the present exam; None while there is none.
        self.history: RoiHistory | None = None
        #: Whether the phases were folded away to make room for a result.
        self._has_folded = False
        #: Whether an ROI changed that "Update automatically" has not seen yet; counts up with every change.
        self._changes = self._changes_seen = 0
        #: Counts up with every change of any box, to tell when the last one was.
        self._touches = 0
        #: Results that were there when it was looked last.
        self._results_seen = 0
        self._history_of = ""
        self._watched: dict[str, Any] = {}
        #: Which exam the status is about.
        self._told_of = ""
        self._views_came_with_scene = False
        self.phases = PhasesSection(self)
        self.sections = [
            self.phases,
            DiagnoseSection(self),
            LesionsSection(self),
            ExplanationSection(self),
            ReportSection(self),
            ModelSection(self),
        ]
        _phases, self.diagnosing, self.lesions, self.explanation, self.report, self.model = self.sections
        session.changed, session.progressed = self._session_changed, self._session_progressed
        scene = self.scene
        self.addObserver(scene, scene.StartCloseEvent, self._scene_closes)
        self.addObserver(scene, scene.EndCloseEvent, self._scene_closed)
        self.addObserver(scene, scene.EndImportEvent, self._scene_opened)
        self.addObserver(scene, scene.NodeAddedEvent, self._node_added)
        self.addObserver(scene, scene.NodeAboutToBeRemovedEvent, self._node_removed)
        self.phases.set_scene(scene)

    # what the sections ask for ------------------------------------------------------------------------------------------------

    value_of = staticmethod(value_of)

    @staticmethod
    def text_of(label: Any) -> str:
        return value_of(label.text)

    def volumes(self) -> dict[str, Any]:
        """Return phase -> volume, of the phases that have one."""
        return self.phases.volumes()

    def diagnosis(self) -> Diagnosis | None:
        return self.session.exam.diagnosis() if self.session.exam is not None else None

    def selected_lesion(self) -> tuple[Any | None, LesionDiagnosis | None]:
        """Return the ROI of the chosen row and what is known of it; None for what there is not."""
        roi = self.lesions.selected_roi()
        return roi, self.session.exam.lesion_of(roi) if roi is not None else None

    def diagnose(self, *, output: Path | None = None, report: bool = False, on_done: Callable[[Path], None] | None = None) -> None:
        """Diagnose the exam as it is chosen now."""
        self._changes_seen = self._changes
        volumes = self._prepared_volumes()
        self._is_looking = not self.lesions.selected_roi()
        self.session.diagnose(volumes, self._bundle(), output=output, report=report, on_done=on_done)

    def detect(self) -> None:
        """Look for lesions only."""
        volumes = self._prepared_volumes()
        self._is_looking = True
        self.session.detect(volumes, self._bundle())

    def compute_map(self, roi: Any, of: str, *, on_failed: Callable[[], None]) -> None:
        """Have the heat map of a lesion for another outcome computed; see ExamSession.map."""
        self.session.map(self.session.exam.diagnosed_phases(), self._bundle(), roi, of, on_failed=on_failed)

    def show_exam(self) -> None:
        """Show the chosen phases side by side."""
        volumes = self.volumes()
        if volumes and self.session.exam is not None:
            self.session.exam.set_phases(volumes)
            if self.views.show(self.scene, volumes):
                self.explanation.forget_views()

    def show_lesion(self, roi: Any, *, jump: bool = True) -> None:
        """Choose a lesion: its row, its explanation, and all views on it."""
        if not self._is_alive or roi.GetScene() is not self.scene:
            return  # it was removed meanwhile
        if self.parameters is not None:
            self.parameters.selectedLesion = roi.GetID()
        if jump and self.views.are_shown:
            center = [0.0] * 3
            roi.GetCenterWorld(center)
            exam_views.jump_to(self.scene, center)
        self.refresh_soon()

    def add_roi(self) -> Any | None:
        """Place a new ROI where the views are looking, of a size to be seen; None without an exam."""
        volumes = self.volumes()
        if self.session.exam is None or not volumes:
            return None
        self.show_exam()
        roi = self.session.exam.add_roi(self._looked_at(next(iter(volumes.values()))))
        self._watch()
        self.history.added(roi)
        return roi

    def refresh_soon(self) -> None:
        """Refresh when the event loop is back, once for everything that happens until then."""
        if not self._refresh_is_due:
            self._refresh_is_due = True
            self.application.later(0, self._refresh_now)

    def refresh(self) -> None:
        """Bring every section up to date with session, parameters and scene."""
        if not self._is_alive:
            return
        if self.session.is_showing:
            # half a result is nothing to be seen
            self.lesions.refresh_buttons()
            return
        self._take_choice()
        self._watch()
        self._show_phases()
        for section in self.sections:
            section.refresh()

    # entering and leaving -----------------------------------------------------------------------------------------------------

    def connect(self, parameters: ExamParameters | None) -> None:
        """Work with this parameter node from now on; None while there is none."""
        if self.parameters is not None:
            self.parameters.disconnectGui(self._gui_tag)
            self.removeObserver(self.parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._parameters_changed)
        self.parameters = parameters
        if parameters is not None:
            self._gui_tag = parameters.connectGui(self.ui)
            self.addObserver(parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self._parameters_changed)
            self.session.exam = ExamNodes.of(self.scene, parameters.parameterNode)
        else:
            self._gui_tag = self.session.exam = None
        self.history = None
        self.refresh()

    def enter(self) -> None:
        if self.views.come_back():
            self.explanation.forget_views()
        self.refresh()

    def exit(self) -> None:
        self.views.leave()

    def close(self) -> None:
        """End for good: nothing of it reacts any more. The session is stopped by its owner."""
        self._is_alive = False
        self.connect(None)
        self.session.changed = self.session.progressed = lambda: None
        self.model.stop()
        self.phases.stop_assigning()
        self.views.leave()
        self.removeObservers()

    # what happens -------------------------------------------------------------------------------------------------------------

    def _session_changed(self) -> None:
        if self._is_looking and not self.session.is_busy:
            self._is_looking = False
            first = self.lesions.selected_roi()
            if first is not None:
                # drawing all views anew takes a turn of its own
                self.application.in_turn(lambda: self.show_lesion(first))
                self.application.later(_LAYOUT_MS, self._show_table)
        self.refresh()
        if not self.session.is_busy:
            if self._tidying_is_due:
                self.refresh_soon()
            if self._results_seen != self.session.results:
                self._results_seen = self.session.results
                self._changes += self._moved_meanwhile()
            self._update_automatically()

    def _moved_meanwhile(self) -> bool:
        """Tell whether a box was moved while the result of what it was before came in."""
        exam = self.session.exam
        return exam is not None and not exam.is_outdated() and any(map(exam.is_stale, exam.included_rois()))

    def _session_progressed(self) -> None:
        if self._is_alive:
            self.diagnosing.refresh_progress()

    def _parameters_changed(self, *arguments: Any) -> None:
        self.refresh_soon()

    def _scene_closes(self, *arguments: Any) -> None:
        was_busy = self.session.is_busy
        self.session.abandon(_("The scene was closed, so the run was stopped."))
        self.phases.stop_assigning()
        self._unwatch()
        if self._has_folded:
            self._has_folded = False
            self.ui.phasesSection.setChecked(True)
        self.connect(None)
        if not was_busy:
            self.session.say("")  # it was of this scene

    def _scene_closed(self, *arguments: Any) -> None:
        self.views.forget()
        self.explanation.forget_views()
        self.reconnect()

    def _scene_opened(self, *arguments: Any) -> None:
        self.views.register()
        self.explanation.forget_views()
        self._views_came_with_scene = True
        self.reconnect()

    def reconnect(self) -> None:
        """Find the parameter node again; the widget sets this."""

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _node_added(self, caller: Any, event: Any, node: Any) -> None:
        if node is not None and (node.IsA("vtkMRMLMarkupsROINode") or node.IsA("vtkMRMLScalarVolumeNode")):
            self.refresh_soon()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _node_removed(self, caller: Any, event: Any, node: Any) -> None:
        if node is not None and node.GetID() in self._watched:
            self._unwatch_one(node.GetID())
            self.session.volume_removed(node)
            self.phases.volume_removed(node)
            # it is still in the scene now
            self._tidying_is_due = True
            self._roi_was_removed |= bool(node.IsA("vtkMRMLMarkupsROINode")) and not self.session.is_showing
            self.refresh_soon()

    def _watch(self) -> None:
        """Observe the ROIs and the phases' volumes that there are now."""
        exam = self.session.exam
        nodes = [*exam.rois(), *self.volumes().values()] if exam is not None else []
        if exam is not None:
            if self.history is None or self._history_of != exam.id:
                self.history, self._history_of = RoiHistory(exam), exam.id
            self.history.watch(exam.rois())
        wanted = {node.GetID(): node for node in nodes}
        for id in [id for id, node in self._watched.items() if wanted.get(id) is not node]:
            self._unwatch_one(id)
        for id, node in wanted.items():
            if id in self._watched:
                continue
            self._watched[id] = node
            if node.IsA("vtkMRMLMarkupsROINode"):
                for event in (vtk.vtkCommand.ModifiedEvent, node.PointModifiedEvent, node.TransformModifiedEvent):
                    self.addObserver(node, event, self._roi_changed)
                self.addObserver(node, node.PointStartInteractionEvent, self._drag_starts)
                self.addObserver(node, node.PointEndInteractionEvent, self._drag_ends)
            else:
                for event in (node.ImageDataModifiedEvent, node.TransformModifiedEvent, vtk.vtkCommand.ModifiedEvent):
                    self.addObserver(node, event, self._volume_changed)

    def _unwatch(self) -> None:
        for id in list(self._watched):
            self._unwatch_one(id)

    def _unwatch_one(self, id: str) -> None:
        node = self._watched.pop(id)
        if id == self._dragged:
            # nobody will tell that it was let go of
            self._dragged = None
        for obj, event, method, *_rest in self.Observations:
            if obj is node:
                self.removeObserver(obj, event, method)

    def _volume_changed(self, *arguments: Any) -> None:
        if self.session.exam is not None:
            self.session.exam.refresh_all()
        self.refresh_soon()

    def _roi_changed(self, roi: Any, *arguments: Any) -> None:
        if self.session.is_showing or self.session.exam is None:
            return
        self.refresh_soon()
        self.session.roi_changed(roi)
        self._touches += 1
        if self.session.exam.refresh(roi) == "stale":  # and not a new one, or one that is back where it was
            self._changes += 1
        if self._dragged is None:
            touches = self._touches
            self.application.later(_TYPING_MS, lambda: self._let_go() if touches == self._touches else None)

    def _drag_starts(self, roi: Any, *arguments: Any) -> None:
        self._dragged = roi.GetID()

    def _drag_ends(self, roi: Any, *arguments: Any) -> None:
        self._dragged = None
        # the markup itself hears of the end after this
        self.application.later(0, self._let_go)

    def _let_go(self) -> None:
        """Keep what was done to a box, now that nobody is at it any more."""
        if not self._is_alive or self.session.exam is None or self._dragged is not None:
            return
        if self.history is not None:
            self.history.settled(self.session.exam.rois())
            self.refresh_soon()
        self._update_automatically()

    def _update_automatically(self) -> None:
        """Diagnose again when an ROI was changed, is let go of, and nothing else runs."""
        if not self._is_alive or self.parameters is None or not self.parameters.updateAutomatically:
            return
        if self._dragged is None and self._changes != self._changes_seen and not self.session.is_busy and self.diagnosis() is not None:
            self.diagnose()

    def _refresh_now(self) -> None:
        self._refresh_is_due = False
        if self.session.is_showing:
            return
        if self._tidying_is_due and self._is_alive and self.session.exam is not None:
            self._tidying_is_due = False
            had_result = self.diagnosis() is not None
            self.session.exam.tidy()
            # one that went with its last lesion is not to be told any more
            if self._roi_was_removed or (had_result and self.diagnosis() is None):
                self.session.roi_removed()
            self._roi_was_removed = False
        self.refresh()

    def _show_table(self) -> None:
        """Make the table of lesions seen after the first result: the eye is at the button above it, and a low window ends there."""
        table = self.ui.lesionTable
        if not self._is_alive or is_in_sight(table):
            return
        self._has_folded = True
        # the one call that opens and folds it in PythonQt
        self.ui.phasesSection.setChecked(False)
        self.application.later(_LAYOUT_MS, lambda: bring_into_sight(table))

    def _take_choice(self) -> None:
        """Make what the selectors say the exam, unless a run is about what they said before: another exam's lesions come, or none."""
        exam, volumes = self.session.exam, self.volumes()
        if exam is None or self.session.is_busy:
            self._told_of = exam.id if exam is not None else ""
            return
        if volumes and volumes != exam.phases():
            exam.set_phases(volumes)
        told_of, self._told_of = self._told_of, exam.id
        if told_of and told_of != exam.id:
            self.session.say("")  # it was about the other one
        state = self.model.state
        exam.set_model(state.info.sha256 if state.info is not None else None)

    def _show_phases(self) -> None:
        """Show a phase that was chosen by hand at once; leave the views of a scene that was opened as they were saved."""
        volumes = self.volumes()
        if not volumes or not self.views.are_shown:
            return
        if self._views_came_with_scene:
            self.views.adopt(volumes)
        elif self.views.show(self.scene, volumes):
            self.explanation.forget_views()
        self._views_came_with_scene = False

    def _prepared_volumes(self) -> dict[str, Any]:
        if not self.session.is_busy:
            self.show_exam()
        return self.volumes()

    def _bundle(self) -> str:
        return self.parameters.bundle if self.parameters is not None else ""

    def _looked_at(self, volume: Any) -> list[float]:
        """Return the point in the middle of the views, RAS mm; the middle of the volume without views."""
        tag = exam_views.view_tag(next(iter(self.volumes())))
        for n in range(self.scene.GetNumberOfNodesByClass("vtkMRMLSliceNode") if self.views.are_shown else 0):
            view = self.scene.GetNthNodeByClass(n, "vtkMRMLSliceNode")
            if view.GetLayoutName() == tag:
                return [view.GetSliceToRAS().GetElement(row, 3) for row in range(3)]
        bounds = [0.0] * 6
        volume.GetRASBounds(bounds)
        return [(bounds[2 * axis] + bounds[2 * axis + 1]) / 2 for axis in range(3)]
