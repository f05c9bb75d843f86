"""What every training shares: a run's folder, resumable checkpoints without pickle, averaged weights, the learning rate's course."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PediatricLiverDxLib.vocabulary import InputError
from torch import nn
from tqdm import tqdm

from .configuration import DETECTOR, ClassifierSettings, Configuration, DetectorSettings, own_settings
from .plain_json import plain


class AveragedWeights:
    """Exponential moving average of a model's weights and buffers; the decay grows from 0 so that early averages are not random."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.updates += 1
        decay = self.decay * (1 - math.exp(-self.updates / 200))
        pairs = [(mean, value) for mean, value in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True)]
        floats = [(mean, value.detach()) for mean, value in pairs if mean.is_floating_point()]
        torch._foreach_lerp_([mean for mean, _ in floats], [value for _, value in floats], 1 - decay)
        for mean, value in pairs:
            if not mean.is_floating_point():
                mean.copy_(value)


def learning_rate_factor(step: int, steps: int, *, schedule: str, warmup_share: float = 0.1) -> float:
    """Return the factor on the learning rate: "constant" 1; "one-cycle" rises linearly, then falls along a half cosine to 0.01."""
    if schedule == "constant":
        return 1.0
    warmup = max(1, round(warmup_share * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.01 + 0.99 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup)))) / 2


def save_checkpoint(path: Path, **state: Any) -> None:
    """Write tensors, numbers, texts and containers of them; the file appears whole or not at all."""
    part = path.with_name(path.name + ".part")
    torch.save(state, part)
    part.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint, or return None where there is none. Nothing is unpickled but tensors and plain values."""
    return torch.load(path, map_location="cpu", weights_only=True) if path.is_file() else None


def resumable_checkpoint(path: Path, key: str) -> dict[str, Any] | None:
    """Read a checkpoint of the training that `key` stands for; InputError when it is another's. None where there is none."""
    state = load_checkpoint(path)
    if state is not None and "key" not in state:
        tqdm.write(f"note: the checkpoint in {path.parent.name} does not say which settings and exams it is of; going on with it")
    elif state is not None and state["key"] != key:
        raise InputError(
            f"{path.parent.name} holds a training that was begun with other settings or exams; give another run, or remove it to begin anew"
        )
    return state


def refuse_other_training(
    run: Path, network: str, configuration: Configuration, exams: Mapping[str, Sequence[Any]], start: Path | None
) -> None:
    """Raise InputError when the run holds another training of a network, DETECTOR or a backbone, than this would be.

    exams: "train" and "validation", whatever has an exam_id; start: as in training_key.
    """
    is_detector = network == DETECTOR
    settings = configuration.detector if is_detector else configuration.classifiers
    own = {split: exams[split] for split in ("train", "validation")}
    key = training_key(settings, configuration.seed, own, "" if is_detector else network, start)
    resumable_checkpoint((run if is_detector else run / "classifiers") / network / "checkpoint.pt", key)


def training_key(
    settings: DetectorSettings | ClassifierSettings, seed: int, exams: Mapping[str, Sequence[Any]], name: str = "",
    start: Path | None = None,
) -> str:
    """Return a hash of all that decides a training: settings (of mappings per backbone only `name`'s), seed, split exams, first weights.

    start: the file that these come from, None where they are drawn at random.
    """
    ids = {split: [exam.exam_id for exam in exams[split]] for split in sorted(exams)}
    decisive = [own_settings(settings, name), seed, ids]
    if start is not None:
        try:
            decisive.append(hashlib.sha256(start.read_bytes()).hexdigest())
        except OSError as error:
            raise InputError(f"{start.name}, where training is to begin, cannot be read: {error.strerror}; give another file") from None
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


def append_history(path: Path, entry: dict[str, Any]) -> None:
    """Add one JSON line; a line for the same epoch from an interrupted run is replaced."""
    lines = [line for line in path.read_text().splitlines() if json.loads(line)["epoch"] < entry["epoch"]] if path.is_file() else []
    part = path.with_name(path.name + ".part")
    part.write_text("\n".join([*lines, json.dumps(plain(entry), allow_nan=False)]) + "\n")
    part.replace(path)


def pick_device(name: str) -> torch.device:
    """Return the named device; "auto" takes a GPU where there is one."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 where the device computes in it natively; elsewhere it would be slower than float32."""
    native = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu.get_capabilities().get("avx512_bf16", False)
    return torch.autocast(device.type, torch.bfloat16, enabled=native)
