"""Volumes in a scene: which phase they are, where the worker sees them, and that nothing is rewritten that did not change."""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import drawn_images
from PediatricLiverDxLib.exam import read_exam
from PediatricLiverDxLib.vocabulary import PHASES, InputError
from PediatricLiverDxLib.volumes import Grid
from synthetic_ct import abdomen, as_image

slicer = pytest.importorskip("slicer")

from PediatricLiverDxLib import exam_input  # noqa: E402
from PediatricLiverDxLib.exam_input import assign_phases, assigning_phases, roi_body, same_patient  # noqa: E402
from PediatricLiverDxLib.phase_files import exam_key, writing_phase  # noqa: E402
from PediatricLiverDxLib.volume_nodes import fill_volume, vtk_matrix  # noqa: E402


def write_phase(node, path) -> str | None:
    """Write a volume at once and return the sentence that says why it was resampled."""
    writing = writing_phase(node, path)
    try:
        while True:
            next(writing)
    except StopIteration as end:
        return end.value


@pytest.fixture
def scene() -> Any:
    from PediatricLiverDxLib.scene import new_scene

    scene = new_scene()
    yield scene
    scene.Clear(1)


def to_ras(image: sitk.Image) -> np.ndarray:
    """Return the 4 x 4 matrix from voxel index to RAS mm."""
    matrix = np.eye(4)
    origin = Grid.of(image).index_to_ras(np.zeros(3))
    matrix[:3, :3] = (Grid.of(image).index_to_ras(np.eye(3)) - origin).T
    matrix[:3, 3] = origin
    return matrix


@pytest.fixture
def load(scene: Any) -> Callable[..., Any]:
    """Add an image to the scene under a name."""

    def load(image: sitk.Image, name: str, **tags: str) -> Any:
        node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        fill_volume(node, sitk.GetArrayFromImage(image), to_ras(image))
        for keyword, text in tags.items():
            node.SetAttribute(keyword, text)
        return node

    return load


def tags_of(node: Any) -> Mapping[str, str]:
    """Return what `load` was told, as a DICOM database would."""
    return {keyword: text for keyword in exam_input.TAGS if (text := node.GetAttribute(keyword))}


@pytest.fixture(scope="module")
def drawn() -> dict[str, sitk.Image]:
    return drawn_images()


@pytest.fixture(scope="module")
def ct() -> dict[str, sitk.Image]:
    """Volumes of which brightness tells the phase."""
    return {phase: as_image(abdomen(phase)) for phase in PHASES}


def phases(assigned: Mapping[str, Any]) -> dict[str, str]:
    return {phase: one.node.GetName() for phase, one in assigned.items()}


# which is which -----------------------------------------------------------------------------------------------------------


def test_names_tell_the_phases_and_no_voxel_is_read(load, drawn, monkeypatch):
    monkeypatch.setattr(exam_input, "voxels_of", None)
    names = {"DP": "5: Abdomen delayed", "PC": "2: nativ", "AP": "case_7_arterial_1", "PVP": "PVP"}
    nodes = [load(drawn[phase], name) for phase, name in names.items()]
    found, notes = assign_phases(nodes)
    assert phases(found) == names and list(found) == list(PHASES) and notes == []
    assert found["AP"].how == "volume name 'arterial'"
    assert all(one.sure for one in found.values())


def test_tags_go_before_the_name(load, drawn):
    node = load(drawn["PVP"], "12: arterial", SeriesDescription="ABD VENOUS 2.0", AcquisitionTime="101500")
    late = load(drawn["DP"], "13: ABD", AcquisitionTime="102000", ContrastBolusStartTime="101500.00")
    found, notes = assign_phases([node, late], tags_of)
    assert phases(found) == {"PVP": "12: arterial", "DP": "13: ABD"} and notes == []
    assert found["PVP"].how.startswith("series description") and found["DP"].how == "300 s after the start of the contrast"


