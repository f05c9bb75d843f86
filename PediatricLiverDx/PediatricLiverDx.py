"""The module's shell, as Slicer wants it: module, widget, logic and self-test. What they do is in PediatricLiverDxLib."""

from __future__ import annotations

from typing import Any

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)


class PediatricLiverDx(ScriptedLoadableModule):
    """Say what the module is; Slicer makes one at start-up, so nothing heavy is imported here."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Pediatric Liver Dx")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Oncology")]
        self.parent.dependencies = []
        self.parent.contributors = ["The PediatricLiverDx contributors"]
        self.parent.helpText = _(
            "Finds liver tumours in children on multi-phase CT, tells benign from malignant, and shows what the answer rests on. "
            "Choose the phases, click Diagnose, correct the ROIs, diagnose again. Everything stays on this computer. "
            "Research software: not a medical device."
        )
        self.parent.acknowledgementText = _("Licence: Apache-2.0.")
        slicer.app.startupCompleted.connect(_started)


def _started() -> None:
    """Add what the application has to know before the module is opened: the sample case, and the layout that saved scenes open in."""
    import SampleData
    from PediatricLiverDxLib import exam_views, sample_case

    manager = slicer.app.layoutManager()
    if manager is not None:  # none without a main window
        exam_views.register_layout(manager.layoutLogic().GetLayoutNode())
    sample_case.register(SampleData, title=_("Pediatric Liver Dx"))


class PediatricLiverDxWidget(ScriptedLoadableModuleWidget):
    """Hand the application's events on to the panel."""

    def __init__(self, parent: Any = None) -> None:
        # with no parent given, the base class calls setup() at once
        self.logic: PediatricLiverDxLogic | None = None
        self.panel: Any | None = None
        ScriptedLoadableModuleWidget.__init__(self, parent)

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        from PediatricLiverDxLib.panel.exam_panel import ExamPanel

        form = slicer.util.loadUI(self.resourcePath("UI/PediatricLiverDx.ui"))
        self.layout.addWidget(form)
        self.ui = slicer.util.childWidgetVariables(form)
        form.setMRMLScene(slicer.mrmlScene)
        self.logic = PediatricLiverDxLogic(owner=form)
        self.panel = ExamPanel(form, self.ui, self.logic.session, self.logic.installation, self.logic.application)
        self.panel.reconnect = self._reconnect
        self._connect()

    def cleanup(self) -> None:
        """End what runs: the module is reloaded, or the application is closed."""
        if self.panel is not None:
            self.panel.close()
            self.panel = None
        if self.logic is not None:
            self.logic.close()
            self.logic = None

    def enter(self) -> None:
        if self.panel is not None:
            self._connect()
            self.panel.enter()

    def exit(self) -> None:
        # a run goes on: its result is there when the user comes back
        if self.panel is not None:
            self.panel.exit()

    def _reconnect(self) -> None:
        """Work with another scene, if the module is on screen: others need not have our parameters in theirs."""
        if self.parent.isEntered:
            self._connect()

    def _connect(self) -> None:
        self.panel.connect(self.logic.getParameterNode())


class PediatricLiverDxLogic(ScriptedLoadableModuleLogic):
    """Hold what works without a window: the session with its worker, the exam in the scene, the parameters."""

    def __init__(self, parent: Any = None, owner: Any = None) -> None:
        """owner: the Qt object that the worker process and dialogs belong to; the main window without one."""
        ScriptedLoadableModuleLogic.__init__(self, parent)
        from PediatricLiverDxLib.panel.application import Application
        from PediatricLiverDxLib.panel.exam_session import ExamSession
        from PediatricLiverDxLib.panel.installation import Installation
        from PediatricLiverDxLib.panel.worker_process import WorkerProcess

        owner = owner or slicer.util.mainWindow()
        self.application = Application(owner)
        self.installation = Installation()
        self.worker = WorkerProcess(owner, lambda sentence: self.session.worker_stopped(sentence))
        self.session = ExamSession(
            self.worker, self.installation, self.application.later, self.application.ask, self.application.tags_of
        )

    @property
    def exam(self) -> Any | None:
        """The exam in the scene (exam_nodes.ExamNodes)."""
        return self.session.exam

    def getParameterNode(self) -> Any:
        from PediatricLiverDxLib.panel.parameters import ExamParameters

        return ExamParameters(super().getParameterNode())

    def diagnose(self) -> None:
        """Diagnose the exam that the parameter node names; returns at once, session.status says how it goes."""
        from PediatricLiverDxLib.exam_nodes import ExamNodes

        parameters = self.getParameterNode()
        if self.session.exam is None:
            self.session.exam = ExamNodes.of(slicer.mrmlScene, parameters.parameterNode)
        chosen = {"PC": parameters.pc, "AP": parameters.ap, "PVP": parameters.pvp, "DP": parameters.dp}
        self.session.diagnose({phase: node for phase, node in chosen.items() if node is not None}, parameters.bundle)

    def close(self) -> None:
        """End the worker."""
        self.session.stop()


class PediatricLiverDxTest(ScriptedLoadableModuleTest):
    """Live through a radiologist's story with the sample case, and leave nothing behind."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:
        self.setUp()
        self.test_story()

    def test_story(self) -> None:
        from PediatricLiverDxLib.panel.self_test import Story

        Story(self).run()
