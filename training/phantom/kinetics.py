"""Iodine over time: one exam's injection and circulation, and what a tissue's perfusion makes of them in each phase.

Arterial enhancement is a first pass (gamma variate) plus a recirculating plateau that decays; the portal vein sees it later and
blurred by the gut's transit. A tissue mixes both inputs, shows its blood volume at once and its interstitium after a mean transit.
Amplitudes are set so that the medians agree with the HU table of the project's clinical notes (children: AJR 191:1589).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

_TIME_STEP_S = 0.5
_TIME = np.arange(0.0, 420.0, _TIME_STEP_S)


@dataclass(frozen=True)
class Perfusion:
    """How a tissue takes up contrast.

    unenhanced: HU without contrast. arterial, portal: weights of the two inflows (liver about 0.25 and 0.75).
    blood_volume: fraction that shows the inflow at once. interstitium: distribution volume reached after the transit (0..1; above 1
    where contrast is concentrated, as in the kidney). mean_transit_s: seconds of the exponential transit.
    """

    unenhanced: float
    arterial: float = 1.0
    portal: float = 0.0
    blood_volume: float = 0.1
    interstitium: float = 0.2
    mean_transit_s: float = 20.0


@dataclass(frozen=True)
class Contrast:
    """One exam's injection and circulation.

    times_s: (AP, PVP, DP) seconds after contrast reaches the aorta; PC is before the injection. first_pass, plateau: HU amplitudes of
    the arterial curve; arrival_peak_s: time of the first pass's peak; decay_s: time constant of the plateau; gut_transit_s: delay and blur
    of the portal vein; blood: HU of unenhanced blood.
    """

    times_s: tuple[float, float, float]
    first_pass: float
    plateau: float
    arrival_peak_s: float
    decay_s: float
    gut_transit_s: float
    blood: float

    def arterial_curve(self) -> np.ndarray:
        """Return the enhancement of the aorta in HU, sampled every 0.5 s."""
        s = _TIME / self.arrival_peak_s
        first = self.first_pass * np.exp(6.0 * (np.log(np.maximum(s, 1e-6)) + 1.0 - s))
        return first + self.plateau * (1.0 - np.exp(-np.maximum(_TIME - 10.0, 0.0) / 12.0)) * np.exp(-_TIME / self.decay_s)

    def portal_curve(self) -> np.ndarray:
        """Return the enhancement of the portal vein in HU, sampled every 0.5 s."""
        return 0.93 * _transit(_delayed(self.arterial_curve(), self.gut_transit_s), self.gut_transit_s)

    def venous_curve(self, transit_s: float) -> np.ndarray:
        """Return the enhancement of a systemic vein whose bed has the given transit (s)."""
        return _transit(self.arterial_curve(), transit_s)

    def hu(self, tissue: Perfusion) -> np.ndarray:
        """Return a tissue's HU in (PC, AP, PVP, DP), float32 (4,)."""
        inflow = tissue.arterial * self.arterial_curve() + tissue.portal * self.portal_curve()
        curve = tissue.blood_volume * inflow + tissue.interstitium * _transit(inflow, tissue.mean_transit_s)
        return self._at_phases(tissue.unenhanced, curve)

    def artery(self) -> np.ndarray:
        """Return the HU of arterial blood in (PC, AP, PVP, DP)."""
        return self._at_phases(self.blood, self.arterial_curve())

    def portal(self) -> np.ndarray:
        """Return the HU of portal blood in (PC, AP, PVP, DP)."""
        return self._at_phases(self.blood, self.portal_curve())

    def vein(self, transit_s: float) -> np.ndarray:
        """Return the HU of a systemic vein's blood in (PC, AP, PVP, DP)."""
        return self._at_phases(self.blood, self.venous_curve(transit_s))

    def to_dict(self) -> dict:
        """Return every parameter, for truth.json."""
        return asdict(self)

    def _at_phases(self, unenhanced: float, curve: np.ndarray) -> np.ndarray:
        enhanced = np.interp(self.times_s, _TIME, curve)
        return (unenhanced + np.array([0.0, *enhanced])).astype(np.float32)


def draw_contrast(rng: np.random.Generator, age_years: float, iodine_gain: float = 1.0) -> Contrast:
    """Draw an exam's contrast timing and strength.

    iodine_gain: contrast of iodine relative to what the constants below stand for (100 kV). Small children circulate faster and are often
    scanned too early in the portal
    phase (clinical notes: common at or below 5 years).
    """
    fast = np.clip(1.0 - age_years / 12.0, 0.0, 1.0)
    peak = rng.normal(19.5 - 3.0 * fast, 2.0)
    arterial = np.clip(rng.normal(21.0, 3.5) + (rng.uniform(6, 14) if rng.random() < 0.15 else 0.0), 12.0, 40.0)
    portal = rng.normal(56.0, 4.0)
    if rng.random() < (0.3 if age_years <= 5 else 0.1):
        portal -= rng.uniform(8.0, 18.0)
    dose = iodine_gain * rng.lognormal(0.0, 0.16)
    return Contrast(
        times_s=(float(arterial), float(np.clip(portal, arterial + 12.0, 80.0)), float(np.clip(rng.normal(125.0, 18.0), 95.0, 200.0))),
        first_pass=float(205.0 * dose * rng.lognormal(0.0, 0.1)),
        plateau=float(141.0 * dose),
        arrival_peak_s=float(np.clip(peak, 13.0, 26.0)),
        decay_s=float(rng.uniform(140.0, 190.0)),
        gut_transit_s=float(rng.uniform(8.0, 13.0)),
        blood=float(rng.normal(43.0, 3.0)),
    )


def _delayed(curve: np.ndarray, delay_s: float) -> np.ndarray:
    return np.interp(_TIME - delay_s, _TIME, curve, left=0.0)


def _transit(curve: np.ndarray, mean_transit_s: float) -> np.ndarray:
    """Convolve with exp(-t / T) / T: first-order recursion, exact for a curve that is constant over a step."""
    keep = np.exp(-_TIME_STEP_S / mean_transit_s)
    powers = keep ** np.arange(len(curve))
    # the recursion y[n] = keep y[n-1] + (1 - keep) x[n] as a short convolution, cut where the kernel has vanished
    length = min(len(curve), int(np.ceil(8.0 * mean_transit_s / _TIME_STEP_S)))
    return np.convolve(curve, (1.0 - keep) * powers[:length])[: len(curve)]
