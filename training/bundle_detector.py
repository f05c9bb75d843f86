"""The detector of a bundle becomes a network that can be trained on: detector.onnx and example images in, an Ultralytics network out.

An exported network has its batch normalisations folded into the convolutions before them. They are put back with the statistics that the
example images give, scaled so that they change nothing: the network answers as the bundle's does, and its training begins there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from PediatricLiverDxLib.vocabulary import PHASES, InputError
from torch import nn


@torch.no_grad()
def load_bundle_detector(model: nn.Module, path: Path, images: torch.Tensor) -> None:
    """Give `model` the weights of the detector.onnx at `path`.

    images: (n, phase, row, column) in [0, 1], as training shows them; a few dozen. Raises InputError when the file holds another network.
    """
    convolutions = _in_order_of_use(model)
    kept = _convolutions_of(path)
    if [tuple(conv.weight.shape) for conv in convolutions] != [weight.shape for weight, _ in kept]:
        raise InputError(f"{path.name} holds another network than the configuration asks for; set detector.architecture to the bundle's")
    norms = {part.conv: part.bn for part in model.modules() if hasattr(part, "conv") and hasattr(part, "bn")}
    for conv, (weight, bias) in zip(convolutions, kept, strict=True):
        conv.weight.copy_(torch.tensor(weight))
        if conv in norms:
            _pass_through(norms[conv], torch.tensor(bias))
        elif conv.bias is not None:
            conv.bias.copy_(torch.tensor(bias))
    _restore_statistics(model, list(norms.values()), images)


def _in_order_of_use(model: nn.Module) -> list[nn.Conv2d]:
    found: list[nn.Conv2d] = []
    hooks = [
        part.register_forward_pre_hook(lambda module, _: found.append(module)) for part in model.modules() if isinstance(part, nn.Conv2d)
    ]
    model.eval()(torch.zeros(1, len(PHASES), 64, 64))
    for hook in hooks:
        hook.remove()
    return found


def _convolutions_of(path: Path) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Return weight and bias of every convolution of an ONNX file, in the order in which it computes them."""
    graph = onnx.load(str(path)).graph
    arrays = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in arrays:  # weights that are equal are written once
            arrays[node.output[0]] = arrays[node.input[0]]
        elif node.op_type == "DequantizeLinear":
            packed, scale = arrays[node.input[0]], arrays[node.input[1]]
            axis = next(attribute.i for attribute in node.attribute if attribute.name == "axis")
            shape = [1] * packed.ndim
            shape[axis] = -1
            arrays[node.output[0]] = packed.astype(np.float32) * scale.reshape(shape)
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    return [(arrays[node.input[1]], arrays[node.input[2]] if len(node.input) > 2 else None) for node in nodes]


def _pass_through(norm: nn.BatchNorm2d, bias: torch.Tensor) -> None:
    norm.running_mean.zero_()
    norm.running_var.fill_(1 - norm.eps)
    norm.weight.fill_(1)
    norm.bias.copy_(bias)


def _restore_statistics(model: nn.Module, norms: list[nn.BatchNorm2d], images: torch.Tensor) -> None:
    """Set each normalisation's mean and variance to those of what it is given, and its scale and shift so that it still adds its bias."""
    given: dict[nn.BatchNorm2d, tuple[torch.Tensor, torch.Tensor]] = {}

    def look(norm: nn.BatchNorm2d, inputs: tuple[torch.Tensor]) -> None:
        given[norm] = (inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3), unbiased=False))

    hooks = [norm.register_forward_pre_hook(look) for norm in norms]
    model.eval()(images)
    for hook in hooks:
        hook.remove()
    for norm, (mean, variance) in given.items():
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.add_(mean)
