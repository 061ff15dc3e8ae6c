"""Classifiers that give logits and penultimate features from one forward pass, and come back from a folder alone.

All networks take images in [0,1]; any normalisation would have to live inside the model, or ε would lose its meaning.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from .images import DataError
from .places import absolute
from .sources import as_images


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

    precision: "float32", or "bf16" to compute the body in bfloat16; logits and features are float32 either way.
    prior: None, or [C] that is taken off the logits (post-hoc logit adjustment); every attack on the model meets it.
    """

    def __init__(self, spec: Spec, body: nn.Module, width: int):
        super().__init__()
        self.spec, self.precision = spec, "float32"
        classes = len(spec.classes)
        self.body = body
        self.head = nn.Linear(width, classes) if spec.scale is None else CosineHead(width, classes, spec.scale)
        self.projection = nn.Identity()
        if spec.projection is not None:
            self.projection = nn.Sequential(
                nn.Linear(width, width), nn.ReLU(inplace=True), nn.Linear(width, spec.projection)
            )
        self.register_buffer("prior", None)

    @property
    def width(self) -> int:
        """Number of penultimate features."""
        return self.head.weight.shape[1]

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    @property
    def classes(self) -> tuple[str, ...]:
        """A name per logit, in their order: the columns of `predict`'s probabilities."""
        return self.spec.classes

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Penultimate features [N,D] of images [N,C,H,W]."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.body(images).to(self.head.weight.dtype)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [N,classes] of images [N,C,H,W]."""
        return self.logits_and_features(images)[0]

    def logits_and_features(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [N,classes] and penultimate features [N,D] from one forward pass."""
        features = self.features(images)
        logits = self.head(features)
        return logits if self.prior is None else logits - self.prior, features

    @torch.no_grad()
    def predict(self, images: np.ndarray | str | Path | Sequence[str | Path]) -> tuple[np.ndarray, np.ndarray]:
        """Class names [N] and probabilities float32 [N,classes] of pictures, in eval mode.

        images: uint8 [N,H,W] or [N,H,W,C], one picture's [H,W] or [H,W,C], a picture's path, several, or a folder's, all of
        whose pictures count, however deep, in the order of their paths.  Files are resized, arrays are not: DataError where
        their size or channels are not those that the network was trained on.
        """
        images = as_images(images, self.spec.size, self.spec.channels)
        with in_mode(self, training=False):
            batches = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).split(at_once(self.spec.size, 256))
            probabilities = torch.cat([self(x.to(self.device).float() / 255).softmax(1).cpu() for x in batches]).numpy()
        return np.asarray(self.spec.classes)[probabilities.argmax(1)], probabilities

    def program(self) -> torch.export.ExportedProgram:
        """Itself in eval mode on the CPU, for one image or more, as a program that runs without this package's code."""
        model = deepcopy(self).cpu().eval()
        two = torch.zeros(2, self.spec.channels, *self.spec.size)  # one would be taken for a constant
        return torch.export.export(model, (two,), dynamic_shapes=({0: torch.export.Dim("images")},))


def adjusted(model: Classifier, counts: Sequence[int], tau: float = 1.0) -> Classifier:
    """A copy with logits z − τ·ln π, π_c the share of class c in `counts`: the post-hoc prior (Menon et al., 2021)."""
    copy = deepcopy(model)
    share = torch.as_tensor(counts, dtype=torch.float64) / sum(counts)
    copy.prior = (tau * share.log()).to(model.head.weight)
    return copy


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

    def fold(self, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias of the one convolution, without gradients."""
        norm = self[1]
        weight, bias = fuse_conv_bn_weights(
            self[0].weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        return weight.detach().to(dtype), bias.detach().to(dtype)


@contextmanager
def in_mode(model: nn.Module, *, training: bool) -> Iterator[nn.Module]:
    """The model in train or eval mode; afterwards each module is in its own again, which `model.train(before)` would not do."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield model.train(training)
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def folded(model: nn.Module) -> Iterator[nn.Module]:
    """The model with each `ConvNorm` computed as one convolution: eval mode's result up to rounding, in less time.

    The weights are folded once, on entering: nothing may train inside. Parameters get no gradients from inside.
    """
    layers = [module for module in model.modules() if isinstance(module, ConvNorm) and module.constant is None]
    low = getattr(model, "precision", "float32") == "bf16"
    try:
        for layer in layers:
            layer.constant = layer.fold(torch.bfloat16 if low else layer[0].weight.dtype)
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


def resnet8(channels: int) -> tuple[nn.Module, int]:
    """Three basic blocks behind a stem of stride 2: what two CPU cores can train adversarially on 32×32 photographs; 128 features."""
    layers = [conv_bn_relu(channels, 32, stride=2)]
    layers += [BasicBlock(32, 32, 1), BasicBlock(32, 64, 2), BasicBlock(64, 128, 2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 128


def resnet18(channels: int) -> tuple[nn.Module, int]:
    """ResNet-18 with the CIFAR stem: 3×3, stride 1, no max-pool; widths 64-128-256-512; 512 features."""
    layers, width = [conv_bn_relu(channels, 64)], 64
    for outputs, stride in [(64, 1), (128, 2), (256, 2), (512, 2)]:
        layers += [BasicBlock(width, outputs, stride), BasicBlock(outputs, outputs, 1)]
        width = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), width


def at_once(size: tuple[int, int], most: int) -> int:
    """How many images of (height, width) a pass takes together: `most` up to 32×32 pixels, fewer of larger ones."""
    return max(1, min(most, most * 32 * 32 // (size[0] * size[1])))


_global_random_state = Lock()  # runs may be built in threads: a cluster's worker, a button in a notebook


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """What draws from torch's global random numbers on the CPU draws those of a seed; the global state stays as it was."""
    with _global_random_state, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


ARCHITECTURES = {"small-cnn": small_cnn, "resnet8": resnet8, "resnet18": resnet18}
CHANNELS_LAST_FROM = 16  # pixels a side; on smaller images reordering costs more than it brings


@dataclass(frozen=True)
class Spec:
    """What a network is, apart from its weights; stored beside them.

    size: (height, width) of the images.  classes: a name a logit.  scale: None for a linear head, a number for a cosine head.
    projection: width of an MLP between the penultimate features and L_sep (Khosla et al., 2020), or None for the penultimate
    features themselves, as the paper's t-SNE figures suggest.  precision: "float32", or "bf16" for the body.
    """

    architecture: str
    channels: int
    size: tuple[int, int]
    classes: tuple[str, ...]
    scale: float | None = None
    projection: int | None = None
    precision: str = "float32"

    def build(self, seed: int = 0) -> Classifier:
        """A freshly initialised classifier on the CPU.  The seed decides the weights; the global random state stays as it was."""
        with seeded(seed):
            body, width = ARCHITECTURES[self.architecture](self.channels)
            model = Classifier(self, body, width)
            model.precision = self.precision
        return model.to(memory_format=torch.channels_last) if min(self.size) >= CHANNELS_LAST_FROM else model

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Spec:
        fields = json.loads(text)
        return cls(**(fields | {"size": tuple(fields["size"]), "classes": tuple(fields["classes"])}))


def load(folder: str | Path, device: str | torch.device = "cpu") -> Classifier:
    """The trained classifier, in eval mode, that a run's folder or `Run.export` holds: spec.json and model.pt suffice."""
    folder = absolute(folder)
    for name in ("spec.json", "model.pt"):
        if not (folder / name).is_file():
            raise DataError(f"{folder} has no {name}; name the folder of a finished run or of an export")
    try:
        model = Spec.from_json((folder / "spec.json").read_text(encoding="utf-8")).build()
        state = torch.load(folder / "model.pt", map_location="cpu", weights_only=True)
        if "prior" in state:
            model.prior = torch.empty_like(state["prior"])
        model.load_state_dict(state)
    except Exception as error:  # json, zip, pickle and torch each have types of their own for a damaged file
        raise DataError(
            f"{folder}: spec.json and model.pt are damaged, or not of one network ({type(error).__name__}); copy both again, "
            "export the run again, or, if it is the run's own folder, move it out of the store and call train(config)"
        ) from error
    return model.to(device).eval()
