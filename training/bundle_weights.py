"""A bundle's networks become networks that can be trained on: an exported ONNX file and example images in, a torch network out.

What the export leaves as it is, a torch network finds again by name. Weights that it renames, those of convolutions and linear layers, are
taken in the order in which both compute them. Batch normalisations that it folds into the convolution before them are put back with the
statistics that the example images give, scaled so that they change nothing: the network answers as the bundle's does, and its training
begins there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from PediatricLiverDxLib.bundle import read_bundle
from PediatricLiverDxLib.vocabulary import InputError
from torch import nn

from .configuration import DETECTOR


def network_file(folder: Path, name: str) -> Path:
    """Return the file of a network, DETECTOR or a backbone, of the bundle in `folder`, whose every hash is right."""
    document = read_bundle(folder).document
    network = document["detector"] if name == DETECTOR else document["classifiers"].get(name)
    if network is None:
        raise InputError(f"{folder.name} has no {name} to begin with; it has {', '.join(document['classifiers'])}")
    return folder / network["file"]


@torch.no_grad()
def load_bundle_weights(model: nn.Module, path: Path, images: torch.Tensor) -> None:
    """Give `model` the weights of the network that onnx_export wrote to `path`.

    images: (n, phase, row, column) in [0, 1], as training shows them; a few dozen. Raises InputError when the file holds another network.
    """
    layers, folded = _in_order_of_use(model, images[:1])
    found = _found(model, layers, folded, onnx.load(str(path)).graph)
    state = model.state_dict()
    # a folded normalisation's bias is the convolution's; the rest of it is made up here
    made = {f"{norm}.{part}" for norm in folded.values() for part in ("weight", "running_mean", "running_var")}
    wanted = {name for name in state if not name.endswith(".num_batches_tracked")} - made
    if found.keys() != wanted or any(found[name].shape != state[name].shape for name in wanted):
        raise InputError(f"{path.name} holds another network than the one to be trained; set detector.architecture to the bundle's")
    model.load_state_dict({name: torch.tensor(value) for name, value in found.items()}, strict=False)
    norms = [model.get_submodule(name) for name in folded.values()]
    for norm in norms:
        norm.running_mean.zero_()
        norm.running_var.fill_(1 - norm.eps)
        norm.weight.fill_(1)
    _restore_statistics(model, norms, images)


def _found(
    model: nn.Module, layers: dict[str, nn.Module], folded: dict[str, str], graph: onnx.GraphProto
) -> dict[str, np.ndarray]:
    """Return the model's weights by name, none of another network's; layers and folded: as _in_order_of_use gives them."""
    arrays = _arrays(graph)
    found = {name: arrays[name] for name in model.state_dict() if name in arrays}
    kinds = {nn.Conv2d: ("Conv",), nn.Linear: ("MatMul", "Gemm")}
    for kind, operators in kinds.items():
        nodes = [(node.op_type, node.input) for node in graph.node if node.op_type in operators and node.input[1] in arrays]
        own = [name for name, layer in layers.items() if isinstance(layer, kind)]
        if len(own) != len(nodes):
            return {}
        for name, (operator, (_, weight, *bias)) in zip(own, nodes, strict=True):
            # the matrix of a MatMul is written (in, out)
            found.setdefault(f"{name}.weight", arrays[weight].T if operator == "MatMul" else arrays[weight])
            if bias:
                found.setdefault(f"{folded.get(name, name)}.bias", arrays[bias[0]])
    return found


def _arrays(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """Return the graph's constants by name, unpacked."""
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
    return arrays


def _in_order_of_use(model: nn.Module, image: torch.Tensor) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """Return convolutions and linear layers by name, as used, and the normalisation that each convolution is folded with, by name.

    Folded is what is given a convolution's output itself.
    """
    used: dict[str, nn.Module] = {}
    folded: dict[str, str] = {}
    given: dict[int, tuple[str, torch.Tensor]] = {}

    def use(name: str, layer: nn.Module, output: torch.Tensor) -> None:
        used[name] = layer
        if isinstance(layer, nn.Conv2d):
            given[id(output)] = (name, output)  # the tensor is kept so that no other gets its id

    def fold(name: str, norm_input: torch.Tensor) -> None:
        if id(norm_input) in given:
            folded[given[id(norm_input)][0]] = name

    hooks = []
    for name, layer in model.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            hooks.append(layer.register_forward_hook(lambda own, _, output, name=name: use(name, own, output)))
        elif isinstance(layer, nn.BatchNorm2d):
            hooks.append(layer.register_forward_pre_hook(lambda _, inputs, name=name: fold(name, inputs[0])))
    model.eval()(image)
    for hook in hooks:
        hook.remove()
    return used, folded


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
