"""The three classifier networks: composites (n, 4, size, size) in [0, 1] in, last feature map (n, c, h, w) and logits (n, 3) out.

Each ends in mean pooling and one linear layer, so that its Grad-CAM at the feature map F has a closed form: with logits
W mean(F) + b, the gradient of logit k is W[k] / (h w) everywhere, hence CAM_k = relu(sum_c W[k, c] F[c]) up to that factor.
"""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from PediatricLiverDxLib.composites import COMPOSITE_SIZE
from PediatricLiverDxLib.vocabulary import BACKBONES, HEADS, PHASES, InputError
from torch import nn


class Backbone(nn.Module):
    """A timm trunk, mean pooling and one linear layer with a row per head in the order of HEADS."""

    def __init__(self, trunk: nn.Module, channels: int) -> None:
        super().__init__()
        self.trunk = trunk
        #: Passes the feature map through; a named place for CAM methods that hook a layer.
        self.feature_map = nn.Identity()
        self.head = nn.Linear(channels, len(HEADS))

    def forward(self, composites: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (feature map, logits)."""
        # a constant shift and scale: windowed composites are mostly zeros with tissue near one half
        features = self.trunk.forward_features(composites * 4 - 1)
        if features.ndim == 3:  # ViT: (n, patch, c), patches row by row
            side = self.trunk.patch_embed.grid_size
            features = features.transpose(1, 2).reshape(features.shape[0], features.shape[2], *side)
        features = self.feature_map(features)
        return features, self.head(features.float().mean((2, 3)))


def build_backbone(name: str, pretrained: Path | None = None) -> Backbone:
    """Build a backbone by its name in BACKBONES, at random weights or with a trunk from a local file.

    `pretrained` is a .safetensors or .pth file of the timm model's trunk (three input channels are averaged over to four); layers
    that do not fit in shape are left at random. Nothing is downloaded and nothing is unpickled.
    """
    channels = len(PHASES)
    if name == "resnet18":
        trunk = timm.create_model("resnet18", pretrained=False, in_chans=channels, num_classes=0)
    elif name == "densenet121":
        trunk = timm.create_model("densenet121", pretrained=False, in_chans=channels, num_classes=0)
    elif name == "vit":
        trunk = timm.models.VisionTransformer(
            img_size=COMPOSITE_SIZE, patch_size=16, in_chans=channels, num_classes=0, global_pool="avg", class_token=False,
            embed_dim=192, depth=8, num_heads=3, fc_norm=False, drop_path_rate=0.1,
        )
    else:
        raise InputError(f"expected a backbone among {', '.join(BACKBONES)}, got {name}")
    model = Backbone(trunk, trunk.num_features)
    nn.init.trunc_normal_(model.head.weight, std=0.02)
    nn.init.zeros_(model.head.bias)
    if pretrained is not None:
        _load_trunk(trunk, Path(pretrained))
    return model


def _load_trunk(trunk: nn.Module, path: Path) -> None:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        weights = load_file(path)
    else:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    own = trunk.state_dict()
    fitting = {}
    for key, value in weights.items():
        if key in own and value.ndim == 4 and value.shape[1] == 3 and own[key].shape[1] == len(PHASES):
            value = value.mean(1, keepdim=True).repeat(1, len(PHASES), 1, 1) * 3 / len(PHASES)
        if key in own and value.shape == own[key].shape:
            fitting[key] = value
    if not fitting:
        raise InputError(f"no layer in {path.name} fits this backbone; expected the state of timm's model of that name")
    trunk.load_state_dict(fitting, strict=False)
