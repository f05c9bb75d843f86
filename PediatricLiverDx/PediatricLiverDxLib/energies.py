"""Which X-ray energy a CT series stands for: how bright iodine is hangs on it, and dual-energy exams offer each phase several times."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

#: The energy (keV) at which a virtual monoenergetic image has about the HU of a conventional one at 120 kV.
USUAL_KEV = 70.0

#: Energies within this many keV of the usual one are as good as it.
_NEAR_KEV = 5.0

#: Below this energy a monoenergetic image shows iodine so much brighter that phases and lesions look wrong; an assumption.
LEAST_KEV = 60.0

_KEV = re.compile(r"(?<!\d)(\d{2,3})(?:[.,]\d+)? ?-?kev\b")
_MONO = re.compile(r"\b(?:mono(?:e|\+|plus|energetic|chrom\w*)?|vmi|vmc)[ _+-]*(\d{2,3})(?!\d)")
_MIXED = re.compile(r"(?<![^\W_])(?:[mf]_?0[.,]\d|mixed|(?:linear )?blend\w*|de[_ -]?composed|average weighted|gemischt)(?![^\W_])")
_KV = re.compile(r"(?<![^\W_])(sn ?)?(\d{2,3}) ?kvp?(?![^\W_])")


@dataclass(frozen=True)
class Energy:
    """Energy of a virtual monoenergetic image, or tube voltage (with a tin filter or not), or mixed; all empty where nothing is said."""

    kev: float | None = None
    kv: float | None = None
    tin: bool = False
    mixed: bool = False

    @property
    def distance(self) -> float:
        """keV away from an image as at 120 kV, 0 where it is near or not said.

        A tube voltage counts as 0.42 keV a kV + 20, 120 kV as 70 keV, tin filters as 20 more; assumptions that only have to rank.
        """
        if self.mixed or (self.kev is None and self.kv is None):
            return 0.0
        kev = self.kev if self.kev is not None else 20 + 0.42 * self.kv + 20 * self.tin
        away = abs(kev - USUAL_KEV)
        return 0.0 if away <= _NEAR_KEV else away

    @property
    def low(self) -> bool:
        """Tell whether this is a monoenergetic image of so low an energy that HU mislead."""
        return self.kev is not None and self.kev < LEAST_KEV

    def __str__(self) -> str:
        if self.kev is not None:
            return f"{self.kev:.0f} keV"
        if self.mixed:
            return "mixed energies"
        return f"{'Sn ' * self.tin}{self.kv:.0f} kV" if self.kv is not None else "energy not said"


def read_energy(texts: Sequence[str], *, kev: float | None, voltages: Sequence[str]) -> Energy:
    """Read what texts (description, image type), the tag of the monoenergetic equivalent and the tube voltages say; the texts go first."""
    text = " ".join(texts).lower()
    if match := _KEV.search(text) or _MONO.search(text):
        return Energy(kev=float(match[1]))
    if kev is not None:
        return Energy(kev=kev)
    if _MIXED.search(text):
        return Energy(mixed=True)
    if match := _KV.search(text):
        return Energy(kv=float(match[2]), tin=match[1] is not None)
    numbers = [float(voltage) for voltage in voltages if re.fullmatch(r"\d+(\.\d*)?", voltage)]
    return Energy(kv=numbers[0]) if len(numbers) == 1 and numbers[0] >= 40 else Energy()
