"""Balanced-MixUp (arXiv 2511.19478): composites from instance sampling mixed with composites from class sampling.

    x = λ x_I + (1 - λ) x_C,  y = λ y_I + (1 - λ) y_C,  λ ~ Beta(2, 2)

x_I: every composite equally likely. x_C: every class equally likely, then every composite of it.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from PediatricLiverDxLib.vocabulary import CLASSES

Mixable = TypeVar("Mixable")


def draw_lambda(rng: np.random.Generator, n: int, beta: float = 2.0) -> np.ndarray:
    """Draw n mixing weights from Beta(beta, beta), float32."""
    return rng.beta(beta, beta, n).astype(np.float32)


def sample_instances(rng: np.random.Generator, composites: np.ndarray, n: int) -> np.ndarray:
    """Draw n sources so that every composite is equally likely; composites: (sources,) how many composites each source gives."""
    return rng.choice(len(composites), n, p=composites / composites.sum())


def sample_classes(rng: np.random.Generator, classes: np.ndarray, composites: np.ndarray, n: int) -> np.ndarray:
    """Draw n sources so that every class present is equally likely; classes: (sources,) class index of each source."""
    weights = composites.astype(float)
    present = np.unique(classes)
    for label in present:
        members = classes == label
        weights[members] /= weights[members].sum() * len(present)
    return rng.choice(len(classes), n, p=weights / weights.sum())


def one_hot(classes: np.ndarray) -> np.ndarray:
    """Return (n, 4) float32 labels in the order of CLASSES."""
    return np.eye(len(CLASSES), dtype=np.float32)[classes]


def mix(instance: Mixable, balanced: Mixable, weight: Mixable) -> Mixable:
    """Return weight * instance + (1 - weight) * balanced; weight (n,) is spread over the further axes. Arrays or tensors."""
    weight = weight.reshape(-1, *(1,) * (instance.ndim - 1))
    return weight * instance + (1 - weight) * balanced
