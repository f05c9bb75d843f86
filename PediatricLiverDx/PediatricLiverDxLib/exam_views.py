"""How an exam is looked at: four linked slice views, one a phase, with the CAM over them and a chart beside. MRML only; RAS mm.

The views are this module's own, told by their layout names, so that other layouts and their linking stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import slicer

from .colours import CAM_OPACITY, CAM_THRESHOLD, PHASE_COLOURS
from .node_references import of_class
from .rois import nearest_to_ras
from .vocabulary import PHASES
from .volume_nodes import numpy_matrix, one_event, place_of_volume, set_threshold, threshold_of, voxels_to_ras

#: Number of the layout; Slicer's own are below 1000.
LAYOUT_ID = 52471
#: The views that scroll and zoom together.
VIEW_GROUP = 47
CHART_TAG = "PediatricLiverDxChart"
LEGEND_TITLE = "Heat map"
#: Node attribute of the legend.
LEGEND_ATTRIBUTE = "PediatricLiverDx.Legend"


def view_tag(phase: str) -> str:
    """Return the layout name of a phase's slice view."""
    return f"PediatricLiverDx{phase}"


def _slice_view(phase: str) -> str:
    colour = "#{:02X}{:02X}{:02X}".format(*PHASE_COLOURS[phase])
    return (
        f'<item><view class="vtkMRMLSliceNode" singletontag="{view_tag(phase)}">'
        '<property name="orientation" action="default">Axial</property>'
        f'<property name="viewlabel" action="default">{phase}</property>'
        f'<property name="viewcolor" action="default">{colour}</property>'
        f'<property name="viewgroup" action="default">{VIEW_GROUP}</property>'
        "</view></item>"
    )


def _row(*phases: str) -> str:
    return f'<item><layout type="horizontal">{"".join(map(_slice_view, phases))}</layout></item>'


#: Two by two phases in the order of contrast, the chart beside them: below it would halve the height of every slice.
LAYOUT_XML = (
    '<layout type="horizontal" split="true">'
    f'<item splitSize="700"><layout type="vertical">{_row("PC", "AP")}{_row("PVP", "DP")}</layout></item>'
    f'<item splitSize="300"><view class="vtkMRMLPlotViewNode" singletontag="{CHART_TAG}">'
    '<property name="viewlabel" action="default">P</property></view></item>'
    "</layout>"
)


def register_layout(layout_node: Any) -> None:
    """Make the layout known to the application's layout node; a scene that was saved in it opens in it only after that."""
    if layout_node.IsLayoutDescription(LAYOUT_ID):
        layout_node.SetLayoutDescription(LAYOUT_ID, LAYOUT_XML)
    else:
        layout_node.AddLayoutDescription(LAYOUT_ID, LAYOUT_XML)
    if layout_node.GetViewArrangement() == LAYOUT_ID:
        # a scene was opened in it before it was known, and shows no views at all until it is asked for again
        layout_node.SetViewArrangement(LAYOUT_ID)


def show_phases(scene: Any, nodes_by_phase: Mapping[str, Any]) -> None:
    """Show each phase in its view, linked; where a view shows another volume than before, all are laid out anew by fit_views.

    Views that show these volumes already, as in a scene that was saved with them, keep zoom and place.
    """
    shown = _shown(nodes_by_phase)
    is_new = False
    for phase in PHASES:
        view = _slice(scene, phase)
        with one_event(view):
            view.SetViewGroup(VIEW_GROUP)
            view.SetLayoutLabel(phase)
            view.SetLayoutColor(*(channel / 255 for channel in PHASE_COLOURS[phase]))
        composite, id = _composite(scene, phase), shown[phase].GetID() if phase in shown else None
        is_new = is_new or composite.GetBackgroundVolumeID() != id
        with one_event(composite):
            composite.SetBackgroundVolumeID(id)
            if id is None:
                composite.SetForegroundVolumeID(None)
            composite.SetLinkedControl(1)
            composite.SetHotLinkedControl(1)
    if is_new:
        fit_views(scene, nodes_by_phase)


def fit_views(scene: Any, nodes_by_phase: Mapping[str, Any]) -> None:
    """Lay all views into the planes of the same volume's slices, seen whole: they are linked only while their planes are the same.

    That volume is the reference phase of a diagnosis, the portal venous one where there is one.
    """
    shown = _shown(nodes_by_phase)
    reference = next((shown[phase] for phase in ("PVP", "AP", "DP", "PC") if phase in shown), None)
    if reference is None or reference.GetImageData() is None:
        return
    plane = slices_of(reference)
    for phase in PHASES:
        view = _slice(scene, phase)
        with one_event(view):
            lay_slice(view, *plane)


