"""The stand-in for Slicer does what it says: PythonQt's manners, the scene in widgets, views that scroll together, the mouse in a view."""

from __future__ import annotations

import subprocess
from typing import Annotated

import numpy as np
import pytest

LAYOUT = """<layout type="horizontal" split="true">
 <item splitSize="700"><layout type="horizontal">
  <item><view class="vtkMRMLSliceNode" singletontag="HostLeft"><property name="orientation" action="default">Axial</property>
   <property name="viewlabel" action="default">L</property><property name="viewgroup" action="default">7</property></view></item>
  <item><view class="vtkMRMLSliceNode" singletontag="HostRight"><property name="orientation" action="default">Axial</property>
   <property name="viewlabel" action="default">R</property><property name="viewgroup" action="default">7</property></view></item>
 </layout></item>
 <item splitSize="300"><view class="vtkMRMLPlotViewNode" singletontag="HostChart"/></item>
</layout>"""

FORM = """<?xml version="1.0" encoding="UTF-8"?>
<ui version="4.0"><class>Form</class><widget class="qMRMLWidget" name="Form"><layout class="QVBoxLayout">
 <item><widget class="qMRMLNodeComboBox" name="selector">
  <property name="nodeTypes"><stringlist><string>vtkMRMLScalarVolumeNode</string></stringlist></property>
  <property name="noneEnabled"><bool>true</bool></property>
  <property name="SlicerParameterName" stdset="0"><string>volume</string></property></widget></item>
 <item><widget class="ctkCollapsibleButton" name="section"><property name="text"><string>More</string></property>
  <layout class="QVBoxLayout"><item><widget class="ctkSliderWidget" name="slider">
   <property name="singleStep"><double>0.01</double></property>
   <property name="SlicerParameterName" stdset="0"><string>opacity</string></property></widget></item>
   <item><widget class="QCheckBox" name="box">
    <property name="SlicerParameterName" stdset="0"><string>shown</string></property></widget></item>
   <item><widget class="QLabel" name="label"><property name="text"><string>text</string></property></widget></item>
  </layout></widget></item></layout></widget>
<connections><connection><sender>Form</sender><signal>mrmlSceneChanged(vtkMRMLScene*)</signal>
 <receiver>selector</receiver><slot>setMRMLScene(vtkMRMLScene*)</slot></connection></connections></ui>
"""


@pytest.fixture
def form(host, tmp_path):
    """A loaded .ui file in the window's panel, and its children by name."""
    import slicer

    (tmp_path / "form.ui").write_text(FORM)
    widget = slicer.util.loadUI(str(tmp_path / "form.ui"))
    host.window.panel().put(widget, "")
    widget.setMRMLScene(slicer.mrmlScene)
    host.turn()
    return slicer.util.childWidgetVariables(widget)


@pytest.fixture
def volume(host):
    """A bright cube of 20 mm in the middle of a volume of 60 mm."""
    import slicer

    voxels = np.zeros((60, 60, 60), np.int16)
    voxels[20:40, 20:40, 20:40] = 1000
    return slicer.util.addVolumeFromArray(voxels, ijkToRAS=np.diag([1.0, 1.0, 1.0, 1.0]), name="cube")


@pytest.fixture
def parameters(host):
    import slicer
    from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

    # a class statement would leave its annotations as text, which is looked up in this file and not in this function
    types = {"volume": slicer.vtkMRMLScalarVolumeNode, "shown": bool, "opacity": Annotated[float, WithinRange(0, 1)], "name": str}
    body = {"__module__": __name__, "__annotations__": types, "shown": True, "opacity": 0.25, "name": "a name"}
    return parameterNodeWrapper(type("Parameters", (), body))


def shown_picture(view) -> np.ndarray:
    """Draw a view and return what it shows as (row, column, RGB)."""
    view.forceRender()
    image = view.grab().toImage().convertToFormat(view.grab().toImage().Format.Format_RGB888)
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3)


def own_layout(host):
    import slicer

    manager = slicer.app.layoutManager()
    manager.layoutLogic().GetLayoutNode().AddLayoutDescription(4711, LAYOUT)
    manager.setLayout(4711)
    host.turn()
    return manager


