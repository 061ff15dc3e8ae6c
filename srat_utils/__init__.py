"""Adversarial training on imbalanced images: the package behind the notebooks on SRAT."""

from .config import Config
from .data import load_dataset
from .evaluation import PAPER, STRONG
from .methods import ELEVEN, METHODS
from .models import load
from .runs import plan
from .sweeps import sweep
from .trainer import train

__all__ = ["ELEVEN", "METHODS", "PAPER", "STRONG", "Config", "load", "load_dataset", "plan", "sweep", "train"]
