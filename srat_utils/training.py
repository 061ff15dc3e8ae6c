"""Algorithm 1: one loop for natural, adversarial and reweighted training and for SRAT."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch

from . import data, weights
from .attacks import pgd
from .config import Config, ConfigError
from .data import ImageDataset
from .losses import cross_entropy, feature_separation, has_positive
from .methods import METHODS, prediction_loss
from .models import Classifier, build

CHANNELS_LAST_FROM = 16  # pixels a side; on smaller images reordering costs more than it brings


class TrainingError(RuntimeError):
    """Training cannot go on; the message names the epoch and what to try."""


def learning_rate(config: Config, epoch: int) -> float:
    """Rate of an epoch counted from 0: linear warm-up, then × `lr_decay` at each `decay_at` (×0.01 at 160 and at 180 of 200)."""
    if epoch < config.warmup_epochs:
        return config.learning_rate * (epoch + 1) / config.warmup_epochs
    passed = sum(epoch >= config.epoch_at(fraction) for fraction in config.decay_at)
    return config.learning_rate * config.lr_decay**passed


def class_weights(config: Config, counts: list[int], epoch: int) -> np.ndarray:
    """w per class [C] in an epoch counted from 0: ones, and from T_d on the class-balanced weights or the plain ratio."""
    start = weights.from_epoch(METHODS[config.method].weighting, config.epoch_at(config.reweight_at), config.epochs)
    if epoch < start:
        return np.ones(len(counts))
    if config.weight_ratio is not None:
        return weights.plain_ratio(data.under_represented(counts), config.weight_ratio)
    return weights.class_balanced(counts, config.beta)


def resolve_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device {name!r} cannot be used here; take device='auto' ({str(error).splitlines()[0]})"
        ) from None
    return torch.device(name)


@dataclass
class State:
    """All that a training run carries from one epoch to the next."""

    model: Classifier
    optimizer: torch.optim.SGD
    order: torch.Generator  # which images form a batch; on the CPU
    noise: torch.Generator  # augmentation and random starts; on the training device
    history: list[dict] = field(default_factory=list)

    @classmethod
    def fresh(cls, config: Config, dataset: ImageDataset, device: torch.device) -> State:
        scale = config.ldam_scale if config.ldam_scale_in == "model" else 1.0
        scale = scale if METHODS[config.method].loss == "LDAM" else None
        shape = {"channels": dataset.images.shape[3], "classes": len(dataset.classes)}
        model = build(config.model, **shape, scale=scale, projection=config.projection, seed=config.seed).to(device)
        if min(dataset.images.shape[1:3]) >= CHANNELS_LAST_FROM:
            model = model.to(memory_format=torch.channels_last)
        if config.compile:
            model.body.compile()
        optimizer = torch.optim.SGD(
            model.parameters(), config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay,
            fused=device.type == "cuda",
        )  # fmt: skip
        order = torch.Generator().manual_seed(config.seed)
        noise = torch.Generator(device).manual_seed(config.seed)
        return cls(model, optimizer, order, noise)

    def to_dict(self) -> dict:
        """Tensors, numbers and strings only, so that torch.load(weights_only=True) reads it back."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "order": self.order.get_state(),
            "noise": self.noise.get_state(),
            "history": self.history,
        }

    def load_dict(self, stored: dict) -> None:
        self.model.load_state_dict(stored["model"])
        self.optimizer.load_state_dict(stored["optimizer"])
        self.order.set_state(stored["order"].cpu())
        self.noise.set_state(stored["noise"].cpu())
        self.history = stored["history"]