def test_a_property_is_a_value_as_in_pythonqt(form):
    assert form.label.text == "text"
    with pytest.raises(TypeError):
        form.label.text()
    form.label.setText("other")
    assert (form.label.text, form.box.checked, form.box.isChecked(), form.label.className()) == ("other", False, False, "QLabel")


def test_what_pyside_adds_to_qt_is_not_in_qt(host):
    import qt

    assert not {"Signal", "Slot", "Property"} & set(dir(qt))


def test_a_form_with_an_unknown_widget_or_a_wrong_connection_is_refused(host, tmp_path):
    import slicer

    for right, wrong in (('class="ctkSliderWidget"', 'class="ctkSlider"'), ("<receiver>selector", "<receiver>nobody")):
        (tmp_path / "wrong.ui").write_text(FORM.replace(right, wrong))
        with pytest.raises(RuntimeError, match=r"ctkSlider\b|nobody"):
            slicer.util.loadUI(str(tmp_path / "wrong.ui"))


def test_closing_a_section_hides_what_is_in_it_and_opening_brings_back_what_was_seen(form, host):
    form.box.setVisible(False)
    form.section.setCollapsed(True)
    host.turn()
    assert form.section.collapsed
    assert not form.slider.isVisible()
    assert form.section.height < 60
    form.section.click()
    host.turn()
    assert (form.slider.isVisible(), form.box.isVisible()) == (True, False)


def test_the_node_selector_follows_the_scene(form, host, volume):
    import slicer

    told = []
    form.selector.currentNodeChanged.connect(told.append)
    assert form.selector.currentNode() is None
    form.selector.setCurrentNode(volume)
    volume.SetName("renamed")
    assert form.selector.comboBox().currentText == "renamed"
    assert form.selector.nodeCount() == 1
    slicer.mrmlScene.RemoveNode(volume)
    assert told == [volume, None]
    hidden = slicer.mrmlScene.AddNode(slicer.vtkMRMLScalarVolumeNode())
    hidden.SetHideFromEditors(True)
    label = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "kinds of it count too")
    assert form.selector.nodeCount() == 1
    form.selector.setShowChildNodeTypes(False)
    assert form.selector.nodeCount() == 0
    assert label.GetName()


def test_parameters_and_widgets_follow_each_other_until_they_are_parted(form, volume, parameters):
    import slicer

    wrapped = parameters(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode"))
    tag = wrapped.connectGui(form)
    assert (form.slider.value, form.slider.maximum, form.box.checked) == (0.25, 1.0, True)
    form.slider.setValue(0.5)
    form.box.setChecked(False)
    form.selector.setCurrentNode(volume)
    assert (wrapped.opacity, wrapped.shown, wrapped.volume) == (0.5, False, volume)
    wrapped.opacity = 0.75
    assert form.slider.value == 0.75
    with pytest.raises(ValueError, match="within range"):
        wrapped.opacity = 2
    with pytest.raises(TypeError):
        wrapped.name = 3
    wrapped.disconnectGui(tag)
    form.slider.setValue(0.1)
    assert wrapped.opacity == 0.75


def test_parameters_are_kept_in_the_text_that_slicer_reads(host, volume, parameters):
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    wrapped = parameters(node)
    wrapped.volume = volume
    assert [node.GetParameter(name) for name in ("shown", "opacity", "name", "volume")] == ["True", "0.25", "a name", ""]
    assert node.GetNodeReference("volume") is volume


def test_a_scene_goes_to_an_mrb_and_back(host, volume, tmp_path):
    import slicer

    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear()
    host.turn()
    assert slicer.mrmlScene.GetFirstNodeByName("cube") is None
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    host.turn()
    assert slicer.util.arrayFromVolume(slicer.util.getNode("cube")).max() == 1000


def test_a_layout_of_ones_own_has_its_views_and_their_look(host):
    manager = own_layout(host)
    assert {"HostLeft", "HostRight"} <= set(manager.sliceViewNames())
    assert manager.plotViewCount == 1
    left = manager.sliceWidget("HostLeft")
    assert (left.isVisible(), left.mrmlSliceNode().GetLayoutLabel(), left.mrmlSliceNode().GetViewGroup()) == (True, "L", 7)
    assert not manager.sliceWidget("Red").isVisible()
    assert left.mrmlSliceNode().GetDimensions()[:2] == (left.sliceView().width, left.sliceView().height)
    manager.setLayout(2)
    host.turn()
    assert (left.isVisible(), manager.sliceWidget("Red").isVisible()) == (False, True)


def test_linked_views_scroll_together_and_others_stay(host, volume):
    import slicer

    manager = own_layout(host)
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    left, right, red = (manager.sliceWidget(name) for name in ("HostLeft", "HostRight", "Red"))
    for widget in (left, right):
        widget.mrmlSliceCompositeNode().SetLinkedControl(1)
        widget.mrmlSliceCompositeNode().SetHotLinkedControl(1)
    before = red.sliceLogic().GetSliceOffset()
    wheel(host, left.sliceView())
    assert left.sliceLogic().GetSliceOffset() == right.sliceLogic().GetSliceOffset() != before
    assert red.sliceLogic().GetSliceOffset() == before


def test_a_view_shows_volume_overlay_and_roi(host, volume):
    import slicer

    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    view = slicer.app.layoutManager().sliceWidget("Red").sliceView()
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, 30, 30, 30)
    volume.GetDisplayNode().SetAutoWindowLevel(False)
    volume.GetDisplayNode().SetWindowLevelMinMax(0, 2000)
    grey = shown_picture(view)
    middle = grey[view.height // 2, view.width // 2]
    assert middle.max() == middle.min()
    assert 110 < middle[0] < 145
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "ROI")
    roi.CreateDefaultDisplayNodes()
    roi.GetDisplayNode().SetSelectedColor(1, 0, 0)
    roi.SetCenter(30, 30, 30)
    roi.SetSize(30, 30, 30)
    coloured = shown_picture(view).astype(int)
    assert (coloured[..., 0] - coloured[..., 1] > 100).sum() > 100


