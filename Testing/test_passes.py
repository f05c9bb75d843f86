"""One stored series that holds several passes over the body: parted by tags, pauses or jumps, never by the ticking of a clock."""

import numpy as np
import pytest
import SimpleITK as sitk
from PediatricLiverDxLib.dicom import read_disc
from PediatricLiverDxLib.dicom_volume import series_image
from PediatricLiverDxLib.exam import read_exam
from PediatricLiverDxLib.vocabulary import PHASES, InputError
from synthetic_ct import abdomen, write_series

SLICE_MM = 4.0
EXTENTS = {"PC": (3, 15), "AP": (2, 14), "PVP": (0, 16), "DP": (0, 16)}  # first slice and the one after the last
STARTS = {"PC": 100000, "AP": 100130, "PVP": 100200, "DP": 100400}


def write_passes(folder, phases, per_slice, extents=EXTENTS, matrix=96, **tags):
    """Write phases into one stored series; per_slice(phase, index, running number) gives tags of a slice."""
    running, written = 0, []
    for seed, phase in enumerate(phases):
        first, end = extents[phase]
        hu = abdomen(phase, slices=16, matrix=matrix, seed=seed)[first:end]
        write_series(
            folder / f"x{seed}", hu, origin=(-140, -140, -300 + SLICE_MM * first), SeriesInstanceUID="1.2.7",
            per_slice=lambda z, phase=phase, running=running: per_slice(phase, z, running + z + 1), **tags,
        )  # fmt: skip
        running += len(hu)
        written.append(hu)
    return written


def voxels(series):
    return [sitk.GetArrayFromImage(series_image(one)[0]) for one in series]


def assert_parted(folder, written):
    parts = read_disc(folder).series
    assert [one.label for one in parts] == [f"series 3 part {n}" for n in range(1, len(written) + 1)]
    assert [one.number for one in parts] == list(range(1, len(written) + 1))
    for ours, hu in zip(voxels(parts), written, strict=True):
        assert np.array_equal(ours, hu)


def ticking(phase, z, running):
    """A clock that ticks every fourth slice, and instance numbers that run on from pass to pass."""
    return {"ContentTime": f"{STARTS[phase] + z // 4:06d}", "InstanceNumber": running}


def test_a_clock_that_ticks_every_fourth_slice_does_not_part_a_pass(tmp_path):
    assert_parted(tmp_path, write_passes(tmp_path, ["PVP", "DP"], ticking, matrix=32))


@pytest.mark.parametrize(
    "per_slice",
    [
        ticking,
        lambda phase, z, running: {"AcquisitionTime": f"{STARTS[phase] + z // 4:06d}.{z % 4}", "ContentTime": "110000"},
        lambda phase, z, running: {"InstanceNumber": running},
        lambda phase, z, running: {"AcquisitionTime": f"{STARTS[phase]:06d}"},
        lambda phase, z, running: {"AcquisitionNumber": 9 + PHASES.index(phase)},
        lambda phase, z, running: {"TemporalPositionIdentifier": 1 + PHASES.index(phase), "AcquisitionTime": "100000"},
    ],
    ids=["content time", "acquisition time", "instance number", "time of pass", "acquisition number", "temporal position"],
)
def test_four_passes_of_different_extent(tmp_path, per_slice):
    assert_parted(tmp_path, write_passes(tmp_path, PHASES, per_slice, matrix=32))


def test_passes_whose_positions_do_not_meet_are_not_read_as_one_stack(tmp_path):
    first, second = (abdomen(phase, slices=16, matrix=32) for phase in ("AP", "PVP"))
    for number, (hu, offset, time) in enumerate(((first, 0.0, "100130"), (second, SLICE_MM / 2, "100200"))):
        write_series(
            tmp_path / str(number), hu, origin=(-140, -140, -300 + offset), SeriesInstanceUID="1.2.7", AcquisitionTime=time,
        )  # fmt: skip
    assert_parted(tmp_path, [first, second])


def test_one_pass_stays_one(tmp_path):
    """Rotations with their own acquisition numbers and times, a pause of 20 s for breath, and instance numbers from head to feet."""
    tags = {"PVP": lambda z: {"AcquisitionNumber": z // 4, "AcquisitionTime": f"1000{z + 20 * (z > 7):02d}", "InstanceNumber": 99 - z}}
    hu = abdomen("PVP", slices=16, matrix=32)
    write_series(tmp_path, hu, per_slice=tags["PVP"])
    (series,) = read_disc(tmp_path).series
    assert (series.label, series.number) == ("series 3", 0)
    assert np.array_equal(voxels([series])[0], hu)


def test_two_voltages_in_one_series(tmp_path):
    written = [abdomen(phase, slices=8, matrix=32) for phase in ("AP", "PVP")]
    for number, (hu, voltage) in enumerate(zip(written, (80, 140), strict=True)):
        write_series(tmp_path / str(number), hu, SeriesInstanceUID="1.2.7", AcquisitionTime="100000", KVP=voltage)
    assert_parted(tmp_path, written)


def test_a_named_series_of_two_passes_is_whole_and_doubted(tmp_path):
    portal, _ = write_passes(tmp_path, ["PVP", "DP"], ticking, SeriesDescription="Abd portal venous")
    exam = read_exam(tmp_path)
    assert np.array_equal(sitk.GetArrayViewFromImage(exam.phases["PVP"].image), portal)
    (doubt,) = [warning for warning in exam.warnings if getattr(warning, "grave", False)]
    assert doubt == "PVP: one series of that name holds 2 passes over the body; series 3 part 1 is used, give the phase if it is another."


def test_a_named_series_of_two_voltages_is_one_phase(tmp_path):
    plain, portal = abdomen("PC").astype(float), abdomen("PVP")
    bright = np.round(plain + 1.5 * (portal - plain)).astype(np.int16)
    for voltage, hu in ((80, bright), (120, portal)):
        write_series(tmp_path / f"x{voltage}", hu, SeriesInstanceUID="1.2.7", SeriesDescription="portal", KVP=voltage)
    exam = read_exam(tmp_path)
    assert np.array_equal(sitk.GetArrayViewFromImage(exam.phases["PVP"].image), portal)
    assert list(exam.warnings) == [
        "PVP: 2 series fit; series 3 part 1 is used (4 mm, soft or standard kernel, 120 kV), not series 3 part 2."
    ]


def test_a_named_series_that_covers_little_is_doubted(tmp_path):
    write_series(tmp_path / "a", abdomen("PVP", slices=5), SeriesDescription="portal", SeriesNumber=4)
    write_series(tmp_path / "b", abdomen("AP", seed=1), SeriesDescription="arterial", SeriesNumber=5)
    doubts = [warning for warning in read_exam(tmp_path).warnings if getattr(warning, "grave", False)]
    assert "PVP: series 4 covers 16 mm, another series of the exam 60 mm; check that it holds the whole liver." in doubts


def test_a_named_series_in_small_parts_is_refused(tmp_path):
    extents = {"PC": (0, 6), "AP": (3, 9), "PVP": (5, 11), "DP": (8, 14)}
    tags = {"SeriesDescription": "portal", "matrix": 32}
    write_passes(tmp_path, PHASES, lambda phase, z, running: {"AcquisitionNumber": PHASES.index(phase)}, extents, **tags)
    with pytest.raises(InputError, match=r"^PVP: expected a pass .* got parts of series 3 of which the best covers 20 of 52 mm;"):
        read_exam(tmp_path)
