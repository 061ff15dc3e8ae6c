"""Adversarial training on imbalanced images: the package behind the notebooks on SRAT."""

from .config import Config
from .data import load_dataset
from .methods import METHODS
from .runs import sweep, train

__all__ = ["METHODS", "Config", "load_dataset", "sweep", "train"]
