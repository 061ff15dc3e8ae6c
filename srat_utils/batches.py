"""Mini-batches on the device that holds the images: in which order, and how augmented."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from .models import seeded

Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]  # float images in [0,1] [n,C,H,W] and labels int64 [n]


def batches_per_epoch(images: int, batch_size: int) -> int:
    """How many mini-batches a sampler makes of so many images."""
    groups = -(-images // batch_size)
    return groups - (groups > 1 and images - (groups - 1) * batch_size == 1)


def shuffled(
    images: torch.Tensor, labels: torch.Tensor, batch_size: int, order: torch.Generator, done: int = 0
) -> Batches:
    """Every image once.  images: uint8 [N,C,H,W].  labels: int64 [N].  order: on the CPU."""
    yield from cut(images, labels, batch_size, torch.randperm(len(labels), generator=order), done)


def class_balanced(
    images: torch.Tensor, labels: torch.Tensor, batch_size: int, order: torch.Generator, done: int = 0
) -> Batches:
    """As many images as there are, drawn with replacement so that every class is drawn as often: rare images come again and again.

    order: the generator that draws.  done: how many of the epoch's batches to leave out.
    """
    chance = 1 / torch.bincount(labels)[labels].cpu().double()
    yield from cut(images, labels, batch_size, torch.multinomial(chance, len(labels), True, generator=order), done)


SAMPLERS = {"shuffled": shuffled, "class-balanced": class_balanced}


def cut(images: torch.Tensor, labels: torch.Tensor, batch_size: int, index: torch.Tensor, done: int) -> Batches:
    """The images of `index` in mini-batches.

    A single image left over joins the batch before it: batch norm has no variance over a single 1×1 map.
    done: so many of the batches are passed over, being trained on already.
    """
    groups = list(index.to(labels.device).split(batch_size))
    if len(groups) > 1 and len(groups[-1]) == 1:
        groups[-2:] = [torch.cat(groups[-2:])]
    for group in groups[done:]:
        yield images[group].float() / 255, labels[group]


def augment(images: torch.Tensor, generator: torch.Generator, padding: int = 4, flip: bool = True) -> torch.Tensor:
    """A random crop after zero padding and, for half of the images, a horizontal flip; each image draws its own.

    images: float or uint8 [N,C,H,W] on the generator's device.  Returns a tensor like `images`.
    """
    n, c, h, w = images.shape
    device = images.device
    top, left = torch.randint(2 * padding + 1, (2, n, 1), generator=generator, device=device)
    rows, columns = top + torch.arange(h, device=device), left + torch.arange(w, device=device)
    if flip:
        mirrored = torch.rand(n, 1, generator=generator, device=device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    image, channel = torch.arange(n, device=device), torch.arange(c, device=device)
    return F.pad(images, [padding] * 4)[
        image[:, None, None, None], channel[:, None, None], rows[:, None, :, None], columns[:, None, None]
    ]


def rand_augment(images: torch.Tensor, generator: torch.Generator, operations: int, magnitude: int) -> torch.Tensor:
    """RandAugment (Cubuk et al., 2020) as torchvision has it; each image draws its own operations.

    images: float in [0,1], [N,C,H,W].  magnitude: 0 to 30.  Returns a tensor like `images`.
    """
    from torchvision.transforms import v2  # slow to import, and seldom needed

    transform = v2.RandAugment(operations, magnitude)
    with seeded(int(torch.randint(2**31, (), generator=generator, device=generator.device))):
        return torch.stack([transform(image) for image in images])
