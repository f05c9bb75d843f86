"""torch networks become ONNX files: float32 inside, weights stored as int8 of few levels with one scale per output channel."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from PediatricLiverDxLib.vocabulary import PHASES
from torch import nn

OPSET = 17
#: Tensors with fewer values stay float32: there is nothing to save.
SMALLEST_QUANTISED = 2048
#: Weights are whole numbers from -LEVELS to LEVELS times their channel's scale: 63 values, about 5 bits each once compressed, so that
#: downloads and the repository's history stay small.
LEVELS = 31


class _PredictionsOnly(nn.Module):
    """Ultralytics' network with its first output only, (n, 5, anchors)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.model(images)
        return found[0] if isinstance(found, tuple) else found


def export_classifier(model: nn.Module, path: Path, size: int) -> None:
    """Write a backbone: "composites" (n, 4, size, size) -> "feature_map", "logits"."""
    _export(model.eval(), path, size, "composites", {"feature_map": {}, "logits": {}})


def export_detector(model: nn.Module, path: Path, size: int) -> None:
    """Write the detector: "images" (n, 4, height, width) -> "predictions" (n, 5, anchors): cx, cy, w, h in pixels, score in [0, 1].

    Any height and width that DETECTOR_STRIDE divides will do.
    """
    model = copy.deepcopy(model)
    # places of predictions are to follow from the image's size, not to be written into the network
    model.model[-1].dynamic = model.model[-1].export = True
    model.model[-1].format = "onnx"
    _export(_PredictionsOnly(model).eval(), path, size, "images", {"predictions": {2: "anchors"}}, {2: "height", 3: "width"})


def quantise_weights(model: onnx.ModelProto, keep: frozenset[str] = frozenset({"head.weight", "head.bias"})) -> onnx.ModelProto:
    """Return the model with the weights of its Conv, Gemm and MatMul nodes as int8, unpacked by DequantizeLinear nodes.

    One scale per output channel, symmetric (channel_scales). Activations stay float32. `keep` names weights left as they are.
    """
    initialisers = {item.name: item for item in model.graph.initializer}
    axes: dict[str, int] = {}
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul") and len(node.input) > 1 and node.input[1] in initialisers:
            transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
            axes[node.input[1]] = 0 if node.op_type == "Conv" or transposed else len(initialisers[node.input[1]].dims) - 1
    unpackers = []
    for name, axis in axes.items():
        item = initialisers[name]
        weight = numpy_helper.to_array(item)
        if name in keep or weight.dtype != np.float32 or weight.size < SMALLEST_QUANTISED:
            continue
        scale = channel_scales(np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1))
        shape = [1] * weight.ndim
        shape[axis] = -1
        packed = _levels(weight, scale.reshape(shape)).astype(np.int8)
        model.graph.initializer.remove(item)
        model.graph.initializer.extend([
            numpy_helper.from_array(packed, f"{name}.int8"),
            numpy_helper.from_array(scale, f"{name}.scale"),
            numpy_helper.from_array(np.zeros(len(scale), np.int8), f"{name}.zero"),
        ])
        packed_names = [f"{name}.{part}" for part in ("int8", "scale", "zero")]
        unpackers.append(helper.make_node("DequantizeLinear", packed_names, [name], name=f"{name}.unpack", axis=axis))
    nodes = [*unpackers, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model


def channel_scales(weight: np.ndarray) -> np.ndarray:
    """Return the scale, float32 (channel,), of each row of (channel, value) weights that leaves the smallest squared error.

    Large weights are rare: to clip the largest by some part gives all others finer steps.
    """
    largest = np.maximum(np.abs(weight).max(1), 1e-12)
    scales = [(largest * part / LEVELS).astype(np.float32) for part in np.linspace(0.5, 1.0, 11)]
    errors = [((_levels(weight, scale[:, None]) * scale[:, None] - weight) ** 2).sum(1) for scale in scales]
    return np.take_along_axis(np.array(scales), np.argmin(errors, 0)[None], 0)[0]


def _levels(weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return np.rint(weight / scale).clip(-LEVELS, LEVELS)


def open_session(path: Path, threads: int = 0) -> onnxruntime.InferenceSession:
    """Open a network as the library does: int8 weights are unpacked while it is loaded."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _export(
    model: nn.Module, path: Path, size: int, input_name: str, outputs: dict[str, dict[int, str]], any_size: dict[int, str] | None = None
) -> None:
    """Write a network. outputs: name -> its axes, other than the batch's, whose length is not fixed; any_size: those of the input."""
    example = torch.zeros(2, len(PHASES), size, size)
    part = path.with_name(path.name + ".part")
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (example,), str(part), input_names=[input_name], output_names=list(outputs), opset_version=OPSET, dynamo=False,
            dynamic_axes={name: {0: "n", **axes} for name, axes in ({input_name: any_size or {}} | outputs).items()},
        )
    exported = onnx.load(str(part))
    part.unlink()
    # the exporter says what it was asked with names of its own; only these two are of use to a reader
    exported.producer_name, exported.doc_string = "PediatricLiverDx", ""
    for item in exported.graph.output:
        assert item.type.tensor_type.elem_type == TensorProto.FLOAT
    onnx.save(quantise_weights(exported), str(path))
