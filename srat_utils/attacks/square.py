"""Square: random search in the ℓ∞ ball that sees logits and no gradient (Andriushchenko et al., 2020, Algorithms 1 and 2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from .objectives import largest_margin
from .pgd import bounds, budget_name, frozen

HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10000 queries: when the window's share halves


@dataclass(frozen=True)
class Square:
    """Random windows, accepted where they lower the margin z_y − max_{i≠y} z_i; eps (ε) in pixel units of [0,1].

    queries: how often the model is asked about an image, the start included.  p: the share of the pixels in the first windows.
    """

    eps: float
    queries: int = 5000
    p: float = 0.8

    def __post_init__(self):
        if not (self.eps >= 0 and self.queries >= 1 and 0 < self.p <= 1):
            raise ValueError(f"Square needs eps of 0 or more, a query or more and p above 0, at most 1; got {self}")

    @property
    def name(self) -> str:
        return f"square-{self.queries}@{budget_name(self.eps)}"

    @property
    def passes(self) -> int:
        """How often it looks at an image that stands to the end."""
        return self.queries

    @torch.no_grad()
    def __call__(
        self, model: nn.Module, images: torch.Tensor, labels: torch.Tensor, *, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Adversarial images, like `images` (float [N,C,H,W] in [0,1]; labels int64 [N]), at most ε from them and in [0,1].

        A misclassified image comes back as it is, one that falls as what fooled the model, one that stands as the point of
        lowest margin.  The model is left as `frozen` leaves it.
        """
        adversarial = images.clone()
        with frozen(model):
            standing = (model(images).argmax(1) == labels).nonzero().squeeze(1)
            images, labels = images[standing], labels[standing]
            low, high = bounds(images, self.eps)
            best, lowest = images, images.new_full(labels.shape, torch.inf)
            for query in range(self.queries):
                if not len(standing):
                    break
                if query == 0:
                    x = stripes(low, high, generator)
                else:
                    x = windows(best, low, high, self.side(query - 1, *images.shape[2:]), generator)
                logits = model(x).to(x.dtype)
                gap = -largest_margin(logits, labels)
                lower, stands = gap < lowest, logits.argmax(1) == labels
                lowest = torch.where(lower, gap, lowest)
                best = torch.where(lower.view(-1, 1, 1, 1), x, best)
                if not stands.all():
                    adversarial[standing[~stands]] = x[~stands]
                    standing, labels, low, high, best, lowest = (
                        kept[stands] for kept in (standing, labels, low, high, best, lowest)
                    )
            adversarial[standing] = best
        return adversarial

    def side(self, query: int, height: int, width: int) -> int:
        """The side of a window in pixels; its share of the image starts at p and halves as published, stretched to `queries`."""
        share = self.p / 2 ** sum(query * 10000 // self.queries > passed for passed in HALVED_AFTER)
        return min(max(round((share * height * width) ** 0.5), 1), height, width)


def stripes(low: torch.Tensor, high: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """The start: each column of each channel at one end of the ball."""
    number, channels, _, width = low.shape
    return torch.where(draw(low, (number, channels, 1, width), generator) < 0.5, low, high)


def windows(
    best: torch.Tensor, low: torch.Tensor, high: torch.Tensor, side: int, generator: torch.Generator | None
) -> torch.Tensor:
    """The best point with one square of each image moved to an end of the ball, which is drawn for each channel.

    Where all the square is there already, it moves to the other end: else half of the smallest windows would change nothing.
    """
    number, channels, height, width = low.shape
    drawn = draw(low, (number, channels + 2), generator)
    up = (drawn[:, 2:] < 0.5).view(number, channels, 1, 1)
    rows, columns = span(drawn[:, 0], height, side), span(drawn[:, 1], width, side)
    inside = rows[:, None, :, None] & columns[:, None, None, :]
    proposed = torch.where(inside & up, high, torch.where(inside, low, best))
    same = (proposed == best).flatten(1).all(1).view(number, 1, 1, 1)
    return torch.where(same & inside, torch.where(up, low, high), proposed)


def span(drawn: torch.Tensor, length: int, side: int) -> torch.Tensor:
    """Which of `length` places [n,length] lie in a span of `side`, whose beginning a number in [0,1) draws."""
    begin = (drawn * (length - side + 1)).long()[:, None]
    place = torch.arange(length, device=drawn.device)
    return (place >= begin) & (place < begin + side)


def draw(like: torch.Tensor, shape: tuple[int, ...], generator: torch.Generator | None) -> torch.Tensor:
    return torch.rand(shape, generator=generator, device=like.device, dtype=like.dtype)
