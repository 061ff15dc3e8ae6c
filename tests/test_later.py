"""The methods beside the paper's eleven: each against its formula, and what must hold for all of them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import build

from srat_utils import PAPER, Config, load_dataset, train
from srat_utils.attacks import PGD, pgd
from srat_utils.inner import INNER
from srat_utils.methods import LATER
from srat_utils.models import adjusted
from srat_utils.terms import Batch, Facts, LogitAdjusted
from srat_utils.training import Job, State, fit, step

CPU = torch.device("cpu")
COUNTS = [40, 10, 2]
FACTS = Facts(COUNTS, 64, CPU)
TINY = {"imbalance": "step-5", "max_per_class": 15, "test_per_class": 5, "epochs": 2, "attack_steps": 2}


@pytest.fixture(scope="module")
def data():
    return load_dataset("digits", imbalance="step-5", max_per_class=15).train


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(12, 1, 8, 8, generator=generator)
    y = torch.arange(12) % 3
    model = build("small-cnn", 1, 3).train()
    return Batch(model, x, pgd(model, x, y, PGD(0.1, 0.05, 2), generator=generator), y, torch.ones(12))


# ------------------------------------------------------------------------------------------------ priors


def in_double(method: str, data, steps: int, *, bias: torch.Tensor | float = 0.0) -> State:
    """A few steps of a method in float64, its head's bias moved by `bias` beforehand; no weight decay."""
    config = Config(method=method, weight_decay=0.0, epochs=1, warmup_epochs=0)
    state = State.fresh(config, data, CPU)
    state.model.double()
    with torch.no_grad():
        state.model.head.bias += bias
    facts = Facts(data.counts, state.model.width, CPU)
    job = Job.of(config, state, facts)
    images, labels = data.tensors(CPU)
    weights = torch.ones(len(data.classes), dtype=torch.float64)
    for _ in range(steps):
        index = torch.randperm(len(labels), generator=state.order)[:32]
        step(job, state, images[index].double() / 255, labels[index], weights)
    return state


def test_a_prior_in_loss_and_attack_is_cross_entropy_from_a_bias_of_the_log_prior(data):
    log_prior = Facts(data.counts, 64, CPU).log_prior.double()
    both, plain = in_double("AT-BSL-Both", data, 12), in_double("CE", data, 12, bias=log_prior)
    for (name, ours), theirs in zip(both.model.state_dict().items(), plain.model.state_dict().values(), strict=True):
        expected = theirs - log_prior if name == "head.bias" else theirs
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-11, msg=name)
    x = torch.rand(9, 1, 8, 8, dtype=torch.float64)
    twin = adjusted(plain.model.eval(), data.counts)
    torch.testing.assert_close(both.model.eval()(x), twin(x), rtol=0, atol=1e-6)  # ln π there is rounded to float32


def test_a_prior_in_the_loss_alone_is_another_method(data):
    log_prior = Facts(data.counts, 64, CPU).log_prior.double()
    alone, plain = in_double("AT-BSL", data, 12), in_double("CE", data, 12, bias=log_prior)
    assert (alone.model.head.weight - plain.model.head.weight).abs().max() > 1e-4


def test_reats_rebalanced_inner_loss_makes_the_images_of_cross_entropy(batch):
    """REAT (Li et al., 2023) climbs w_y·CE, w ∝ 1/E and E the effective number of what was predicted: a positive factor an image."""
    predicted, n = torch.tensor([30.0, 20.0, 2.0]), torch.tensor(COUNTS)
    beta = (n - 1) / n
    w = 1 / ((1 - beta**predicted) / (1 - beta) + 1e-5)
    w = 3 * w / w.sum()
    assert w.max() / w.min() > 5

    def rebalanced(logits, y):
        return w[y] * F.cross_entropy(logits, y, reduction="none")

    attack, model = PGD(0.1, 0.03, 5, "zero"), batch.model.double()
    ours = pgd(model, batch.x.double(), batch.y, attack, loss=rebalanced)
    assert torch.equal(ours, pgd(model, batch.x.double(), batch.y, attack))


@pytest.mark.parametrize("inner", ["cross-entropy", "method"])
def test_only_the_prior_in_both_changes_the_attack(batch, inner):
    loss, target = INNER[inner](LogitAdjusted(tau=3), FACTS)(batch.model, batch.x, batch.y)
    attack = PGD(0.1, 0.03, 5, "zero")
    same = torch.equal(pgd(batch.model, batch.x, target, attack, loss=loss), pgd(batch.model, batch.x, batch.y, attack))
    assert same == (inner == "cross-entropy")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(Config(method="CE", **TINY | {"epochs": 3}), store=tmp_path_factory.mktemp("runs"), progress=False)


def test_a_post_hoc_prior_is_an_evaluation_of_the_same_network_stored_beside_the_others(run):
    before = {path.name: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    frame = run.evaluate(PAPER.adjusted(1.0))
    made = {path.name for path in run.folder.rglob("*") if path.is_file()} - set(before)
    assert made == {f"{PAPER.adjusted(1.0).key(run.config)}.npz"}
    assert (run.folder / "model.pt").read_bytes() == before["model.pt"]
    assert len({PAPER.adjusted(tau).key(run.config) for tau in (0.5, 1.0, 1.0000001)} | {PAPER.key(run.config)}) == 4
    assert run.model.prior is None

    # By hand: the logits without it, minus ln π; clean, and under the attack on them.
    test, shares = run.data.test, torch.tensor(list(run.provenance["class_counts"].values()), dtype=torch.float64)
    prior = (shares / shares.sum()).log().float()
    images, labels = test.tensors(CPU)
    x = images.float() / 255

    class Shifted(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = run.model

        def forward(self, x):
            return self.model(x) - prior

    x_adv = run.config.evaluation_attack(Shifted().eval(), x, labels, generator=torch.Generator().manual_seed(0))
    for kind, tried in {"clean": x, "robust": x_adv}.items():
        right = (run.model(tried) - prior).argmax(1) == labels
        rows = frame[frame["kind"] == kind].set_index("class")
        for number, name in enumerate(run.classes):
            assert rows.loc[name, "accuracy"] == pytest.approx(100 * right[labels == number].float().mean().item())
    assert not np.array_equal(frame["predicted"], run.metrics["predicted"])


def test_a_post_hoc_prior_of_equal_counts_changes_no_prediction(run):
    equal = adjusted(run.model, [7] * 10, tau=2.0)
    x = torch.rand(50, 1, 8, 8)
    assert torch.equal(equal(x).argmax(1), run.model(x).argmax(1))
    with pytest.raises(ValueError, match="tau must be"):
        PAPER.adjusted(-1)


@pytest.mark.parametrize("method", LATER)
def test_every_later_method_trains(method, data):
    state = fit(Config(method=method, **TINY), data)
    assert all(torch.isfinite(value).all() for value in state.model.state_dict().values())
    assert all(np.isfinite(row["loss"]) for row in state.history)
