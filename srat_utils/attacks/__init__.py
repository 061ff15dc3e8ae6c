"""Attacks in the ℓ∞ ball: frozen records that are called as `attack(model, images, labels, generator=…)`.

One of your own needs `eps`, a `name` that ends in "@" and the budget, and a repr that gives its settings; `passes`, how often it
looks at an image, is asked for by what tells the time.
"""

from .apgd import APGD
from .pgd import PGD, frozen, pgd
from .square import Square

__all__ = ["APGD", "PGD", "Square", "frozen", "pgd"]