@contextmanager
def cpu_threads(config: Config) -> Iterator[None]:
    """One thread for the small network, where a second one costs more than it brings and would change the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads or (1 if config.model == "small-cnn" else before))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fit(
    config: Config,
    dataset: ImageDataset,
    *,
    state: State | None = None,
    after_epoch: Callable[[State], None] = lambda state: None,
) -> State:
    """Train on `dataset` (Algorithm 1) until `config.epochs` epochs are in `state.history`.

    state: where to go on from; None starts afresh.  after_epoch: called with the state at the end of each epoch.
    Raises TrainingError when the loss is no longer a number.
    """
    device = resolve_device(config.device)
    state = state or State.fresh(config, dataset, device)
    images, labels = dataset.tensors(device)
    method = METHODS[config.method]
    loss = prediction_loss(
        method.loss,
        dataset.counts,
        gamma=config.focal_gamma,
        max_margin=config.max_margin,
        scale=config.ldam_scale,
        cosines=config.ldam_scale_in == "loss",
        device=device,
    )
    with cpu_threads(config):
        for epoch in range(len(state.history), config.epochs):
            started = time.perf_counter()
            rate, w = learning_rate(config, epoch), class_weights(config, dataset.counts, epoch)
            for group in state.optimizer.param_groups:
                group["lr"] = rate
            row = train_epoch(
                config, state, images, labels, loss, torch.tensor(w, dtype=torch.float32, device=device), epoch
            )
            if not math.isfinite(row["loss"]):
                raise TrainingError(
                    f"the loss became {row['loss']} in epoch {epoch + 1} of {config.epochs}; "
                    f"try a lower learning_rate than {config.learning_rate:g} or eps_warmup_epochs above {config.eps_warmup_epochs}"
                )
            seconds = time.perf_counter() - started
            state.history.append(
                {
                    "epoch": epoch,
                    "learning_rate": rate,
                    "reweighted": float(w.max() > w.min()),
                    **row,
                    "seconds": seconds,
                }
            )
            after_epoch(state)
    return state


def train_epoch(config: Config, state: State, images, labels, loss, class_weight: torch.Tensor, epoch: int) -> dict:
    """One pass over the data in Algorithm 1's own steps.  Returns the epoch's means, weighted by batch size."""
    model, separation = state.model.train(), METHODS[config.method].separation
    attack = config.training_attack
    if epoch < config.eps_warmup_epochs:
        attack = attack.scaled((epoch + 1) / config.eps_warmup_epochs)
    attack_loss = loss if config.attack_loss == "method" else cross_entropy
    sums = torch.zeros(5, device=images.device)
    for x, y in batches(config, state, images, labels):  # line 4: sample a mini-batch
        with torch.autocast(images.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            if config.adversarial:  # line 5: x′
                in_training = config.attack_batch_norm == "train"
                x = pgd(model, x, y, attack, loss=attack_loss, generator=state.noise, training=in_training)
            logits, features = model.logits_and_features(x)
        prediction = weights.reduce(loss(logits, y), class_weight[y], config.reduction)  # lines 6 and 15: w·L …
        objective, l_sep = prediction, torch.zeros_like(prediction)
        if separation:  # … + λ·L_sep
            z = model.projection(features)
            l_sep = feature_separation(z, y, config.temperature, lonely=config.lonely_anchors)
            objective = prediction + config.separation_weight * l_sep
        state.optimizer.zero_grad(set_to_none=True)
        objective.backward()
        state.optimizer.step()  # lines 7 and 16
        correct = (logits.argmax(1) == y).float().mean()
        measured = torch.stack(
            [objective.detach(), prediction.detach(), l_sep.detach(), correct, has_positive(y).float().mean()]
        )
        sums += len(y) * measured
    means = (sums / len(labels)).tolist()
    names = ["loss", "prediction_loss", "separation_loss", "train_accuracy", "anchors_with_positive"]
    row = dict(zip(names, means, strict=True))
    row["train_accuracy"] *= 100
    return row


def batches(
    config: Config, state: State, images: torch.Tensor, labels: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Shuffled mini-batches of float images in [0,1] and labels, cut and augmented on the device that holds them."""
    order = torch.randperm(len(labels), generator=state.order).to(labels.device)
    groups = list(order.split(config.batch_size))
    if len(groups) > 1 and len(groups[-1]) == 1:
        groups[-2:] = [torch.cat(groups[-2:])]  # batch norm has no variance over a single 1×1 map
    for index in groups:
        x = images[index].float() / 255
        if config.augmentation != "none":
            x = data.augment(x, state.noise, flip=config.augmentation == "crop+flip")
        yield x, labels[index]
