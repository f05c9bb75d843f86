"""How near phantoms come to real CT: noise power spectrum, noise SD, edge sharpness and HU histograms, measured in the same way on both.

    python -m training.phantom.realism --exams PHANTOM_FOLDER --real REAL_CT_FOLDER -o docs

writes `realism.png` and `realism.json`. Only statistics leave this module, no image of a real scan. Volumes are (slice, row, column) in HU,
spacings (z, y, x) in mm.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.ndimage
import SimpleITK as sitk

#: Side of the square patches that a noise power spectrum is taken from, mm.
PATCH_MM = 24.0
FREQUENCIES = np.arange(0.025, 0.75, 0.05)
EDGE_MM = np.arange(-6.0, 6.01, 0.25)
HU_BINS = np.arange(-200.0, 301.0, 4.0)
SCALARS = (
    "noise_sd_hu",
    "liver_hu",
    "mean_frequency",
    "peak_frequency",
    "lateral_ratio",
    "slice_correlation",
    "skin_rise_mm",
    "fat_rise_mm",
)
AXIS_NAMES = {
    "noise_sd_hu": "noise SD in the liver, HU",
    "mean_frequency": "mean noise frequency, 1/mm",
    "fat_rise_mm": "10-90 % distance, fat to soft tissue, mm",
    "lateral_ratio": "noise across lateral / across AP rays",
}


@dataclass(frozen=True)
class ScanStatistics:
    """What is measured on one scan; NaN where the scan does not show it."""

    name: str
    spacing_mm: tuple[float, float, float]
    noise_sd_hu: float  # median SD of detrended patches inside the liver
    liver_hu: float
    spectrum: np.ndarray  # radial noise power at FREQUENCIES, per 1/mm, area 1
    mean_frequency: float  # 1/mm, of the spectrum below 0.45 per mm, which pixels of 1 mm still show
    peak_frequency: float
    lateral_ratio: float  # noise power across lateral rays (fy axis) over that across antero-posterior rays (fx axis)
    slice_correlation: float  # of the noise in neighbouring slices
    skin_edge: np.ndarray  # HU at EDGE_MM from the skin's -500 HU crossing, negative = outside
    skin_rise_mm: float  # 10 to 90 % distance of that edge
    fat_edge: np.ndarray  # HU at EDGE_MM from the -30 HU crossing between fat and soft tissue
    fat_rise_mm: float
    histogram: np.ndarray  # share of the body's voxels per HU_BINS

    def to_dict(self) -> dict:
        """The numbers, without the curves."""
        return {"name": self.name, "spacing_mm": [round(s, 3) for s in self.spacing_mm]} | {k: _rounded(getattr(self, k)) for k in SCALARS}


def measure(image: sitk.Image, name: str) -> ScanStatistics:
    """Measure a scan in HU, brought to axes x to left, y to posterior, z to superior."""
    image = sitk.DICOMOrient(image, "LPS")
    hu = np.clip(sitk.GetArrayFromImage(image).astype(np.float32), -1024.0, 3071.0)
    spacing = tuple(float(s) for s in image.GetSpacing()[::-1])
    body = body_mask(hu, spacing)
    liver = liver_mask(hu, spacing, body)
    patches = _patches(hu, liver, spacing)
    spectrum, ratio = radial_spectrum(patches, spacing[1])
    area = np.nansum(spectrum) * 0.05
    spectrum = spectrum / area if area > 0 else spectrum
    known = np.isfinite(spectrum) & (FREQUENCIES < 0.45)
    skin = edge_response(hu, body, spacing, crossing=-500.0, low=(-1100.0, -850.0), high=(-250.0, 150.0))
    deep = scipy.ndimage.binary_erosion(body, _disc(1.5, spacing))
    fat = edge_response(hu, deep, spacing, crossing=-30.0, low=(-130.0, -70.0), high=(10.0, 130.0))
    inside = hu[scipy.ndimage.binary_erosion(body, _disc(2.0, spacing))]
    counts = np.histogram(inside, HU_BINS)[0] / max(len(inside), 1)
    return ScanStatistics(
        name=name,
        spacing_mm=spacing,
        noise_sd_hu=float(np.median([p.std() for p in patches])) if patches else np.nan,
        liver_hu=float(np.median(hu[liver])) if liver.any() else np.nan,
        spectrum=spectrum,
        mean_frequency=float(np.sum(FREQUENCIES[known] * spectrum[known]) / np.sum(spectrum[known])) if known.any() else np.nan,
        peak_frequency=float(FREQUENCIES[known][np.argmax(spectrum[known])]) if known.any() else np.nan,
        lateral_ratio=ratio,
        slice_correlation=_slice_correlation(hu, liver),
        skin_edge=skin,
        skin_rise_mm=rise_distance(skin),
        fat_edge=fat,
        fat_rise_mm=rise_distance(fat),
        histogram=counts,
    )


def body_mask(hu: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """The patient without the couch: slice by slice the largest piece above -300 HU after thin things are opened away, holes filled."""
    reach = max(round(4.0 / spacing[1]), 1)
    body = np.zeros(hu.shape, bool)
    for i, plane in enumerate(hu):
        pieces, n = scipy.ndimage.label(scipy.ndimage.binary_opening(plane > -300.0, iterations=reach))
        if n:
            body[i] = scipy.ndimage.binary_fill_holes(pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:]))
    return body


def liver_mask(hu: np.ndarray, spacing: tuple[float, float, float], body: np.ndarray) -> np.ndarray:
    """The inside of the liver, as far as brightness alone finds it: the largest homogeneous piece of soft tissue on the patient's right."""
    sigma = tuple(2.5 / s if i else min(1.5 / s, 1.0) for i, s in enumerate(spacing))
    calm = scipy.ndimage.gaussian_filter(hu, sigma)
    columns = np.flatnonzero(body.any(axis=(0, 1)))
    if not len(columns):
        return np.zeros_like(body)
    right = np.zeros_like(body)
    right[..., : (columns[0] + columns[-1]) // 2] = True
    values = calm[body & right & (calm > 20.0) & (calm < 180.0)]
    if len(values) < 1000:
        return np.zeros_like(body)
    # Right of the spine the liver is the largest organ, so its HU is the mode, once the thin muscles of the wall are opened away.
    soft = scipy.ndimage.binary_opening(body & right & (calm > 20.0) & (calm < 180.0), _disc(8.0, spacing))
    counts, edges = np.histogram(calm[soft] if soft.any() else values, np.arange(20.0, 184.0, 4.0))
    mode = edges[np.argmax(scipy.ndimage.gaussian_filter1d(counts.astype(float), 1.0))] + 2.0
    piece = scipy.ndimage.binary_opening(soft & (np.abs(calm - mode) < 18.0), _disc(6.0, spacing))
    labels, n = scipy.ndimage.label(piece)
    if not n:
        return np.zeros_like(body)
    piece = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    return scipy.ndimage.binary_erosion(piece, _disc(3.0, spacing))


def _disc(radius_mm: float, spacing: tuple[float, float, float]) -> np.ndarray:
    reach = max(round(radius_mm / spacing[1]), 1)
    y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    return (y * y + x * x <= reach * reach)[None]


def _patches(hu: np.ndarray, mask: np.ndarray, spacing: tuple[float, float, float], most: int = 200) -> list[np.ndarray]:
    """Square patches that lie in the mask (up to a tenth), each less its second-order trend; the uneven half (vessels) is dropped."""
    side = max(round(PATCH_MM / spacing[1]), 8)
    yy, xx = (a.ravel() for a in np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side), indexing="ij"))
    basis, _ = np.linalg.qr(np.stack([np.ones_like(yy), yy, xx, yy * xx, yy**2, xx**2], axis=1))
    found = []
    for i in range(hu.shape[0]):
        for r in range(0, hu.shape[1] - side, side // 2):
            for c in range(0, hu.shape[2] - side, side // 2):
                if mask[i, r : r + side, c : c + side].mean() > 0.9:
                    patch = hu[i, r : r + side, c : c + side].ravel().astype(np.float64)
                    found.append((patch - basis @ (basis.T @ patch)).reshape(side, side))
    blurred = [scipy.ndimage.gaussian_filter(p, 2.5 / spacing[1]).std() / max(p.std(), 1e-6) for p in found]
    found = [p for p, b in zip(found, blurred, strict=True) if b <= np.median(blurred)]
    return found[:: max(len(found) // most, 1)]


def radial_spectrum(patches: list[np.ndarray], pixel_mm: float) -> tuple[np.ndarray, float]:
    """Mean noise power of the patches at FREQUENCIES (NaN beyond Nyquist), and the power near the fy axis over that near the fx axis."""
    if not patches:
        return np.full(len(FREQUENCIES), np.nan), np.nan
    side = patches[0].shape[0]
    power = np.mean([np.abs(np.fft.fft2(p)) ** 2 for p in patches], axis=0) * pixel_mm**2 / side**2
    f = np.fft.fftfreq(side, pixel_mm)
    fy, fx = np.meshgrid(f, f, indexing="ij")
    radius = np.hypot(fy, fx)
    spectrum = np.full(len(FREQUENCIES), np.nan)
    for i, middle in enumerate(FREQUENCIES):
        ring = (np.abs(radius - middle) <= 0.025) & (radius > 0) & (radius <= 0.5 / pixel_mm)
        if ring.any() and middle < 0.5 / pixel_mm:
            spectrum[i] = power[ring].mean()
    band = (radius > 0.08) & (radius < 0.45 / pixel_mm)
    near_y, near_x = band & (np.abs(fx) < 0.4 * np.abs(fy)), band & (np.abs(fy) < 0.4 * np.abs(fx))
    return spectrum, float(power[near_y].mean() / power[near_x].mean())


def _slice_correlation(hu: np.ndarray, mask: np.ndarray) -> float:
    """Correlation of neighbouring slices in the mask after anatomy (anything wider than a few pixels) is taken away."""
    if len(hu) < 2 or not mask.any():
        return np.nan
    fine = hu - scipy.ndimage.gaussian_filter(hu, (0, 2.0, 2.0))
    both = mask[1:] & mask[:-1]
    return float(np.corrcoef(fine[1:][both], fine[:-1][both])[0, 1]) if both.sum() > 100 else np.nan


def edge_response(
    hu: np.ndarray,
    region: np.ndarray,
    spacing: tuple[float, float, float],
    *,
    crossing: float,
    low: tuple[float, float],
    high: tuple[float, float],
    most: int = 6000,
) -> np.ndarray:
    """Median in-plane profile across edges: HU at EDGE_MM along the normal, for edges with 3 to 5 mm of `low` before and of `high` after.

    Edges are found and aligned on a slightly smoothed copy (sigma 1 mm), values are taken from the scan itself.
    """
    sigma = 1.0 / spacing[1]
    rng = np.random.default_rng(0)
    profiles = []
    for i in range(len(hu)):
        calm = scipy.ndimage.gaussian_filter(hu[i], sigma)
        near = scipy.ndimage.binary_dilation(region[i], iterations=2)
        above = calm > crossing
        rim = above & ~scipy.ndimage.binary_erosion(above) & near
        rim[[0, -1]] = rim[:, [0, -1]] = False
        places = np.argwhere(rim)
        if not len(places):
            continue
        places = places[rng.permutation(len(places))[: max(most // len(hu), 40)]]
        gy, gx = np.gradient(calm)
        normal = np.stack([gy[tuple(places.T)], gx[tuple(places.T)]], axis=1)
        length = np.linalg.norm(normal, axis=1, keepdims=True)
        normal = normal / np.maximum(length, 1e-6)
        start = places + normal * ((crossing - calm[tuple(places.T)])[:, None] / np.maximum(length, 1e-6))
        points = start[:, None] + normal[:, None] * (EDGE_MM / spacing[1])[None, :, None]
        profiles.append(scipy.ndimage.map_coordinates(hu[i], points.transpose(2, 0, 1), order=1, mode="nearest"))
    if not profiles:
        return np.full(len(EDGE_MM), np.nan)
    profiles = np.concatenate(profiles)
    before = profiles[:, (EDGE_MM >= -5) & (EDGE_MM <= -3)].mean(axis=1)
    after = profiles[:, (EDGE_MM >= 3) & (EDGE_MM <= 5)].mean(axis=1)
    chosen = (before > low[0]) & (before < low[1]) & (after > high[0]) & (after < high[1])
    return np.median(profiles[chosen], axis=0) if chosen.sum() >= 30 else np.full(len(EDGE_MM), np.nan)


def rise_distance(edge: np.ndarray) -> float:
    """10 to 90 % distance in mm of a mean edge profile, between its levels 3 to 5 mm away on either side."""
    if not np.isfinite(edge).all():
        return np.nan
    low = edge[(EDGE_MM >= -5) & (EDGE_MM <= -3)].mean()
    high = edge[(EDGE_MM >= 3) & (EDGE_MM <= 5)].mean()
    share = (edge - low) / (high - low)
    middle = int(np.argmin(np.abs(EDGE_MM)))
    at90 = middle + int(np.argmax(share[middle:] >= 0.9))
    below = np.flatnonzero(share[: middle + 1] <= 0.1)
    at10 = int(below[-1]) if len(below) else 0
    first = EDGE_MM[at10] + 0.25 * (0.1 - share[at10]) / max(share[at10 + 1] - share[at10], 1e-6)
    last = EDGE_MM[at90 - 1] + 0.25 * (0.9 - share[at90 - 1]) / max(share[at90] - share[at90 - 1], 1e-6)
    return float(last - first)


def _rounded(value: float) -> float | None:
    return round(float(value), 3) if np.isfinite(value) else None


def real_scans(folder: Path) -> Iterator[tuple[str, sitk.Image]]:
    """Every CT below a folder: NIfTI files that are not label maps, and DICOM series of CT with at least three slices."""
    for path in sorted(folder.rglob("*.nii*")):
        if "seg" not in path.name:
            yield path.name.split(".")[0], sitk.ReadImage(str(path), sitk.sitkFloat32)
    for directory in sorted(p for p in (folder, *folder.rglob("*")) if p.is_dir()):
        for series in sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(directory)):
            files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(directory), series)
            if len(files) >= 3:
                reader = sitk.ImageSeriesReader()
                reader.SetFileNames(files)
                yield directory.name, reader.Execute()


def phantom_scans(folder: Path, most: int, phases: tuple[str, ...] = ("PC",)) -> Iterator[tuple[str, sitk.Image]]:
    """These phases of the exam folders below a folder, at most so many scans, evenly spread. Unenhanced by default: in the other phases
    vessels and uneven enhancement pass for noise of low frequency."""
    paths = sorted(p for phase in phases for p in folder.rglob(f"{phase}.nrrd"))
    for path in paths[:: max(len(paths) // most, 1)][:most]:
        yield f"{path.parent.name} {path.stem}", sitk.ReadImage(str(path))


def compare(real: list[ScanStatistics], phantoms: list[ScanStatistics], picture: Path) -> None:
    """Draw the figure: each panel shows the phantoms' 5 to 95 % band and median, with every real scan as a line on it."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(13, 7), layout="constrained")
    panels = (
        ("spectrum", FREQUENCIES, "Noise power spectrum in the liver", "spatial frequency, 1/mm", "share per 1/mm"),
        ("skin_edge", EDGE_MM, "Edge between air and skin", "distance, mm (negative: air)", "HU"),
        ("fat_edge", EDGE_MM, "Edge between fat and soft tissue", "distance, mm (negative: fat)", "HU"),
        ("histogram", HU_BINS[:-1] + 2.0, "HU in the body", "HU", "share of voxels per 4 HU"),
    )
    colours = dict(zip([s.name for s in real], plt.cm.tab10.colors, strict=False))
    for axis, (key, x, title, x_label, y_label) in zip(axes.ravel(), panels, strict=False):
        curves = np.stack([getattr(s, key) for s in phantoms])
        known = np.isfinite(curves).sum(axis=0) >= max(len(curves) // 10, 1)
        if known.any():
            low, middle, high = np.nanpercentile(curves[:, known], (5, 50, 95), axis=0)
            axis.fill_between(x[known], low, high, color="0.85", label=f"{len(phantoms)} phantom scans, 5-95 %")
            axis.plot(x[known], middle, color="0.45", linewidth=1.2, label="phantoms, median")
        for scan in real:
            curve = getattr(scan, key)
            if np.isfinite(curve).any() and not (key == "spectrum" and scan.spacing_mm[1] > 2.0):
                coarse = scan.spacing_mm[1] > 1.0  # resampled before it was published: sharpness and noise are no longer the scanner's
                label = f"{scan.name} ({scan.spacing_mm[1]:.2g} mm)"
                axis.plot(x, curve, color=colours[scan.name], linewidth=1.3, linestyle=":" if coarse else "-", label=label)
        axis.set(title=title, xlabel=x_label, ylabel=y_label)
    axes[0, 0].legend(fontsize=7)
    axes[0, 2].legend(fontsize=7, loc="lower right")
    for axis, pair in zip(axes.ravel()[4:], (("noise_sd_hu", "mean_frequency"), ("fat_rise_mm", "lateral_ratio")), strict=True):
        axis.scatter(*([getattr(s, k) for s in phantoms] for k in pair), s=9, color="0.6")
        for scan in real:
            axis.scatter(*(getattr(scan, k) for k in pair), s=45, color=colours[scan.name], edgecolors="black", zorder=3)
        axis.set(xlabel=AXIS_NAMES[pair[0]], ylabel=AXIS_NAMES[pair[1]])
    axes.ravel()[4].set_title("Noise: how much, how fine")
    axes.ravel()[5].set_title("Sharpness, and direction of the noise")
    figure.savefig(picture, dpi=90)
    plt.close(figure)


def main() -> None:
    """Measure both folders and write figure and numbers."""
    parser = argparse.ArgumentParser(description="Compare phantoms with real CT by statistics.")
    parser.add_argument("--exams", type=Path, required=True, help="folder of phantom exams")
    parser.add_argument("--real", type=Path, required=True, help="folder of real CT (NIfTI, DICOM)")
    parser.add_argument("--most", type=int, default=80, help="measure at most so many phantom scans (default 80)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for realism.png and realism.json")
    arguments = parser.parse_args()
    real = [measure(image, name) for name, image in real_scans(arguments.real)]
    phantoms = [measure(image, name) for name, image in phantom_scans(arguments.exams, arguments.most)]
    arguments.output.mkdir(parents=True, exist_ok=True)
    compare(real, phantoms, arguments.output / "realism.png")
    ranges = {}
    for key in SCALARS:
        values = np.array([getattr(s, key) for s in phantoms])
        ranges[key] = [_rounded(v) for v in np.nanpercentile(values, (0, 5, 50, 95, 100))]
    phantom_summary = {"scans": len(phantoms), "percentiles_0_5_50_95_100": ranges}
    summary = {"real": [s.to_dict() for s in real], "phantoms": phantom_summary}
    (arguments.output / "realism.json").write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
