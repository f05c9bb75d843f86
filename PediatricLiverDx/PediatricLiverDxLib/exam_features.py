"""What a CT volume looks like, in a few numbers that need no network: an exam comes in, one vector per phase goes out, for the gate.

They are taken from the phases as they were read, before alignment, which smooths. All statistics are taken inside the body (the hull of
composites.body_mask) on evenly spaced slices, so that a volume costs some tens of milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .composites import body_mask

if TYPE_CHECKING:
    import SimpleITK as sitk

    from .volumes import Exam

#: Pixels looked at per phase, about: slices are left out to stay near it.
PIXELS = 600_000
#: Values looked at per percentile, about: more cost time and change nothing.
SAMPLE = 40_000
#: HU ranges of tissue.
AIR, FAT, SOFT, DENSE = (-3000, -300), (-160, -40), (-20, 220), (220, 4000)
#: Distances in pixels at which neighbours are compared.
LAGS = (1, 2, 4, 8)
#: Side in pixels of the blocks in which the local spread is taken.
BLOCK = 6

#: Name of every feature -> words for a reader.
FEATURES = {
    "pixel_mm": "pixel size",
    "slice_mm": "slice distance",
    "body_width_mm": "body width",
    "body_height_mm": "body depth",
    "body_length_mm": "scanned length",
    "body_change": "change of the body's outline along the scan",
    "air": "the amount of lung and gas",
    "fat": "the amount of fat",
    "soft": "the amount of soft tissue",
    "dense": "the amount of bone and contrast",
    "between": "the amount between fat and soft tissue",
    "fat_hu": "HU of fat",
    "fat_spread": "spread of HU in fat",
    "soft_low_hu": "HU of soft tissue",
    "soft_hu": "HU of soft tissue",
    "soft_high_hu": "HU of soft tissue",
    "dense_hu": "HU of bone",
    "dense_high_hu": "HU of dense bone",
    "noise": "noise",
    "noise_fat": "noise in fat",
    "grain_2": "grain of the noise",
    "grain_4": "texture of tissue",
    "grain_8": "texture of tissue",
    "grain_rows": "noise along rows against columns",
    "grain_slices": "noise from slice to slice",
    "tails": "fine edges inside tissue",
    "edges": "sharpness of edges",
    "edges_high": "sharpness of edges",
    "spread_low": "evenness of tissue",
    "spread": "evenness of tissue",
    "spread_high": "evenness of tissue",
}


def exam_features(exam: Exam) -> dict[str, np.ndarray]:
    """Return for every phase of the exam the vector of FEATURES, float64, as volume_features does."""
    return {phase: volume_features(volume.image) for phase, volume in exam.phases.items()}


def volume_features(image: sitk.Image) -> np.ndarray:
    """Return the vector of FEATURES of one volume in HU, float64 (len(FEATURES),): lengths, spreads and ratios as logarithms.

    NaN where the volume has nothing to measure it in (no fat, no bone).
    """
    import SimpleITK as sitk

    hu = sitk.GetArrayViewFromImage(image)
    spacing = image.GetSpacing()
    mask, stride = body_mask(hu, spacing)
    values = _shape(mask, stride, hu.shape, spacing)
    blocks = list(_slices(hu, mask, stride))
    values |= _tissue(np.concatenate([plane[inside] for plane, _, inside in blocks]))
    values |= _texture(blocks)
    vector = np.array([values[name] for name in FEATURES])
    return np.where(np.isfinite(vector), vector, np.nan)


def _shape(mask: np.ndarray, stride: tuple[int, ...], shape: tuple[int, ...], spacing: tuple[float, ...]) -> dict[str, float]:
    rows, columns, slices = (np.count_nonzero(mask.any(others)) for others in ((0, 2), (0, 1), (1, 2)))
    areas = mask.sum((1, 2)).astype(float) + 1
    return {
        "pixel_mm": np.log(spacing[0]),
        "slice_mm": np.log(spacing[2]),
        "body_width_mm": np.log(columns * stride[2] * spacing[0]),
        "body_height_mm": np.log(rows * stride[1] * spacing[1]),
        "body_length_mm": np.log(min(slices * stride[0], shape[0]) * spacing[2]),
        "body_change": float(np.std(np.log(areas))),
    }


def _slices(hu: np.ndarray, mask: np.ndarray, stride: tuple[int, ...]):
    """Yield (plane, next plane, inside) in float32 of evenly spaced slices, cut to the body."""
    rows, columns = (np.flatnonzero(mask.any(others)) for others in ((0, 2), (0, 1)))
    cut = (slice(rows[0] * stride[1], (rows[-1] + 1) * stride[1]), slice(columns[0] * stride[2], (columns[-1] + 1) * stride[2]))
    n_slices = len(hu)
    area = max(1, (cut[0].stop - cut[0].start) * (cut[1].stop - cut[1].start))
    wanted = int(np.clip(PIXELS / area, 4, 16))
    # the outermost tenth at either end is left out: resampled or empty slices are common there
    positions = np.unique(np.linspace(0.1 * (n_slices - 1), 0.9 * (n_slices - 1), min(wanted, n_slices)).round().astype(int))
    for z in positions:
        plane = hu[z][cut].astype(np.float32)
        above = hu[min(z + 1, n_slices - 1)][cut].astype(np.float32)
        coarse = mask[min(z // stride[0], len(mask) - 1)]
        hull = _filled(coarse)
        inside = np.repeat(np.repeat(hull, stride[1], 0), stride[2], 1)[cut]
        inside = np.pad(inside, [(0, max(0, n - m)) for n, m in zip(plane.shape, inside.shape, strict=True)])
        yield plane, above, inside[: plane.shape[0], : plane.shape[1]]


def _filled(mask: np.ndarray) -> np.ndarray:
    """Return the mask filled between its first and last pixel of every row: lungs and gas count as inside the body."""
    return np.maximum.accumulate(mask, 1) & np.maximum.accumulate(mask[:, ::-1], 1)[:, ::-1]


def _tissue(hu: np.ndarray) -> dict[str, float]:
    def part(low: float, high: float) -> np.ndarray:
        return hu[(hu >= low) & (hu < high)]

    def percentiles(values: np.ndarray, at: tuple[float, ...]) -> np.ndarray:
        return np.percentile(_thinned(values), at) if len(values) >= 20 else np.full(len(at), np.nan)

    fat, soft, dense = part(*FAT), part(*SOFT), part(*DENSE)
    n = max(len(hu), 1)
    fat_low, fat_hu, fat_high = percentiles(fat, (25, 50, 75))
    soft_low, soft_hu, soft_high = percentiles(soft, (10, 50, 90))
    dense_hu, dense_high = percentiles(dense, (50, 95))
    share = {"air": part(*AIR), "fat": fat, "soft": soft, "dense": dense, "between": part(FAT[1], SOFT[0])}
    return {
        # the logit opens up small shares, where most of the difference lies
        **{name: float(np.log((len(v) / n + 1e-3) / (1 - len(v) / n + 1e-3))) for name, v in share.items()},
        "fat_hu": fat_hu,
        "fat_spread": np.log(fat_high - fat_low + 1),
        "soft_low_hu": soft_low,
        "soft_hu": soft_hu,
        "soft_high_hu": soft_high,
        "dense_hu": np.log(dense_hu),
        "dense_high_hu": np.log(dense_high),
    }


def _texture(blocks: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> dict[str, float]:
    differences: dict[str, list[np.ndarray]] = {}

    def compare(name: str, a: np.ndarray, b: np.ndarray, keep: np.ndarray) -> None:
        differences.setdefault(name, []).append(np.abs(b[keep] - a[keep]))

    spreads = []
    for plane, above, inside in blocks:
        soft = inside & (plane > SOFT[0]) & (plane < SOFT[1])
        for lag in LAGS:
            a, b = plane[:, :-lag], plane[:, lag:]
            compare(f"column {lag}", a, b, soft[:, :-lag] & soft[:, lag:])
        compare("row", plane[:-1], plane[1:], soft[:-1] & soft[1:])
        compare("slice", plane, above, soft & (above > SOFT[0]) & (above < SOFT[1]))
        fat = inside & (plane > FAT[0]) & (plane < FAT[1])
        compare("fat", plane[:, :-1], plane[:, 1:], fat[:, :-1] & fat[:, 1:])
        compare("edge", plane[:, :-2], plane[:, 2:], inside[:, :-2] & inside[:, 2:])
        spreads.append(_block_spreads(plane, soft))

    found = {name: np.concatenate(parts) for name, parts in differences.items()}

    def level(name: str, percentile: float = 50) -> float:
        return float(np.log(np.percentile(_thinned(found[name]), percentile) + 0.5)) if len(found[name]) >= 20 else float("nan")

    noise = level("column 1")
    spread = np.concatenate(spreads)
    spread_low, spread_mid, spread_high = np.log(np.percentile(spread, (10, 50, 90)) + 0.5) if len(spread) >= 10 else (float("nan"),) * 3
    return {
        "noise": noise,
        "noise_fat": level("fat") - noise,
        "grain_2": level("column 2") - noise,
        "grain_4": level("column 4") - level("column 2"),
        "grain_8": level("column 8") - level("column 4"),
        "grain_rows": level("row") - noise,
        "grain_slices": level("slice") - noise,
        "tails": level("column 1", 95) - noise,
        "edges": level("edge", 90),
        "edges_high": level("edge", 98),
        "spread_low": spread_low - noise,
        "spread": spread_mid - noise,
        "spread_high": spread_high - spread_mid,
    }


def _thinned(values: np.ndarray) -> np.ndarray:
    """Return about SAMPLE of the values, evenly taken."""
    return values[:: max(1, len(values) // SAMPLE)]


def _block_spreads(plane: np.ndarray, soft: np.ndarray) -> np.ndarray:
    """Return the standard deviation of every BLOCK x BLOCK pixels that are all soft tissue."""
    rows, columns = (n // BLOCK for n in plane.shape)
    tiles = plane[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
    whole = soft[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK).all((1, 3))
    return tiles.std((1, 3))[whole]
