"""From observations to the vector of features that an agent's heads read."""

import torch
from torch import Tensor, nn

from agents.config import backbone_and_width
from agents.observations import NUMBERS, Features, ObservationLayout, Picture
from agents.spaces import UnsupportedSpaceError
from supervised.backbones import create_backbone, start_for_relu
from supervised.fit import Precision


class PictureEncoder(nn.Module):
    """uint8 [B, C, H, W] -> [B, size]: a backbone's deepest map and one ReLU layer.

    With the Nature CNN and 512 features this is the network of Mnih et al. 2015 up to its head.
    Where a backbone normalizes it does so picture by picture: batches of transitions are small and
    not of the same kind as the observations that an agent acts on.
    """

    def __init__(
        self, picture: Picture, backbone: str, precision: Precision, size: int = 512
    ) -> None:
        super().__init__()
        self.precision = precision
        name, width = backbone_and_width(backbone)
        self.backbone = create_backbone(name, in_chans=picture.channels, width=width, norm="group")
        height, width = picture.frame[:2]
        try:
            with torch.no_grad():
                maps = self.backbone(torch.zeros(1, picture.channels, height, width))
        except (RuntimeError, ValueError):
            raise UnsupportedSpaceError(
                f"pictures of {height} x {width} are too small for the encoder {backbone!r}; "
                "wrap the environment in gymnasium.wrappers.ResizeObservation"
            ) from None
        self.linear = start_for_relu(nn.Linear(maps[-1].numel(), size))
        if any(isinstance(module, nn.GroupNorm) for module in self.backbone.modules()):
            # Normalized maps are some ten times as large as pictures. A critic would not notice an
            # action beside 512 features of that size.
            with torch.no_grad():
                self.linear.weight *= 0.1

    def forward(self, pictures: Tensor) -> Tensor:
        with torch.autocast(
            pictures.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"
        ):
            deepest = self.backbone(pictures / 255)[-1]
            features: Tensor = self.linear(deepest.flatten(1)).relu()
        return features.float()


class Encoder(nn.Module):
    """Features [B, size]: numbers as they are, and every picture through an encoder of its own.

    Args:
        layout: of the observations.
        backbone: name for ``supervised.backbones.create_backbone``, or "name:width" with a factor
            on its channels; not used without pictures.
        precision: of the arithmetic on pictures; weights are float32 in any case.

    """

    def __init__(
        self, layout: ObservationLayout, backbone: str, precision: Precision = "float32"
    ) -> None:
        super().__init__()
        self.names = list(layout.pictures)
        pictures = [
            PictureEncoder(layout.pictures[name], backbone, precision) for name in self.names
        ]
        self.pictures = nn.ModuleList(pictures)
        self.size = layout.size + sum(encoder.linear.out_features for encoder in pictures)

    def forward(self, observations: Features) -> Tensor:
        if isinstance(observations, Tensor):
            return observations
        parts = [observations[NUMBERS]]
        for name, encoder in zip(self.names, self.pictures, strict=True):
            parts.append(encoder(observations[name]))
        return torch.cat(parts, dim=-1)
