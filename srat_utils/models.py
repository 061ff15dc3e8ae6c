"""Classifiers that give logits and penultimate features from one forward pass.

Both networks take images in [0,1]; any normalisation would have to live inside the model, or ε would lose its meaning.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


class CosineHead(nn.Module):
    """logits = s·cos(feature, class vector), without bias: LDAM's head (Cao et al., 2019).

    The scale s lives here, inside the model, so that an attack on the logits meets a softmax as steep as the one that is
    trained. With bare cosines in [−1, 1] the softmax is nearly flat and the robustness overstated.
    """

    def __init__(self, features: int, classes: int, scale: float = 30.0):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, features))
        nn.init.xavier_uniform_(self.weight)
        self.scale = scale

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.scale * F.linear(F.normalize(features), F.normalize(self.weight))


class Classifier(nn.Module):
    """A body that maps images to penultimate features, and a head that maps features to logits.

    projection: width of an MLP between the penultimate features and L_sep (Khosla et al., 2020), or None for the
    penultimate features themselves, as the paper's t-SNE figures suggest.
    """

    def __init__(
        self, body: nn.Module, width: int, classes: int, *, scale: float | None = None, projection: int | None = None
    ):
        super().__init__()
        self.body = body
        self.head = nn.Linear(width, classes) if scale is None else CosineHead(width, classes, scale)
        self.projection = nn.Identity()
        if projection is not None:
            self.projection = nn.Sequential(
                nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, projection)
            )

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Penultimate features [N,D] of images [N,C,H,W]."""
        return self.body(images)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [N,classes] of images [N,C,H,W]."""
        return self.logits_and_features(images)[0]

    def logits_and_features(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [N,classes] and penultimate features [N,D] from one forward pass.

        Under autocast the body alone is computed in lower precision: logits and features come in the parameters' own.
        """
        features = self.body(images).to(self.head.weight.dtype)
        with torch.autocast(images.device.type, enabled=False):
            return self.head(features), features


class ConvNorm(nn.Sequential):
    """A convolution and its batch norm, which in eval mode are one convolution with other weights (see `folded`)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1):
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(outputs))
        self.constant: tuple[torch.Tensor, torch.Tensor] | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.constant is None:
            return super().forward(x)
        return F.conv2d(x, *self.constant, self[0].stride, self[0].padding)

    def fold(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias of the one convolution, without gradients; under autocast already in its precision."""
        norm, device = self[1], self[0].weight.device.type
        weight, bias = fuse_conv_bn_weights(
            self[0].weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        return weight.detach().to(dtype), bias.detach().to(dtype)


@contextmanager
def folded(model: nn.Module) -> Iterator[nn.Module]:
    """The model with each `ConvNorm` computed as one convolution: eval mode's result up to rounding, in less time.

    The weights are folded once, on entering: nothing may train inside. Parameters get no gradients from inside.
    """
    layers = [module for module in model.modules() if isinstance(module, ConvNorm) and module.constant is None]
    try:
        for layer in layers:
            layer.constant = layer.fold()
        yield model
    finally:
        for layer in layers:
            layer.constant = None


def conv_bn_relu(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(ConvNorm(inputs, outputs, 3, stride), nn.ReLU(inplace=True))


def small_cnn(channels: int) -> tuple[nn.Module, int]:
    """Three convolutions for 8×8 to 32×32 images on a CPU; 64 features."""
    layers = [conv_bn_relu(channels, 16), conv_bn_relu(16, 32, stride=2), conv_bn_relu(32, 64)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 64


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.first = conv_bn_relu(inputs, outputs, stride)
        self.second = ConvNorm(outputs, outputs, 3)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = ConvNorm(inputs, outputs, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.second(self.first(x)) + self.shortcut(x))


def resnet18(channels: int) -> tuple[nn.Module, int]:
    """ResNet-18 with the CIFAR stem: 3×3, stride 1, no max-pool; widths 64-128-256-512; 512 features."""
    layers, width = [conv_bn_relu(channels, 64)], 64
    for outputs, stride in [(64, 1), (128, 2), (256, 2), (512, 2)]:
        layers += [BasicBlock(width, outputs, stride), BasicBlock(outputs, outputs, 1)]
        width = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), width


_global_random_state = Lock()  # runs may be built in threads: a cluster's worker, a button in a notebook
ARCHITECTURES = {"small-cnn": small_cnn, "resnet18": resnet18}


def build(
    architecture: str,
    channels: int,
    classes: int,
    *,
    scale: float | None = None,
    projection: int | None = None,
    seed: int = 0,
) -> Classifier:
    """A freshly initialised classifier on the CPU.

    scale: None for a linear head, a number for a cosine head with that scale.
    seed: decides the initial weights alone; the global random state is left as it was.
    """
    with _global_random_state, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body, width = ARCHITECTURES[architecture](channels)
        return Classifier(body, width, classes, scale=scale, projection=projection)