def test_silent_volumes_are_told_by_brightness(load, ct):
    names = dict(zip(("DP", "AP", "PC", "PVP"), ("a", "b", "c", "d"), strict=True))
    found, notes = assign_phases([load(ct[phase], name) for phase, name in names.items()])
    assert phases(found) == names
    assert all(one.how == "image brightness" and one.sure for one in found.values()) and notes == []


def test_the_window_has_its_turn_while_images_are_looked_at(load, ct, monkeypatch):
    monkeypatch.setattr(exam_input, "_SLAB_VOXELS", ct["PC"].GetNumberOfPixels() // 4)
    nodes = [load(image, name) for name, image in zip("wxyz", ct.values(), strict=True)]
    steps, breaks = assigning_phases(nodes), 0
    while True:
        try:
            next(steps)
            breaks += 1
        except StopIteration as end:
            assert end.value == assign_phases(nodes)
            break
    # some for each part of a volume, one for what is measured of it
    assert breaks >= 4 * 4
    assert not list(assigning_phases([load(ct["AP"], "arterial"), load(ct["PVP"], "portal venous")])), "names tell all"


def test_brightness_fills_the_phases_that_names_leave(load, ct):
    found, _ = assign_phases([load(ct["AP"], "arterial"), load(ct["PVP"], "x"), load(ct["PC"], "y")])
    assert phases(found) == {"PC": "y", "AP": "arterial", "PVP": "x"}
    assert found["AP"].how.startswith("volume name") and found["PC"].how == "image brightness"


def test_what_is_not_sure_is_said(load, drawn):
    found, notes = assign_phases([load(drawn["DP"], "x")])
    (only,) = found.values()
    assert not only.sure and len(notes) == 1 and notes[0].startswith("x: ") and "choose another volume" in notes[0]


def test_a_silent_volume_beside_four_phases_is_left_out_unread(load, drawn, monkeypatch):
    monkeypatch.setattr(exam_input, "voxels_of", None)
    found, notes = assign_phases([*(load(drawn[phase], phase) for phase in PHASES), load(drawn["PC"], "x")])
    assert set(found) == set(PHASES) and len(notes) == 1 and notes[0].startswith("x: ")


def test_what_cannot_be_a_phase_is_left_out_with_a_word(scene, load, drawn):
    label = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "PC")
    fill_volume(label, sitk.GetArrayFromImage(drawn["PC"]), np.eye(4))
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "AP")
    coronal = sitk.Image(drawn["DP"])
    coronal.SetDirection((1, 0, 0, 0, 0, 1, 0, -1, 0))
    nodes = [
        label,
        empty,
        load(drawn["PVP"], "PVP"),
        load(drawn["PVP"], "PVP segmentation"),
        load(drawn["AP"][:, :, :2], "AP"),
        load(drawn["AP"], "3: arterial", SeriesDescription="arterial", ImageType="DERIVED\\SECONDARY\\MIP", Modality="CT"),
        load(drawn["DP"], "4: delayed MR", SeriesDescription="delayed", Modality="MR"),
        load(coronal, "5: delayed cor", SeriesDescription="delayed cor"),
    ]
    found, notes = assign_phases(nodes, tags_of)
    assert phases(found) == {"PVP": "PVP"}
    assert [note.partition(":")[0] for note in notes] == ["PVP segmentation", "AP", "3", "4", "5"]


def test_of_two_volumes_of_a_phase_the_better_one_is_used_and_that_is_said(load, drawn):
    thick = sitk.Shrink(drawn["PVP"], (1, 1, 2))
    found, notes = assign_phases([load(thick, "venous 10mm"), load(drawn["PVP"], "venous 5mm")])
    assert phases(found) == {"PVP": "venous 5mm"} and len(notes) == 1 and "not venous 10mm" in notes[0]
    found, _ = assign_phases(
        [
            load(drawn["AP"], "6: arterial", SeriesDescription="arterial", ConvolutionKernel="B70f"),
            load(drawn["AP"], "7: arterial", SeriesDescription="arterial", ConvolutionKernel="B30f"),
        ],
        tags_of,
    )
    assert phases(found) == {"AP": "7: arterial"}


