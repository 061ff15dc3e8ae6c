"""Attacks in the ℓ∞ ball: records that are called as `attack(model, images, labels, generator=…)`."""

from .apgd import APGD
from .pgd import PGD, frozen, pgd
from .square import Square

__all__ = ["APGD", "PGD", "Square", "frozen", "pgd"]