def show_overlay(scene: Any, cam_node: Any | None, opacity: float = CAM_OPACITY, threshold: float = CAM_THRESHOLD) -> None:
    """Lay a CAM over every phase; None takes it away.

    opacity: of its shown part, 0 to 1. threshold: part of its largest value below which it is not shown.
    """
    shown = [phase for phase, composite in _composites(scene) if composite.GetBackgroundVolumeID()]
    for phase, composite in _composites(scene):
        with one_event(composite):
            composite.SetForegroundVolumeID(cam_node.GetID() if cam_node is not None and phase in shown else None)
    if cam_node is not None:
        set_overlay(scene, True, opacity, threshold)
        return
    for legend in _legends(scene):
        legend.SetVisibility(False)  # of a map that is seen no more


def set_overlay(scene: Any, visible: bool, opacity: float, threshold: float) -> None:
    """Change how the CAM is shown, at once; nothing happens where none is laid over."""
    cams = set()
    for _, composite in _composites(scene):
        with one_event(composite):
            composite.SetForegroundOpacity(opacity if visible else 0.0)
        cams.add(scene.GetNodeByID(composite.GetForegroundVolumeID() or ""))
    for cam in cams - {None}:
        if abs(threshold_of(cam) - threshold) > 1e-6:
            set_threshold(cam, threshold)
        legend = _legend_of(cam)
        if legend is not None:
            legend.SetVisibility(visible)


def show_legend(scene: Any, cam_node: Any, title: str = LEGEND_TITLE) -> None:
    """Explain the colours of a CAM, in the last view only: four would hide what they explain.

    Nothing happens where this Slicer has no legends.
    """
    shown = [phase for phase, composite in _composites(scene) if composite.GetBackgroundVolumeID()]
    view = _slice(scene, shown[-1]) if shown else None
    for node in _legends(scene):
        # always a new one: a view that was made after a legend does not know of it
        scene.RemoveNode(node)
    if not scene.IsNodeClassRegistered("vtkMRMLColorLegendDisplayNode"):
        return
    legend = scene.CreateNodeByClass("vtkMRMLColorLegendDisplayNode")
    legend.UnRegister(None)
    legend.SetName("Heat map legend")
    legend.SetAttribute(LEGEND_ATTRIBUTE, "1")
    legend.SetTitleText(title)
    legend.SetLabelFormat("%.1f")
    legend.SetNumberOfLabels(3)
    # its letters are as large as its width allows
    legend.SetSize(0.07, 0.35)
    legend.SetPosition(0.98, 0.5)
    for text in (legend.GetTitleTextProperty(), legend.GetLabelTextProperty()):
        text.SetFontFamilyToArial()
    if view is not None:
        legend.AddViewNodeID(view.GetID())
    legend = scene.AddNode(legend)
    legend.SetAndObservePrimaryDisplayNode(cam_node.GetScalarVolumeDisplayNode())
    cam_node.AddAndObserveDisplayNodeID(legend.GetID())
    # views do not hear of a display that is added to a volume
    legend.Modified()


def overlay(scene: Any) -> Any | None:
    """Return the CAM volume that is laid over the phases."""
    ids = (composite.GetForegroundVolumeID() for _, composite in _composites(scene))
    return next((node for id in ids if id and (node := scene.GetNodeByID(id)) is not None), None)


def jump_to(scene: Any, ras: Sequence[float]) -> None:
    """Show a point in every view; zoom and place stay as they are where the point is in sight then, else it comes into the middle."""
    # linked, each of four views would take all four along
    with _unlinked(scene):
        for phase in PHASES:
            view = _node(scene, "vtkMRMLSliceNode", view_tag(phase))
            if view is None:
                continue
            to_slice = np.linalg.inv(numpy_matrix(view.GetSliceToRAS()))
            across, down = (to_slice @ [*ras, 1])[:2] - np.array(view.GetXYZOrigin())[:2]
            width, height = view.GetFieldOfView()[:2]
            with one_event(view):
                # at the very edge a lesion is not seen
                if abs(across) < 0.45 * width and abs(down) < 0.45 * height:
                    view.JumpSliceByOffsetting(*ras)
                else:
                    view.JumpSliceByCentering(*ras)


@contextmanager
def _unlinked(scene: Any) -> Iterator[None]:
    """Let views be moved each by itself; afterwards they are linked as before."""
    links = [(composite, composite.GetLinkedControl(), composite.GetHotLinkedControl()) for _, composite in _composites(scene)]
    for composite, _, _ in links:
        _link(composite, 0, 0)
    try:
        yield
    finally:
        for link in links:
            _link(*link)


