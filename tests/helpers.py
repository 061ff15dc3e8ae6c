"""Shared by the tests: a fresh network by a few numbers."""

from srat_utils.models import Classifier, Spec


def build(architecture: str, channels: int, classes: int, *, size: int = 8, seed: int = 0, **spec) -> Classifier:
    return Spec(architecture, channels, (size, size), tuple(map(str, range(classes))), **spec).build(seed)
