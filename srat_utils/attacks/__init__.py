"""Attacks in the ℓ∞ ball: records that are called as `attack(model, images, labels, generator=…)`."""

from .pgd import PGD, frozen, pgd

__all__ = ["PGD", "frozen", "pgd"]
