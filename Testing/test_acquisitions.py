"""Which series were reconstructed from one acquisition, in which order acquisitions were made, and which energy stands for one."""

import numpy as np
import pytest
import synthetic_ct
from PediatricLiverDxLib.exam import read_exam
from synthetic_ct import abdomen, write_series


def late_phases(*shares):
    """Volumes between portal venous (10) and delayed (0): 6 and 2 are too alike to be told apart by brightness alone, 8 and 2 are not."""
    portal, delayed = abdomen("PVP").astype(int), abdomen("DP").astype(int)
    return [((share * portal + (10 - share) * delayed) // 10).astype(np.int16) for share in shares]


def sources(exam):
    return {phase: volume.source for phase, volume in exam.phases.items()}


def grave(exam):
    return [warning for warning in exam.warnings if getattr(warning, "grave", False)]


# Order


@pytest.mark.parametrize("tag", ["TemporalPositionIdentifier", "AcquisitionNumber"])
@pytest.mark.parametrize("numbers", [(1, 2), (9, 10)])
def test_tags_that_count_put_passes_of_one_series_in_order(tmp_path, tag, numbers):
    first, second = late_phases(6, 2)
    for number, hu in zip(numbers[::-1], (second, first), strict=True):
        write_series(tmp_path / f"x{number}", hu, SeriesInstanceUID="1.2.7", AcquisitionTime="100000", **{tag: number})
    exam = read_exam(tmp_path)
    assert sources(exam) == {"PVP": "series 3 part 1", "DP": "series 3 part 2"}
    assert {volume.recognised for volume in exam.phases.values()} == {"image brightness and order of acquisition"}
    assert grave(exam) == []


def test_acquisition_numbers_put_series_without_times_in_order(tmp_path):
    for number, (series, hu) in enumerate(zip((9, 4), late_phases(8, 2), strict=True), 1):
        write_series(tmp_path / f"x{number}", hu, SeriesNumber=series, AcquisitionNumber=number)
    exam = read_exam(tmp_path)
    assert sources(exam) == {"PVP": "series 9", "DP": "series 4"}
    assert {volume.recognised for volume in exam.phases.values()} == {"image brightness and order of acquisition"}
    assert grave(exam) == []


def test_instance_numbers_part_passes_but_say_nothing_about_contrast(tmp_path):
    for number, hu in enumerate(late_phases(6, 2)):
        write_series(tmp_path / f"x{number}", hu, SeriesInstanceUID="1.2.7", per_slice=lambda z, n=number: {"InstanceNumber": 100 * n + z})
    exam = read_exam(tmp_path)
    assert {volume.recognised for volume in exam.phases.values()} == {"image brightness"}
    assert [warning.split(":")[0] for warning in grave(exam) if "not certain" in warning] == ["series 3 part 1", "series 3 part 2"]


def test_passes_with_one_time_are_not_one_acquisition(tmp_path):
    """The time of the first pass is written into all of them; another series with its own time shows that times are kept."""
    for number, phase in enumerate(("AP", "PVP", "DP"), 1):
        tags = {"SeriesInstanceUID": "1.2.7", "AcquisitionTime": "100130", "TemporalPositionIdentifier": number}
        write_series(tmp_path / f"x{number}", abdomen(phase, seed=number), **tags)
    write_series(tmp_path / "x0", abdomen("PC", seed=4), SeriesNumber=2, AcquisitionTime="100007")
    exam = read_exam(tmp_path)
    assert sources(exam) == {"PC": "series 2", "AP": "series 3 part 1", "PVP": "series 3 part 2", "DP": "series 3 part 3"}


# Phases without a name

#: HU of liver, aorta, portal vein and kidney where brightness alone tells arterial and portal venous phase from the next ones badly.
LATE_ARTERIAL, WEAK_PORTAL = (92, 208, 122, 150), (101, 132, 128, 146)


@pytest.mark.parametrize("times", [("1000", "1003", "1003"), ("100012", "100331", "100408")], ids=["cut to minutes", "exact"])
def test_three_thin_series_without_a_delayed_phase(tmp_path, monkeypatch, times):
    monkeypatch.setitem(synthetic_ct.ORGANS, "late", LATE_ARTERIAL)
    monkeypatch.setitem(synthetic_ct.ORGANS, "weak", WEAK_PORTAL)
    for number, (organs, time) in enumerate(zip(("PC", "late", "weak"), times, strict=True), 2):
        hu = abdomen(organs, slices=60, seed=number)
        write_series(tmp_path / f"x{number}", hu, spacing=(3, 3, 1), SeriesNumber=number, AcquisitionTime=time)
    assert sources(read_exam(tmp_path)) == {"PC": "series 2", "AP": "series 3", "PVP": "series 4"}


def write_numbered(folder, **phases):
    for number, (name, organs) in enumerate(phases.items(), 4):
        write_series(folder / f"x{number}", abdomen(organs, seed=number), SeriesNumber=number, SeriesDescription=f"上腹{name}")


def test_numbered_phases_that_the_image_confirms(tmp_path):
    write_numbered(tmp_path, 平扫="PC", 增强一期="AP", 增强二期="PVP", 增强三期="DP")
    exam = read_exam(tmp_path)
    assert sources(exam) == {"PC": "series 4", "AP": "series 5", "PVP": "series 6", "DP": "series 7"}
    assert {exam.phases[phase].recognised for phase in ("AP", "PVP", "DP")} == {"image brightness and number in its name"}
    assert exam.warnings == ()


def test_the_number_decides_where_the_image_cannot(tmp_path, monkeypatch):
    monkeypatch.setitem(synthetic_ct.ORGANS, "late", LATE_ARTERIAL)
    monkeypatch.setitem(synthetic_ct.ORGANS, "weak", WEAK_PORTAL)
    write_numbered(tmp_path, 增强一期="late", 增强二期="weak")
    exam = read_exam(tmp_path)
    assert sources(exam) == {"AP": "series 4", "PVP": "series 5"}


def test_numbers_that_the_image_denies_are_grave(tmp_path):
    write_numbered(tmp_path, 增强一期="DP", 增强二期="PVP", 增强三期="AP")
    exam = read_exam(tmp_path)
    doubts = [warning for warning in grave(exam) if "number in its name, which is not certain" in warning]
    assert [doubt.split(":")[0] for doubt in doubts] == ["series 4", "series 6"]


def test_in_three_phases_is_no_third_phase(tmp_path):
    for number, organs in enumerate(("AP", "PVP", "DP"), 4):
        write_series(tmp_path / f"x{number}", abdomen(organs, seed=number), SeriesNumber=number, SeriesDescription="增强三期")
    exam = read_exam(tmp_path)
    assert sources(exam) == {"AP": "series 4", "PVP": "series 5", "DP": "series 6"}
    assert {volume.recognised for volume in exam.phases.values()} == {"image brightness"}


# Energies

EQUIVALENT = "MonoenergeticEnergyEquivalent"


def write_energies(folder, *energies, phase="PVP"):
    """Write one phase at several energies, as (words of the description, tags, how many times as bright iodine is)."""
    plain, enhanced = abdomen("PC").astype(float), abdomen(phase).astype(float)
    for number, (words, tags, iodine) in enumerate(energies, 4):
        hu = np.round(plain + iodine * (enhanced - plain)).astype(np.int16)
        tags = {"SeriesNumber": number, "AcquisitionTime": "100207", "SeriesDescription": f"Abd portal 3.0 {words}", **tags}
        write_series(folder / f"x{number}", hu, **tags)


@pytest.mark.parametrize(
    ("energies", "used"),
    [
        ([("Mono 40keV", {}, 2.5), ("Mono 70 keV", {}, 1.0)], "series 5 is used (4 mm, soft or standard kernel, 70 keV), not series 4"),
        ([("MonoE 40", {}, 2.5), ("MonoE 100", {}, 0.5), ("VMI 68", {}, 1.0)], "series 6 is used (4 mm, soft or standard kernel, 68 keV)"),
        ([("80kV", {}, 1.5), ("Sn150kV", {}, 0.6), ("M_0.6", {"ImageType": ["DERIVED", "PRIMARY"]}, 1)], "kernel, mixed energies)"),
        ([("", {"KVP": 80}, 1.5), ("", {"KVP": 120}, 1)], "series 5 is used (4 mm, soft or standard kernel, 120 kV), not series 4"),
        ([("", {EQUIVALENT: 45.0}, 2), ("", {EQUIVALENT: 70.0}, 1)], "kernel, 70 keV), not series 4"),
        ([("", {"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "MONO_40KEV"]}, 2), ("", {}, 1)], "series 5 is used (4 mm, soft or st"),
    ],
    ids=["mono", "no unit", "dual source", "voltage", "tag", "image type"],
)  # fmt: skip
def test_of_several_energies_the_one_like_120_kv_is_used_and_named(tmp_path, energies, used):
    write_energies(tmp_path, *energies)
    exam = read_exam(tmp_path)
    assert sources(exam) == {"PVP": f"series {3 + len(energies)}"}
    assert any(used in warning for warning in exam.warnings), exam.warnings
    assert grave(exam) == []


def test_a_low_energy_alone_is_grave(tmp_path):
    write_energies(tmp_path, ("Mono+ 40 keV", {}, 1.1))
    doubts = grave(read_exam(tmp_path))
    assert [doubt for doubt in doubts if doubt.startswith("PVP: expected an image as at 120 kV, got only one at 40 keV, in which")]


def test_a_childs_80_kv_is_no_doubt(tmp_path):
    write_energies(tmp_path, ("80kV", {"KVP": 80}, 1.1))
    assert read_exam(tmp_path).warnings == ()


# One acquisition


def write_reconstructions(folder, times, **tags):
    """Write each phase thin and noisy, thick, with a lung kernel, and coronal, with no word on the phase."""
    for number, (phase, time) in enumerate(times.items(), 1):
        tags["AcquisitionTime"] = time
        thin = abdomen(phase, slices=46, seed=number).astype(float)
        noise = np.random.default_rng(number)
        common = {"origin": (-140, -140, -300), "SeriesDescription": "Abd"}
        kinds = (
            (thin + noise.normal(0, 25, thin.shape), 1.0, "B30f"),
            (thin[::3] + noise.normal(0, 8, thin[::3].shape), 3.0, "B30f"),
            (thin[::3] + np.diff(noise.normal(0, 20, (16, 96, 97))), 3.0, "B70f"),  # fine-grained, as from a sharp kernel
        )
        for kind, (hu, step, kernel) in enumerate(kinds):
            hu = np.clip(np.round(hu), -1024, 3000).astype(np.int16)
            write_series(
                folder / f"x{number}{kind}",
                hu,
                spacing=(3, 3, step),
                SeriesNumber=10 * number + kind,
                ConvolutionKernel=kernel,
                **common,
                **tags,
            )
        write_series(
            folder / f"x{number}c",
            thin.astype(np.int16)[:20],
            orientation=(1, 0, 0, 0, 0, -1),
            SeriesNumber=10 * number + 5,
            **common,
            **tags,
        )


@pytest.mark.parametrize(
    "times",
    [
        {"PC": "100000", "AP": "100200", "PVP": "100400"},
        {"PC": "100000", "AP": "100200", "PVP": "100200"},
        {"PC": "100000", "AP": "100131", "PVP": "100200"},
    ],
    ids=["whole minutes", "cut to minutes", "one whole minute"],
)
def test_reconstructions_of_one_acquisition_are_one_volume(tmp_path, times):
    write_reconstructions(tmp_path, times)
    exam = read_exam(tmp_path)
    assert sources(exam) == {"PC": "series 11", "AP": "series 21", "PVP": "series 31"}


def test_equal_acquisition_numbers_confirm_times_on_whole_minutes(tmp_path):
    """The voxels differ here: the second is another volume altogether, so only the headers can have joined them."""
    for number, phase in enumerate(("PVP", "DP")):
        tags = {"SeriesNumber": 5 + number, "SeriesDescription": ("portal", "")[number], "AcquisitionTime": "100200"}
        write_series(tmp_path / f"x{number}", abdomen(phase), AcquisitionNumber=3, **tags)
    write_series(tmp_path / "x9", abdomen("AP"), SeriesNumber=4, AcquisitionNumber=2, AcquisitionTime="100100")
    exam = read_exam(tmp_path)
    assert sources(exam) == {"AP": "series 4", "PVP": "series 5"}
    assert any("PVP: 2 series fit" in warning for warning in exam.warnings)