# of the face's handle a spot beside the outline: exactly on that the ROI itself is touched
@pytest.mark.parametrize(("place", "centre", "size"), [((30, 30, 30), -1.0, 0.0), ((20.7, 30, 30), -0.5, 1.0)], ids=["centre", "face"])
def test_the_mouse_drags_an_roi_and_its_faces_in_a_view(host, volume, place, centre, size):
    import slicer

    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, 30, 30, 30)
    roi = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "ROI")
    roi.CreateDefaultDisplayNodes()
    roi.GetDisplayNode().SetHandlesInteractive(True)
    roi.SetCenter(30, 30, 30)
    roi.SetSize(20, 20, 20)
    ended = []
    roi.AddObserver(roi.PointEndInteractionEvent, lambda *_arguments: ended.append(True))
    host.turn(0.1)
    view = slicer.app.layoutManager().sliceWidget("Red").sliceView()
    view.forceRender()
    drag_right(host, view, place, 40)
    millimetres = 40 * view.mrmlSliceNode().GetFieldOfView()[0] / view.width
    # to the right in the view is the patient's left
    assert roi.GetCenter()[0] == pytest.approx(30 + centre * millimetres, abs=1)
    assert roi.GetSize()[0] == pytest.approx(20 + size * millimetres, abs=1)
    assert ended


def test_a_chart_shows_its_bars(host):
    import slicer

    manager = own_layout(host)
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")
    slicer.util.updateTableFromArray(table, [np.array([3.0])], ["value"])
    series = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", "bar")
    series.SetPlotType(series.PlotTypeBar)
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetYColumnName("value")
    series.SetColor(0, 0, 1)
    chart = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotChartNode")
    chart.AddAndObservePlotSeriesNodeID(series.GetID())
    view = manager.plotWidget(0).plotView()
    view.mrmlPlotViewNode().SetPlotChartNodeID(chart.GetID())
    picture = shown_picture(view).astype(int)
    assert (picture[..., 2] - picture[..., 0] > 200).mean() > 0.02


def test_finished_passes_the_exit_code_only_and_output_is_bytes(host):
    import qt

    process, codes = qt.QProcess(host.window), []
    process.finished.connect(lambda *arguments: codes.append(arguments))
    process.start("/bin/sh", ["-c", "printf out; exit 3"])
    assert host.wait(lambda: codes, 10)
    assert codes == [(3,)]
    assert process.readAllStandardOutput().data() == b"out"


