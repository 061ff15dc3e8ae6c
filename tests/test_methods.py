"""The eleven rows of Tables 1–4, the loss of each, and that each of them trains."""

import math

import pytest
import torch
import torch.nn.functional as F

from srat_utils import ELEVEN, METHODS, Config, load_dataset
from srat_utils.models import CosineHead
from srat_utils.terms import CE, LDAM, Facts, Focal
from srat_utils.training import fit
from srat_utils.weights import Always, Deferred

# name: (loss, when it reweights, whether it adds L_sep), as section 5.1 of the paper lists them.
TABLE = {
    "CE": ("CE", "none", False),
    "Focal": ("Focal", "none", False),
    "LDAM": ("LDAM", "none", False),
    "CB-Reweight": ("CE", "always", False),
    "CB-Focal": ("Focal", "always", False),
    "DRCB-CE": ("CE", "deferred", False),
    "DRCB-Focal": ("Focal", "deferred", False),
    "DRCB-LDAM": ("LDAM", "deferred", False),
    "SRAT-CE": ("CE", "deferred", True),
    "SRAT-Focal": ("Focal", "deferred", True),
    "SRAT-LDAM": ("LDAM", "deferred", True),
}
TINY = {
    "imbalance": "step-5",
    "max_per_class": 15,
    "test_per_class": 5,
    "epochs": 2,
    "batch_size": 32,
    "attack_steps": 2,
}


def test_the_methods_are_the_rows_of_the_papers_tables():
    weighting = {type(None): "none", Always: "always", Deferred: "deferred"}
    rows = {
        name: (
            method.loss,
            weighting[type(method.weighting)],
            "separation_loss" in {term.name for term in method.terms},
        )
        for name, method in ELEVEN.items()
    }
    assert rows == TABLE and list(METHODS)[: len(TABLE)] == list(TABLE)
    assert all(name == method.name for name, method in METHODS.items())


def test_each_loss_is_the_one_it_is_named_after():
    logits, labels = torch.tensor([[4.0, 1.0], [0.0, 2.0]]), torch.tensor([0, 1])
    ce = F.cross_entropy(logits, labels, reduction="none")
    facts = Facts([16, 1], 2, torch.device("cpu"))
    torch.testing.assert_close(CE().each(facts)(logits, labels), ce)
    torch.testing.assert_close(Focal(focal_gamma=2).each(facts)(logits, labels), (1 - (-ce).exp()) ** 2 * ce)
    # Counts 16 and 1: margins 0.25 and 0.5; at s = 10 the true logits fall by 2.5 and 5.
    expected = [math.log1p(math.exp(1 - 1.5)), math.log1p(math.exp(0 + 3))]
    assert LDAM(ldam_scale=10).each(facts)(logits, labels).tolist() == pytest.approx(expected, rel=1e-5)
    in_loss = LDAM(ldam_scale=10, ldam_scale_in="loss")  # logits are cosines then
    assert in_loss.each(facts)(logits / 10, labels).tolist() == pytest.approx(expected, rel=1e-5)
    assert (LDAM().head_scale, in_loss.head_scale, CE().head_scale) == (30, 1, None)


@pytest.mark.parametrize("adversarial", [False, True], ids=["natural", "adversarial"])
@pytest.mark.parametrize("method", TABLE)
def test_every_method_trains(method, adversarial):
    config = Config(method=method, adversarial=adversarial, **TINY)
    state = fit(config, load_dataset("digits", imbalance="step-5", max_per_class=15, test_per_class=5).train)
    assert len(state.history) == 2 and all(math.isfinite(row["loss"]) for row in state.history)
    assert all(torch.isfinite(value).all() for value in state.model.state_dict().values())
    # Deferred methods reweight from round(0.8 · 2) = 2 on, so not in two epochs.
    assert [row["reweighted"] for row in state.history] == [float(TABLE[method][1] == "always")] * 2
    assert ("separation_loss" in state.history[0]) == TABLE[method][2]
    assert isinstance(state.model.head, CosineHead) == (TABLE[method][0] == "LDAM")
