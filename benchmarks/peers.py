"""The same PGD attack and the same training epoch as others write them, each behind one signature."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from srat_utils.attacks import APGD, PGD, Square
from srat_utils.batches import augment

AttackFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def backward_loop(model: nn.Module, attack: PGD) -> AttackFunction:
    """The loop that most training code holds, the paper's base library's too: `loss.backward()` for an image's gradient.

    It computes the gradients of all parameters on the way, and throws them away.
    """

    def run(x, y):
        model.eval()
        x_adv = x + attack.eps * (2 * torch.rand_like(x) - 1)
        for _ in range(attack.steps):
            x_adv = x_adv.detach().requires_grad_()
            model.zero_grad()
            F.cross_entropy(model(x_adv), y).backward()
            x_adv = x_adv.detach() + attack.step * x_adv.grad.sign()
            x_adv = (x + (x_adv - x).clamp(-attack.eps, attack.eps)).clamp(0, 1)
        return x_adv

    return run


def torchattacks(model: nn.Module, attack: PGD) -> AttackFunction:
    from torchattacks import PGD  # a peer, not a requirement

    return PGD(model.eval(), eps=attack.eps, alpha=attack.step, steps=attack.steps, random_start=True)


def foolbox(model: nn.Module, attack: PGD) -> AttackFunction:
    from foolbox import PyTorchModel
    from foolbox.attacks import LinfPGD

    wrapped = PyTorchModel(model.eval(), bounds=(0, 1))
    pgd = LinfPGD(abs_stepsize=attack.step, steps=attack.steps, random_start=True)
    return lambda x, y: pgd.run(wrapped, x, y, epsilon=attack.eps)


def art(model: nn.Module, attack: PGD) -> AttackFunction:
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    def run(x, y):
        device = "gpu" if x.is_cuda else "cpu"
        classifier = PyTorchClassifier(
            model.eval(), nn.CrossEntropyLoss(), x.shape[1:], nb_classes=10, clip_values=(0, 1), device_type=device
        )
        pgd = ProjectedGradientDescentPyTorch(
            classifier, eps=attack.eps, eps_step=attack.step, max_iter=attack.steps, num_random_init=1,
            batch_size=len(x), verbose=False,
        )  # fmt: skip
        return torch.from_numpy(pgd.generate(x.cpu().numpy(), y.cpu().numpy()))

    return run


def pyautoattack(model: nn.Module, attack: APGD | Square) -> AttackFunction:
    """The published Auto-PGD and Square, with as many steps, targets and queries as ours."""
    from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
    from pyautoattack.square import SquareAttack

    if isinstance(attack, Square):
        theirs = SquareAttack(model.eval(), n_queries=attack.queries, eps=attack.eps, p_init=attack.p)
    elif attack.loss == "targeted":
        theirs = APGDAttack_targeted(model.eval(), attack.steps, eps=attack.eps, n_target_classes=attack.targets)
    else:
        theirs = APGDAttack(model.eval(), attack.steps, eps=attack.eps, loss=attack.loss)
    return theirs.perturb


PEERS = {"torchattacks": torchattacks, "foolbox": foolbox, "ART": art, "loop with backward()": backward_loop}


def epoch_with_a_loader(config, model: nn.Module, optimizer, images: torch.Tensor, labels: torch.Tensor) -> None:
    """An adversarial epoch as a training script writes it: a DataLoader, the loop with `backward()`, a read loss a batch.

    images: uint8 [N,C,H,W] on the CPU.  The loss is the weighted cross-entropy with weights of one.
    """
    device = next(model.parameters()).device
    attack, weight = backward_loop(model, config.training_attack), torch.ones(10, device=device)
    noise = torch.Generator()
    loader = DataLoader(
        TensorDataset(images, labels), config.batch_size, shuffle=True, pin_memory=device.type == "cuda"
    )
    total = 0.0
    for x, y in loader:
        x = x.float() / 255
        if config.augmentation != "none":
            x = augment(x, noise, flip=config.augmentation == "crop+flip")
        x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
        x = attack(x, y)
        model.train()
        loss = F.cross_entropy(model(x), y, weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(y)