def test_installations_are_asked_for_and_never_happen(host):
    import slicer
    from host import packages

    slicer.packaging.pip_ensure("a-package-that-is-nowhere>=1", requester="test")
    assert packages.asked == []
    host.app.set_testing(False)
    slicer.packaging.pip_ensure("numpy a-package-that-is-nowhere>=1", requester="test", prompt_install=False)
    assert [what for what, _options in packages.asked] == [["a-package-that-is-nowhere>=1"]]
    packages.pip = packages.fail
    with pytest.raises(subprocess.CalledProcessError):
        slicer.util.pip_install("a-package-that-is-nowhere")


def test_what_goes_wrong_in_a_slot_is_written_down(host, capsys):
    import qt

    qt.QTimer.singleShot(0, lambda: 1 / 0)
    host.turn(0.05)
    assert [type(error) for error in host.errors] == [ZeroDivisionError]
    host.errors.clear()


def test_the_module_is_reloaded_and_shown_again(host, host_module):
    import slicer

    old = slicer.util.getModuleWidget("PediatricLiverDx")
    slicer.util.reloadScriptedModule("PediatricLiverDx")
    new = slicer.util.getModuleWidget("PediatricLiverDx")
    assert new is not old
    host.turn()
    assert new.ui.runButton.isVisible()
    slicer.util.selectModule("")
    assert not new.ui.runButton.isVisible()


def test_the_module_is_made_without_a_main_window():
    """As Slicer's generic module tests do."""
    from host.fixture import MODULE
    from host.host import Host

    with Host(main_window=False) as host:
        import slicer

        module = host.load(MODULE)
        assert slicer.util.mainWindow() is None
        assert module.widgetRepresentation().self().ui.runButton is not None
        slicer.mrmlScene.Clear()
        host.turn(0.05)
    assert not host.errors


def drag_right(host, view, ras, pixels: int) -> None:
    """Press the left button over a point, RAS mm, draw it to the right, release it."""
    import qt
    import vtk

    to_view = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(view.mrmlSliceNode().GetXYToRAS(), to_view)
    x, y, *_rest = to_view.MultiplyPoint((*ras, 1))
    x, y = round(x), view.height - 1 - round(y)
    none, left = qt.Qt.NoButton, qt.Qt.LeftButton
    for kind, at, button, held in (
        (qt.QEvent.MouseMove, x - 1, none, none),
        (qt.QEvent.MouseMove, x, none, none),
        (qt.QEvent.MouseButtonPress, x, left, left),
        *((qt.QEvent.MouseMove, x + step, none, left) for step in range(5, pixels + 1, 5)),
        (qt.QEvent.MouseButtonRelease, x + pixels, left, none),
    ):
        place = qt.QPointF(at, y)
        host.app.sendEvent(view, qt.QMouseEvent(kind, place, view.mapToGlobal(place), button, held, qt.Qt.NoModifier))
        host.turn()


def wheel(host, view) -> None:
    """Turn the wheel by one notch over the middle of a view."""
    import qt

    place = qt.QPointF(view.width / 2, view.height / 2)
    none = qt.Qt.NoButton
    host.app.sendEvent(
        view,
        qt.QWheelEvent(
            place, view.mapToGlobal(place), qt.QPoint(0, 0), qt.QPoint(0, 120), none, qt.Qt.NoModifier, qt.Qt.NoScrollPhase, False
        ),
    )
    host.turn()


def test_a_question_waits_for_its_answer_unless_slicer_is_being_tested(host):
    import qt
    import slicer

    # slicer.util compares True with a button there, so its answer is no and not the yes that it documents
    assert not slicer.util.confirmOkCancelDisplay("Is it being tested?")
    host.app.set_testing(False)

    def answer(button) -> None:
        box = host.app.activeModalWidget()
        try:
            box.button(button).click()
        except Exception:
            box.reject()  # or it would wait for ever
            raise

    for button, expected in ((qt.QMessageBox.Cancel, False), (qt.QMessageBox.Ok, True)):
        qt.QTimer.singleShot(50, lambda button=button: answer(button))
        assert slicer.util.confirmOkCancelDisplay("Really?", windowTitle="Question") is expected


def test_a_module_that_is_too_wide_makes_the_panel_wide(host):
    import qt
    import slicer

    panel = host.window.panel()
    wide = slicer.qMRMLWidget(host.window)
    qt.QVBoxLayout(wide).addWidget(qt.QLabel("x", wide))
    wide.setMinimumWidth(700)
    panel.put(wide, "")
    host.turn(0.05)
    assert panel.width > 700
