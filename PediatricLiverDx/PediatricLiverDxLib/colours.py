"""The colours of a result, the same in the report and in Slicer: sRGB triples in 0..255, all told apart by colour-blind readers."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

#: Benign and malignant (Okabe and Ito's blue and vermilion).
SIDES = MappingProxyType({"benign": (0, 114, 178), "malignant": (213, 94, 0)})

#: The four phases in charts (Okabe and Ito).
PHASE_COLOURS = MappingProxyType({
    "PC": (128, 128, 128),
    "AP": (213, 94, 0),
    "PVP": (0, 114, 178),
    "DP": (0, 158, 115),
})

#: CAM values below this part of the lesion's largest value are not drawn: an overlay that covers everything shows nothing.
CAM_THRESHOLD = 0.35

#: Opacity of the drawn part of a CAM.
CAM_OPACITY = 0.55

#: Dark violet over red and orange to light yellow: lightness rises with the value, so it also reads in grey.
_CAM_STOPS = ((0.0, (38, 8, 84)), (0.25, (118, 20, 110)), (0.5, (204, 56, 76)), (0.75, (246, 138, 36)), (1.0, (252, 246, 164)))


def cam_ramp(size: int = 256) -> np.ndarray:
    """Return the colours of CAM values 0..1 in equal steps, uint8 (size, 3)."""
    at = np.linspace(0, 1, size)
    stops = [stop for stop, _ in _CAM_STOPS]
    return np.stack([np.interp(at, stops, [colour[c] for _, colour in _CAM_STOPS]) for c in range(3)], 1).round().astype(np.uint8)