def test_a_silent_reconstruction_of_a_named_acquisition_is_left_out(load, ct):
    named = load(ct["AP"], "6: arterial", AcquisitionTime="101501.5", AcquisitionNumber="3")
    thin = load(ct["AP"], "7: 1.0 I40f", AcquisitionTime="101501.5", AcquisitionNumber="3")
    found, notes = assign_phases([named, thin], tags_of)
    assert phases(found) == {"AP": "6: arterial"} and "7: 1.0 I40f" in notes[0]


def test_one_study_is_chosen_and_two_patients_are_refused(load, drawn):
    old = load(drawn["AP"], "arterial", StudyInstanceUID="1.1", StudyDate="20200101", PatientID="A")
    new = [load(drawn[p], f"{p} new", StudyInstanceUID="1.2", StudyDate="20210101", PatientID="A") for p in ("AP", "PVP")]
    found, notes = assign_phases([old, *new], tags_of)
    assert phases(found) == {"AP": "AP new", "PVP": "PVP new"} and "2 studies" in notes[0]
    other = load(drawn["DP"], "delayed", PatientID="B")
    with pytest.raises(InputError, match="one patient"):
        assign_phases([*new, other], tags_of)
    assert same_patient([*new, other], tags_of).endswith(".") and same_patient([old, *new], tags_of) is None
    assert same_patient([*new, other]) is None


def test_too_many_silent_volumes_are_refused_in_words_for_volumes(load, drawn):
    nodes = [load(drawn["PVP"], f"x {letter}") for letter in "abcdefg"]
    with pytest.raises(InputError, match="choose the phases by hand"):
        assign_phases(nodes)
    found, notes = assign_phases([*nodes, load(drawn["AP"], "arterial")])
    assert phases(found) == {"AP": "arterial"} and "choose the phases by hand" in notes[0]
    with pytest.raises(InputError, match="by hand"):
        assign_phases(nodes[:5])


def test_fine_volumes_are_measured_as_well_as_coarse_ones(load, ct):
    fine = {}
    for phase, image in ct.items():
        size = [2 * n for n in image.GetSize()[:2]] + [image.GetSize()[2]]
        spacing = [s / 2 for s in image.GetSpacing()[:2]] + [image.GetSpacing()[2]]
        fine[phase] = sitk.Resample(image, size, sitk.Transform(), sitk.sitkLinear, image.GetOrigin(), spacing, image.GetDirection(), -1000)
    nodes = [load(fine[phase], letter) for phase, letter in zip(PHASES, "abcd", strict=True)]
    assert phases(assign_phases(nodes)[0]) == dict(zip(PHASES, "abcd", strict=True))


# what the worker is handed ------------------------------------------------------------------------------------------------


def written(node: Any, tmp_path: Path) -> sitk.Image:
    path = tmp_path / "PVP.nrrd"
    assert write_phase(node, path) is None
    assert list(tmp_path.iterdir()) == [path]
    return sitk.ReadImage(str(path))


def put_under(scene: Any, node: Any, matrix: np.ndarray) -> Any:
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(vtk_matrix(matrix))
    node.SetAndObserveTransformNodeID(transform.GetID())
    return transform


def turned(degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, 3] = (10, -20, 30)
    return matrix


@pytest.mark.parametrize("kind", [np.int16, np.uint16, np.int32, np.float32, np.float64, np.int8])
def test_a_file_holds_the_voxels_and_the_place_of_the_volume(load, tmp_path, kind):
    rng = np.random.default_rng(0)
    image = sitk.GetImageFromArray(rng.integers(0, 120, (5, 20, 30)).astype(kind))
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-11.5, 1 / 3, 70.25))
    image.SetDirection((0, -1, 0, 1, 0, 0, 0, 0, 1))
    read = written(load(image, "x"), tmp_path)
    assert np.array_equal(sitk.GetArrayFromImage(read), sitk.GetArrayFromImage(image))
    assert np.allclose(to_ras(read), to_ras(image), atol=1e-9)
    assert read.GetPixelID() == (sitk.sitkFloat32 if kind is np.float64 else image.GetPixelID())