def _link(composite: Any, linked: int, hot: int) -> None:
    with one_event(composite):
        composite.SetLinkedControl(linked)
        composite.SetHotLinkedControl(hot)


def show_chart(scene: Any, chart_node: Any | None) -> None:
    """Show a chart beside the views; None empties its place."""
    view = _node(scene, "vtkMRMLPlotViewNode", CHART_TAG)
    if view is None:
        view = slicer.vtkMRMLPlotViewNode()
        view.SetLayoutName(CHART_TAG)
        view.SetName(CHART_TAG)
        view.SetLayoutLabel("P")
        view = scene.AddNode(view)
    view.SetPlotChartNodeID(chart_node.GetID() if chart_node is not None else None)


def slices_of(volume: Any) -> tuple[np.ndarray, np.ndarray, tuple[float, float], float]:
    """Return the planes of a volume's own axial-most slices as it is shown: see lay_slice for the four parts."""
    # the corners' order is that of (column, row, slice) = 000, 001, 010, 011, 100, ...
    center, origin, third, second, _, first = place_of_volume(volume)[:6]
    edges = np.array([first, second, third]) - origin
    counts, own = np.array(volume.GetImageData().GetDimensions()), voxels_to_ras(volume)[:3, :3].T
    # a volume of one slice has no edge along it
    steps = np.where((counts > 1)[:, None], edges / np.maximum(counts - 1, 1)[:, None], own)
    spacing = np.linalg.norm(steps, axis=1)
    axes, extent = nearest_to_ras(steps / spacing[:, None], counts * spacing)
    step = nearest_to_ras(steps / spacing[:, None], spacing)[1][2]
    axes = np.array(axes)
    # towards the viewer's right is the patient's left
    axes[0] *= -1
    return axes, center, extent[:2], step


def lay_slice(view: Any, axes: np.ndarray, center: np.ndarray, extent: tuple[float, float], step: float) -> None:
    """Lay a slice view into a plane, seen whole.

    axes: towards the view's right, its top and the next slice, one a row. extent: width and height to be seen, mm. step: of slices, mm.
    """
    matrix = view.GetSliceToRAS()
    for row in range(3):
        for column, value in enumerate((axes[0, row], axes[1, row], axes[2, row], center[row])):
            matrix.SetElement(row, column, float(value))
    width, height = view.GetDimensions()[:2]
    shape = width / height if height else 1.0
    seen = max(extent[0], extent[1] * shape)
    view.SetFieldOfView(seen, seen / shape, step)
    view.SetXYZOrigin(0, 0, 0)
    view.UpdateMatrices()


def _shown(nodes_by_phase: Mapping[str, Any]) -> dict[str, Any]:
    return {phase: nodes_by_phase[phase] for phase in PHASES if nodes_by_phase.get(phase) is not None}


def _composites(scene: Any) -> Iterator[tuple[str, Any]]:
    """Yield phase and composite node of the views that there are."""
    for phase in PHASES:
        node = _node(scene, "vtkMRMLSliceCompositeNode", view_tag(phase))
        if node is not None:
            yield phase, node


def _node(scene: Any, kind: str, tag: str) -> Any | None:
    return scene.GetSingletonNode(tag, kind)


def _slice(scene: Any, phase: str) -> Any:
    """Return a phase's slice node, made when the layout was not shown yet; the application then finds it by its layout name."""
    tag = view_tag(phase)
    node = _node(scene, "vtkMRMLSliceNode", tag)
    if node is None:
        node = scene.CreateNodeByClass("vtkMRMLSliceNode")  # with the scene's named orientations, unlike a bare node
        node.UnRegister(None)
        node.SetName(tag)
        node.SetLayoutName(tag)
        node = scene.AddNode(node)
    return node


def _composite(scene: Any, phase: str) -> Any:
    tag = view_tag(phase)
    node = _node(scene, "vtkMRMLSliceCompositeNode", tag)
    if node is None:
        node = slicer.vtkMRMLSliceCompositeNode()
        node.SetName(tag)
        node.SetLayoutName(tag)
        node = scene.AddNode(node)
    return node


def _legends(scene: Any) -> list[Any]:
    """Return the legends that are ours."""
    return [node for node in of_class(scene, "vtkMRMLColorLegendDisplayNode") if node.GetAttribute(LEGEND_ATTRIBUTE)]


def _legend_of(volume: Any) -> Any | None:
    displays = (volume.GetNthDisplayNode(n) for n in range(volume.GetNumberOfDisplayNodes()))
    return next((node for node in displays if node is not None and node.IsA("vtkMRMLColorLegendDisplayNode")), None)
