"""Algorithm 1: one loop for every method; it knows none of them by name."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .attacks import PGD, pgd
from .batches import SAMPLERS, augment, batches_per_epoch, rand_augment
from .budgets import Budget
from .config import Config
from .devices import cpu_threads, resolve_device
from .images import ImageDataset
from .inner import Inner, inner_named
from .losses import has_positive
from .models import Classifier, Spec, at_once, in_mode
from .records import ConfigError, Record
from .terms import Batch, Facts, Objective


class TrainingError(RuntimeError):
    """Training cannot go on; the message names the epoch and what to try."""


def learning_rate(config: Config, epoch: int) -> float:
    """Rate of an epoch counted from 0: linear warm-up, then × `lr_decay` at each `decay_at` (×0.01 at 160 and at 180 of 200)."""
    if epoch < config.warmup_epochs:
        return config.learning_rate * (epoch + 1) / config.warmup_epochs
    passed = sum(epoch >= config.epoch_at(fraction) for fraction in config.decay_at)
    return config.learning_rate * config.lr_decay**passed


def class_weights(config: Config, counts: list[int], epoch: int, under: np.ndarray | None = None) -> np.ndarray:
    """w per class [C] in an epoch counted from 0: ones, and from T_d on the class-balanced weights or the plain ratio.

    under: bool [C], which classes are rare; None: by the counts.
    """
    weighting = config.recipe.weighting
    if weighting is None or epoch < weighting.start(config.epochs):
        return np.ones(len(counts))
    return weighting.of(counts, under)


def moving_average(model: Classifier, decay: float | None) -> AveragedModel | None:
    """The exponential moving average of weights and batch-norm statistics, which starts at the first step's."""
    if decay is None:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


@dataclass
class Epoch:
    """How far the epoch under way is.

    order: the state of the generator of the batches when it began.  batches: how many are done.  sums: of what was measured,
    over their images.  seconds: spent on them.
    """

    order: torch.Tensor
    batches: int = 0
    sums: dict[str, torch.Tensor] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass
