"""What the radiologist chose, as a typed parameter node: it is saved with the scene, and the panel shows it again when that is opened."""

from __future__ import annotations

from typing import Annotated

from slicer import vtkMRMLScalarVolumeNode
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

from ..colours import CAM_OPACITY, CAM_THRESHOLD

# The wrapper looks types up by name in this module.
__all__ = ["ExamParameters"]


@parameterNodeWrapper
class ExamParameters:
    """Hold the panel's choices.

    pc, ap, pvp, dp: the volume of each phase. bundle: folder of a bundle, "" for the one that comes with the module.
    output: folder where results were saved last, "" for none. camFor: the outcome that the heat map is for (vocabulary.OUTCOMES), "" for
    the side that was decided. camOpacity: 0..1. camThreshold: part of the largest value, 0..1.
    selectedLesion: ID of the ROI whose explanation is shown, "" for the first.
    """

    pc: vtkMRMLScalarVolumeNode
    ap: vtkMRMLScalarVolumeNode
    pvp: vtkMRMLScalarVolumeNode
    dp: vtkMRMLScalarVolumeNode
    bundle: str = ""
    output: str = ""
    camVisible: bool = True
    camFor: str = ""
    camOpacity: Annotated[float, WithinRange(0, 1)] = CAM_OPACITY
    camThreshold: Annotated[float, WithinRange(0, 1)] = CAM_THRESHOLD
    updateAutomatically: bool = False
    selectedLesion: str = ""
