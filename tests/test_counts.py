"""What an epoch costs, counted instead of timed: passes, gradients, waits for the device, allocations."""

from collections import Counter

import pytest
import torch
from helpers import build
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from srat_utils import Config, load_dataset
from srat_utils.attacks import PGD, pgd
from srat_utils.training import Job, State, train_epoch

CONVOLUTIONS = 3  # of small-cnn


class Counted(TorchDispatchMode):
    """Every operation inside, and how many of them made new memory."""

    def __init__(self):
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.gradients: Counter[tuple[bool, ...]] = (
            Counter()
        )  # which of (input, weight, bias) a convolution's backward made
        self.allocations = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        given = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves((args, kwargs)) if torch.is_tensor(leaf)}
        result = operation(*args, **(kwargs or {}))
        name = operation.overloadpacket.__name__
        self.calls[name] += 1
        if name == "convolution_backward":
            self.gradients[tuple(args[-1])] += 1
        made = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves(result) if torch.is_tensor(leaf)}
        self.allocations += len(made - given)
        return result


def counted(batches: int, attack_steps: int = 4, **changes) -> Counted:
    """One epoch of so many batches on digits."""
    config = Config(
        method="SRAT-LDAM", batch_size=8, attack_steps=attack_steps, max_per_class=20, device="cpu", **changes
    )
    split = load_dataset("digits", imbalance="balanced", max_per_class=20)
    images, labels = (tensor[: 8 * batches] for tensor in split.train.tensors(torch.device("cpu")))
    state = State.fresh(config, split.train, torch.device("cpu"))
    job = Job.of(config, state)
    with Counted() as counts:
        train_epoch(config, job, state, images, labels, torch.ones(10))
    return counts


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_a_batch_costs_one_pass_a_step_and_one_more(steps):
    counts = counted(batches=3, attack_steps=steps)
    assert counts.calls["convolution"] == 3 * CONVOLUTIONS * (steps + 1)
    assert counts.calls["convolution_backward"] == 3 * CONVOLUTIONS * (steps + 1)


def test_natural_training_costs_one_pass():
    assert counted(batches=3, adversarial=False).calls["convolution"] == 3 * CONVOLUTIONS


def test_an_attack_makes_no_gradient_of_a_parameter():
    model, images, labels = build("small-cnn", 1, 10), torch.rand(6, 1, 8, 8), torch.arange(6)
    with Counted() as counts:
        pgd(model, images, labels, PGD(steps=5))
    assert counts.gradients == {(True, False, False): 5 * CONVOLUTIONS}
    assert counts.calls["native_batch_norm"] == counts.calls["cudnn_batch_norm"] == 0  # folded
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_training_step_makes_no_gradient_of_the_images():
    counts = counted(batches=2, adversarial=False)
    assert counts.gradients == {(False, True, False): 2, (True, True, False): 2 * (CONVOLUTIONS - 1)}


def test_reading_a_number_is_counted():
    with Counted() as counts:
        torch.ones(3).sum().item()
    assert counts.calls["_local_scalar_dense"] == 1


@pytest.mark.parametrize("changes", [{}, {"separation_weight": 0.0}, {"lonely_anchors": "drop"}, {"precision": "bf16"}])
def test_an_epoch_never_waits_for_the_device_between_batches(changes):
    few, many = (counted(batches, **changes).calls["_local_scalar_dense"] for batches in (2, 3))
    assert few == many


def test_an_attack_step_allocates_the_same_few_tensors_each_time():
    totals = [counted(2, steps).allocations for steps in (2, 4, 6)]
    assert totals[1] - totals[0] == totals[2] - totals[1] <= 2 * 2 * 60  # 45 with torch 2.15


def test_a_batch_allocates_the_same_number_of_tensors_whichever_it_is():
    totals = [counted(batches).allocations for batches in (2, 3, 4)]
    assert totals[1] - totals[0] == totals[2] - totals[1]
