"""Shared by the tests: a fresh network by a few numbers, a batch of three classes, a small set of digits."""

import torch

from srat_utils import load_dataset
from srat_utils.attacks import PGD, pgd
from srat_utils.images import ImageDataset
from srat_utils.models import Classifier, Spec
from srat_utils.terms import Batch


def build(architecture: str, channels: int, classes: int, *, size: int = 8, seed: int = 0, **spec) -> Classifier:
    return Spec(architecture, channels, (size, size), tuple(map(str, range(classes))), **spec).build(seed)


def small_batch(*, weighted: bool) -> Batch:
    """Twelve images of three classes, attacked, with random weights or with weights of 1."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(12, 1, 8, 8, generator=generator)
    y = torch.arange(12) % 3
    w = torch.rand(12, generator=generator) if weighted else torch.ones(12)
    model = build("small-cnn", 1, 3).train()
    return Batch(model, x, pgd(model, x, y, PGD(0.1, 0.05, 2), generator=generator), y, w)


def few_digits() -> ImageDataset:
    return load_dataset("digits", imbalance="step-5", max_per_class=15).train