def test_a_linear_transform_moves_the_grid_and_leaves_the_voxels(scene, load, drawn, tmp_path):
    node = load(drawn["PVP"], "x")
    put_under(scene, node, turned(30))
    read = written(node, tmp_path)
    assert np.array_equal(sitk.GetArrayFromImage(read), sitk.GetArrayFromImage(drawn["PVP"]))
    assert np.allclose(to_ras(read), turned(30) @ to_ras(drawn["PVP"]))


def hu_at(image: sitk.Image, ras: np.ndarray) -> float:
    return image.EvaluateAtPhysicalPoint([-ras[0], -ras[1], ras[2]], sitk.sitkLinear)


@pytest.mark.parametrize("way", ["shear", "grid"])
def test_other_transforms_resample_to_what_is_shown_and_say_so(scene, load, tmp_path, way):
    ramp = np.fromfunction(lambda z, y, x: 100 + 2 * x + 3 * y + 5 * z, (16, 24, 32))
    image = sitk.GetImageFromArray(ramp.astype(np.float32))
    image.SetSpacing((2, 2, 3))
    node = load(image, "x")
    if way == "shear":
        matrix = np.eye(4)
        matrix[0, 1], matrix[:3, 3] = 0.3, (20, -10, 5)
        put_under(scene, node, matrix)
    else:
        field = np.zeros((4, 4, 4, 3))
        field[..., 0], field[1:3, ..., 2] = 12, 4
        vectors = sitk.GetImageFromArray(field, isVector=True)
        vectors.SetSpacing((40, 40, 40))
        vectors.SetOrigin((-20, -20, -20))
        transform = scene.AddNewNodeByClass("vtkMRMLGridTransformNode")
        transform.SetAndObserveTransformFromParent(grid_transform(vectors))
        node.SetAndObserveTransformNodeID(transform.GetID())
    path = tmp_path / "AP.nrrd"
    warning = write_phase(node, path)
    assert warning.startswith("AP: ") and warning.endswith(".") and "resampled" in warning
    read = sitk.ReadImage(str(path))
    for index in ((16, 12, 8), (3, 20, 2), (28, 4, 13)):
        point = to_ras(image) @ [*index, 1]
        world = [0.0] * 3
        node.TransformPointToWorld(point[:3].tolist(), world)
        assert hu_at(read, np.array(world)) == pytest.approx(float(ramp[index[::-1]]), abs=0.5)
    assert np.allclose(np.array(read.GetSpacing()), (2, 2, 3))


def grid_transform(vectors: sitk.Image) -> Any:
    """Return a vtk grid transform of displacements in mm, along the axes of RAS."""
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkFiltersHybrid import vtkGridTransform

    field = sitk.GetArrayFromImage(vectors)
    image = vtkImageData()
    image.SetDimensions(*field.shape[2::-1])
    image.SetSpacing(*vectors.GetSpacing())
    image.SetOrigin(-100, -100, -20)
    scalars = numpy_to_vtk(field.reshape(-1, 3), deep=True)
    image.GetPointData().SetScalars(scalars)
    grid = vtkGridTransform()
    grid.SetDisplacementGridData(image)
    return grid


def test_what_is_written_is_read_as_the_exam_it_was(load, drawn, tmp_path):
    for phase, image in drawn.items():
        write_phase(load(image, phase), tmp_path / f"{phase}.nrrd")
    exam = read_exam(files={phase: tmp_path / f"{phase}.nrrd" for phase in PHASES})
    for phase, image in drawn.items():
        assert np.array_equal(sitk.GetArrayFromImage(exam.phases[phase].image), np.maximum(sitk.GetArrayFromImage(image), -1024))