class State:
    """All that a training run carries from one step to the next.

    facts: what the terms know of the training set and the network.  epoch: the one under way; None between two of them.
    averaged: the moving average of the weights, if asked for.
    """

    facts: Facts
    model: Classifier
    objective: Objective
    optimizer: torch.optim.SGD
    order: torch.Generator  # which images form a batch; on the CPU
    noise: torch.Generator  # augmentation and random starts; on the training device
    history: list[dict] = field(default_factory=list)
    epoch: Epoch | None = None
    averaged: AveragedModel | None = None

    @classmethod
    def fresh(cls, config: Config, dataset: ImageDataset, device: torch.device) -> State:
        _, height, width, channels = dataset.images.shape
        if config.rand_augment and channels not in (1, 3):
            raise ConfigError(
                f"RandAugment takes grey or RGB images, and these have {channels} channels; set rand_augment=0"
            )
        size, kind = (height, width), (config.head_scale, config.projection, config.precision)
        model = Spec(config.model, channels, size, dataset.classes, *kind).build(config.seed).to(device)
        if config.compile:
            model.body.compile()
        facts = Facts(dataset.counts, config.projection or model.width, device)
        budget = config.recipe.budget.build(facts) if config.recipe.budget else Budget()
        objective = Objective(config.recipe.terms, facts, budget)
        optimizer = torch.optim.SGD(
            [*model.parameters(), *objective.parameters()], config.learning_rate, momentum=config.momentum,
            weight_decay=config.weight_decay, fused=device.type == "cuda",
        )  # fmt: skip
        order = torch.Generator().manual_seed(config.seed)
        noise = torch.Generator(device).manual_seed(config.seed)
        return cls(facts, model, objective, optimizer, order, noise, averaged=moving_average(model, config.averaging))

    @property
    def result(self) -> Classifier:
        """The network that the run keeps."""
        return self.model if self.averaged is None else self.averaged.module

    def descend(self, loss: torch.Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def to_dict(self) -> dict:
        """Tensors, numbers and strings only, so that torch.load(weights_only=True) reads it back."""
        averaged = {} if self.averaged is None else {"averaged": self.averaged.state_dict()}
        return averaged | {
            "model": self.model.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "order": self.order.get_state() if self.epoch is None else self.epoch.order,
            "noise": self.noise.get_state(),
            "history": self.history,
            "epoch": self.epoch and {name: value for name, value in vars(self.epoch).items() if name != "order"},
        }

    def load_dict(self, stored: dict) -> None:
        self.model.load_state_dict(stored["model"])
        self.objective.load_state_dict(stored["objective"])
        self.optimizer.load_state_dict(stored["optimizer"])
        self.order.set_state(stored["order"].cpu())
        self.noise.set_state(stored["noise"].cpu())
        self.history = stored["history"]
        self.epoch = stored.get("epoch") and Epoch(self.order.get_state(), **stored["epoch"])
        if self.averaged is not None:
            self.averaged.load_state_dict(stored["averaged"])


@dataclass(frozen=True)
class Job:
    """What one step does, of a config and for one epoch.  attack: None in natural training."""

    objective: Objective
    inner: Inner
    attack: PGD | None
    attack_training: bool  # whether the attack meets batch norm in train mode
    update: Record
    reduction: str
    budget: Budget  # ε of each class
    progress: float = 0.0  # the fraction of the epochs that is over

    @classmethod
    def of(cls, config: Config, state: State) -> Job:
        recipe = config.recipe
        return cls(
            objective=state.objective,
            inner=inner_named(config.attack_loss)(recipe.terms[0], state.facts),
            attack=config.training_attack if config.adversarial else None,
            attack_training=config.attack_batch_norm == "train",
            update=recipe.update,
            reduction=recipe.weighting.reduction if recipe.weighting else "weighted",
            budget=state.objective.budget,
        )

    def in_epoch(self, config: Config, epoch: int) -> Job:
        """With ε still growing in the first epochs, where the config says so; the budget is told that the epoch begins."""
        self.budget.begin(epoch, config.epochs)
        job = replace(self, progress=epoch / config.epochs)
        if self.attack is None or epoch >= config.eps_warmup_epochs:
            return job
        return replace(job, attack=self.attack.scaled((epoch + 1) / config.eps_warmup_epochs))


@contextmanager
def batches_told(config: Config) -> Iterator[None]:
    """What torch says of a batch that is too small for batch norm, as a TrainingError of one line."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise TrainingError(
            f"a batch of one image leaves {config.model}'s batch norm a single value per channel on images as small as these; "
            "set batch_size=2 or more"
        ) from None


def fit(
    config: Config,
    dataset: ImageDataset,
    *,
    state: State | None = None,
    after_epoch: Callable[[State], None] = lambda state: None,
    after_step: Callable[[State], None] = lambda state: None,
) -> State:
    """Train on `dataset` (Algorithm 1) until `config.epochs` epochs are in `state.history`.

    state: where to go on from, an epoch's middle included; None starts afresh.  after_epoch: called with the state at the end of
    each epoch; after_step: after each step inside one.
    Raises TrainingError when the loss is no longer a number, or a batch is too small for batch norm.
    """
    device = resolve_device(config.device)
    state = state or State.fresh(config, dataset, device)
    images, labels = dataset.tensors(device)
    job = Job.of(config, state)
    with cpu_threads(config.model, config.threads):
        for epoch in range(len(state.history), config.epochs):
            rate, w = learning_rate(config, epoch), class_weights(config, dataset.counts, epoch, dataset.under)
            for group in state.optimizer.param_groups:
                group["lr"] = rate
            class_weight = torch.tensor(w, dtype=torch.float32, device=device)
            with batches_told(config):
                row = train_epoch(config, job.in_epoch(config, epoch), state, images, labels, class_weight, after_step)
            if not math.isfinite(row["loss"]):
                raise TrainingError(
                    f"the loss became {row['loss']} in epoch {epoch + 1} of {config.epochs}; "
                    f"try a lower learning_rate than {config.learning_rate:g} or eps_warmup_epochs above {config.eps_warmup_epochs}"
                )
            facts = {"epoch": epoch, "learning_rate": rate, "reweighted": float(w.max() > w.min())}
            state.history.append(facts | row)
            after_epoch(state)
        with torch.no_grad(), in_mode(state.result, training=False):
            if not state.result(images[: at_once(images.shape[2:], 256)].float() / 255).isfinite().all():
                raise TrainingError(
                    f"the last step left a network that answers with no numbers; try a lower learning_rate than {config.learning_rate:g}"
                )
    return state


def train_epoch(
    config: Config, job: Job, state: State, images, labels, class_weight: torch.Tensor,
    after_step: Callable[[State], None] = lambda state: None,
) -> dict:  # fmt: skip
    """One pass over the data, or the rest of it, where `state.epoch` has begun one.

    Returns the epoch's means over images, the loss, its terms and what is worth watching, and its seconds.
    """
    state.model.train()
    state.epoch = epoch = state.epoch or Epoch(state.order.get_state())
    started, sampled = time.perf_counter() - epoch.seconds, SAMPLERS[config.sampler]
    for x, y in sampled(images, labels, config.batch_size, state.order, epoch.batches):  # line 4: sample a mini-batch
        if config.rand_augment:
            x = rand_augment(x, state.noise, config.rand_augment, config.rand_magnitude)
        if config.augmentation != "none":
            x = augment(x, state.noise, flip=config.augmentation == "crop+flip")
        values, logits = step(job, state, x, y, class_weight)
        measured = {"loss": sum(values.values()), **values}
        measured["train_accuracy"] = 100 * (logits.argmax(1) == y).float().mean()
        measured["anchors_with_positive"] = has_positive(y).float().mean()
        for name, value in measured.items():
            epoch.sums[name] = epoch.sums.get(name, 0) + len(y) * value.detach()
        epoch.batches, epoch.seconds = epoch.batches + 1, time.perf_counter() - started
        if epoch.batches < batches_per_epoch(len(labels), config.batch_size):
            after_step(state)
    means = (torch.stack(list(epoch.sums.values())) / len(labels)).tolist()
    state.epoch = None
    return dict(zip(epoch.sums, means, strict=True)) | {"seconds": time.perf_counter() - started}


def step(job: Job, state: State, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> tuple[dict, torch.Tensor]:
    """Algorithm 1's lines 5 to 7 for a mini-batch x [n,C,H,W], y [n], with class weights w [C].

    Returns the terms' values, whose sum was minimised, and the logits of x′ (of x, where no term looks at x′).
    """
    x_adv = x
    if job.attack is not None:  # line 5: x′
        loss, target = job.inner(state.model, x, y)
        x_adv = pgd(
            state.model, x, target, job.attack, loss=loss, eps=job.budget(job.attack, y), generator=state.noise,
            training=job.attack_training,
        )  # fmt: skip
    w = (w * job.budget.weight)[y]
    with job.update(job.objective, Batch(state.model, x, x_adv, y, w, job.reduction, job.progress)) as batch:
        values = job.objective(batch)  # lines 6 and 15: w·L + λ·L_sep
        state.descend(sum(values.values()))  # lines 7 and 16
    if state.averaged is not None:
        state.averaged.update_parameters(state.model)
    job.budget.watch(batch.shown.logits, y)
    return values, batch.shown.logits