def test_it_is_written_in_slabs_and_given_up_without_a_trace(load, drawn, tmp_path, monkeypatch):
    monkeypatch.setattr("PediatricLiverDxLib.phase_files.SLAB_BYTES", 50_000)
    node, path = load(drawn["PVP"], "x"), tmp_path / "PVP.nrrd"
    writing = writing_phase(node, path)
    parts = [next(writing) for _ in range(3)]
    assert 0 < parts[0] < parts[1] < parts[2] < 1 and not path.exists()
    node.GetScene().RemoveNode(node)  # the volume goes, its voxels are held
    del node
    assert next(writing) > parts[2]
    writing.close()
    assert list(tmp_path.iterdir()) == []
    assert list(writing_phase(load(drawn["PVP"], "x"), path))[-1] == 1.0 and path.exists()


def test_a_full_disk_is_a_sentence_and_leaves_nothing(load, drawn, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(InputError, match=r"^PVP: .*make room.*\.$"):
            write_phase(load(drawn["PVP"], "x"), tmp_path / "PVP.nrrd")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="PVP"):
        write_phase(load(drawn["PVP"], "x"), tmp_path / "gone" / "PVP.nrrd")


def test_an_empty_volume_is_refused(scene, tmp_path):
    with pytest.raises(InputError, match=r"^PC: .*empty"):
        write_phase(scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Jane Doe"), tmp_path / "PC.nrrd")


def test_the_key_changes_with_voxels_place_and_transform_and_with_nothing_else(scene, load, drawn):
    nodes = {phase: load(drawn[phase], phase) for phase in ("AP", "PVP")}
    key = exam_key(nodes)
    seen = {key}
    node = nodes["AP"]
    node.SetName("another")
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetWindowLevel(100, 50)
    assert np.ptp(slicer.util.arrayFromVolume(node)) and node.GetImageData().GetScalarRange()
    assert exam_key(nodes) == key

    def changed() -> bool:
        key = exam_key(nodes)
        new = key not in seen
        seen.add(key)
        return new and exam_key(nodes) == key

    slicer.util.arrayFromVolume(node)[0, 0, 0] = 7
    slicer.util.arrayFromVolumeModified(node)
    assert changed()
    node.SetSpacing(1, 2, 3)
    assert changed()
    transform = put_under(scene, node, turned(10))
    assert changed()
    transform.SetMatrixTransformToParent(vtk_matrix(turned(11)))
    assert changed()
    bent = scene.AddNewNodeByClass("vtkMRMLGridTransformNode")
    bent.SetAndObserveTransformFromParent(grid_transform(sitk.GetImageFromArray(np.zeros((2, 2, 2, 3)), isVector=True)))
    transform.SetAndObserveTransformNodeID(bent.GetID())
    assert changed()
    bent.SetAndObserveTransformFromParent(grid_transform(sitk.GetImageFromArray(np.ones((2, 2, 2, 3)), isVector=True)))
    assert changed()
    assert exam_key({**nodes, "AP": nodes["PVP"]}) not in seen and exam_key({"AP": node}) not in seen


# boxes --------------------------------------------------------------------------------------------------------------------


def test_a_roi_is_sent_as_it_is_shown(scene):
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "Jane Doe")
    with pytest.raises(InputError):
        roi_body(roi)
    roi.SetCenter(10, 20, 30)
    roi.SetSize(20, 30, 40)
    put_under(scene, roi, turned(20))
    body = roi_body(roi)
    assert body["id"] == roi.GetID() and body["source"] == "radiologist" and body["score"] is None
    assert np.allclose(body["center_ras_mm"], (turned(20) @ [10, 20, 30, 1])[:3])
    assert np.allclose(body["size_mm"], (20, 30, 40)) and np.allclose(np.array(body["axes_ras"]).T, turned(20)[:3, :3])
