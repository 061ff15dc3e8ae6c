"""The methods beside the paper's eleven: each against its formula, and what must hold for all of them."""

import functools
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import build, few_digits, small_batch

from srat_utils import METHODS, PAPER, Config, records, train
from srat_utils.attacks import PGD, pgd
from srat_utils.batches import SAMPLERS
from srat_utils.course import after
from srat_utils.images import ImageDataset
from srat_utils.inner import INNER
from srat_utils.methods import LATER
from srat_utils.models import Classifier, adjusted
from srat_utils.records import ConfigError, code_of
from srat_utils.terms import (
    CE,
    HARL,
    LDAM,
    AdjustedLDAM,
    Batch,
    CentredSeparation,
    Facts,
    LogitAdjusted,
    Objective,
    Prediction,
    QueuedSeparation,
    RoBal,
    Separation,
)
from srat_utils.training import Job, State, class_weights, fit, step
from srat_utils.updates import AWP

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
COUNTS = [40, 10, 2]
FACTS = Facts(COUNTS, 64, CPU)
TINY = {"imbalance": "step-5", "max_per_class": 15, "test_per_class": 5, "epochs": 2, "attack_steps": 2}


@pytest.fixture(scope="module")
def data():
    return few_digits()


@pytest.fixture
def batch():
    return small_batch(weighted=False)


# ------------------------------------------------------------------------------------------------ priors


def in_double(method: str, data, bias: torch.Tensor | float = 0.0) -> Classifier:
    return after.in_double(Config(method=method, device="cpu"), data, bias, 6)


def test_a_prior_in_loss_and_attack_is_cross_entropy_from_a_bias_of_the_log_prior(data):
    log_prior = Facts(data.counts, 64, CPU).log_prior.double()
    both, plain = in_double("AT-BSL-Both", data), in_double("CE", data, log_prior)
    for (name, ours), theirs in zip(both.state_dict().items(), plain.state_dict().values(), strict=True):
        expected = theirs - log_prior if name == "head.bias" else theirs
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-11, msg=name)
    x = torch.rand(9, 1, 8, 8, dtype=torch.float64)
    twin = adjusted(plain, data.counts)
    torch.testing.assert_close(both(x), twin(x), rtol=0, atol=1e-6)  # ln π there is rounded to float32


def test_a_prior_in_the_loss_alone_is_another_method(data):
    log_prior = Facts(data.counts, 64, CPU).log_prior.double()
    alone, plain = in_double("AT-BSL", data), in_double("CE", data, log_prior)
    assert (alone.head.weight - plain.head.weight).abs().max() > 1e-4


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
    with pytest.raises(ValueError, match="tau must be"):
        run.prior_off(-1)


def test_a_run_with_its_prior_off_answers_as_its_adjusted_network(run):
    off, x = run.prior_off(), torch.rand(20, 1, 8, 8)
    shares = torch.tensor(list(run.provenance["class_counts"].values()), dtype=torch.float64)
    prior = (shares / shares.sum()).log().float()
    assert torch.equal(off.model(x), run.model(x) - prior) and run.model.prior is None
    assert off.metrics.equals(run.evaluate(PAPER.adjusted())) and not off.metrics.equals(run.metrics)
    assert off.evaluated(PAPER) and off.confusion("robust").equals(run.confusion("robust", PAPER.adjusted()))
    # A protocol's own τ counts in place of the run's.
    assert off.evaluate(PAPER.adjusted(0.5)).equals(run.evaluate(PAPER.adjusted(0.5)))
    assert run.prior_off(0).metrics.equals(run.metrics) and off.prior_off(0).metrics.equals(run.metrics)
    pixels = (255 * x).byte().permute(0, 2, 3, 1).numpy()
    _, shares = off.predict(pixels)
    assert np.allclose(shares, off.model(torch.tensor(pixels).permute(0, 3, 1, 2) / 255).detach().softmax(1), atol=1e-6)
    # Features know no prior; attacks on the network do.
    assert np.array_equal(off.features(), run.features())
    attack = PGD(0.3, 0.1, 3)
    assert not np.array_equal(off.features(attack), run.features(attack))


# ------------------------------------------------------------------------------------------------ TRADES, RoBal, AWP


def minimised(name: str, batch: Batch, facts: Facts = FACTS) -> torch.Tensor:
    return sum(Objective(METHODS[name].terms, facts)(batch).values())


@pytest.mark.parametrize(("name", "tau"), [("TRADES", 0), ("TRADES-BSL", 1)])
def test_trades_by_hand_its_prior_on_the_clean_term_only(batch, name, tau):
    clean, attacked = (model_pass.logits.detach() for model_pass in (batch.clean, batch.attacked))
    shifted = clean + tau * torch.tensor(COUNTS).div(sum(COUNTS)).log()
    log_p, log_q = clean.log_softmax(1), attacked.log_softmax(1)
    expected = F.cross_entropy(shifted, batch.y) + 6 * (log_p.exp() * (log_p - log_q)).sum(1).mean()
    torch.testing.assert_close(minimised(name, batch).detach(), expected)


def test_trades_without_its_second_term_or_without_an_attack_is_cross_entropy_of_clean_images(batch, data):
    natural = replace(batch, x_adv=batch.x)
    torch.testing.assert_close(minimised("TRADES", natural), F.cross_entropy(natural.clean.logits, batch.y))
    state = fit(Config(method="TRADES", kl_weight=0.0, **TINY), data)
    assert [row["consistency_loss"] for row in state.history] == [0, 0]


def test_trades_cannot_start_at_the_image():
    with pytest.raises(ConfigError, match="attack_start='uniform'"):
        Config(method="TRADES", attack_start="zero")
    Config(method="TRADES", attack_start="zero", adversarial=False), Config(method="CE", attack_start="zero")


@pytest.mark.parametrize(("name", "tau", "slope"), [("RoBal-N", 1.2, 0.0), ("RoBal-R", 1.5, 0.3)])
def test_robal_by_hand(batch, name, tau, slope):
    model = build("small-cnn", 1, 3, scale=METHODS[name].terms[0].head_scale).train()
    batch = replace(batch, model=model)
    z, clean, n = batch.attacked.logits.detach().clone(), batch.clean.logits.detach(), torch.tensor(COUNTS).float()
    before = z.clone()
    margin = 0.1 + slope * (n / 2).log() / 10
    cosines = z / 10
    cosines[range(12), batch.y] -= margin[batch.y]
    expected = F.cross_entropy(10 * cosines + tau * (n / 52).log(), batch.y)
    p, q = (clean / 10).softmax(1), (before / 10).softmax(1)
    expected += 6 * (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(minimised(name, batch).detach(), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(batch.attacked.logits, before)  # nothing is changed in place
    if slope:
        assert margin[0] > margin[1] > margin[2] == 0.1


def test_robal_without_margins_and_priors_is_cross_entropy_on_scaled_cosines(batch):
    bare = RoBal(tau=0, robal_margin=0)
    z = batch.attacked.logits
    torch.testing.assert_close(bare.each(FACTS)(z, batch.y), F.cross_entropy(z, batch.y, reduction="none"))
    equal = replace(bare, tau=1.5, robal_slope=0.3)
    torch.testing.assert_close(
        equal.each(Facts([5, 5, 5], 64, CPU))(z, batch.y), F.cross_entropy(z, batch.y, reduction="none")
    )


def test_margins_and_a_prior_in_one_softmax_by_hand(batch):
    z = 30 * torch.rand(12, 3, generator=torch.Generator().manual_seed(0)) - 15
    delta, log_prior = 0.5 * (torch.tensor(COUNTS) / min(COUNTS)) ** -0.25, (torch.tensor(COUNTS) / sum(COUNTS)).log()
    shifted = z + 0.7 * log_prior
    shifted[range(12), batch.y] -= 30 * delta[batch.y]
    expected = F.cross_entropy(shifted, batch.y, reduction="none")
    torch.testing.assert_close(AdjustedLDAM(tau=0.7).each(FACTS)(z, batch.y), expected, rtol=1e-5, atol=1e-5)
    bare = AdjustedLDAM(tau=0.7, ldam_scale_in="loss").each(FACTS)
    torch.testing.assert_close(bare(z / 30, batch.y), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(AdjustedLDAM(tau=0).each(FACTS)(z, batch.y), LDAM().each(FACTS)(z, batch.y))


@pytest.mark.parametrize("method", ["AWP", "AT-BSL-AWP"])
def test_awp_steps_from_where_the_loss_is_worse(method, data):
    plain = fit(Config(method=method, awp_gamma=0.0, **TINY), data).model.state_dict()
    base = fit(Config(method="CE" if method == "AWP" else "AT-BSL", **TINY), data).model.state_dict()
    perturbed = fit(Config(method=method, **TINY), data).model.state_dict()
    assert all(torch.equal(value, base[name]) for name, value in plain.items())
    assert not torch.equal(perturbed["head.weight"], base["head.weight"])


# ------------------------------------------------------------------------------------------------ positives for rare anchors


def l_sep(z, y, others=(), other_labels=(), tau=0.1) -> torch.Tensor:
    """Eq. 6, an anchor and a positive at a time."""
    everyone = [F.normalize(v, dim=0) for v in (*z, *others)]
    labels = [int(label) for label in (*y, *other_labels)]
    total = torch.zeros(())
    for i in range(len(z)):
        similar = [torch.dot(everyone[i], v) / tau for v in everyone]
        rest = torch.stack([s for k, s in enumerate(similar) if k != i])
        positive = [s for k, s in enumerate(similar) if k != i and labels[k] == labels[i]]
        if positive:
            total = total - sum(s - rest.logsumexp(0) for s in positive) / len(positive)
    return total / len(z)


def batches_of(model, sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for n in sizes:
        x = torch.rand(n, 1, 8, 8, generator=generator)
        y = torch.randint(3, (n,), generator=generator)
        yield Batch(model, x, x, y, torch.ones(n))


def test_anchors_are_compared_with_the_last_k_images_before_them():
    model, length = build("small-cnn", 1, 3).eval(), 7
    queue = QueuedSeparation(separation_weight=2.0, queue_length=length).build(FACTS)
    z_seen, y_seen = torch.empty(0, 64), torch.empty(0, dtype=torch.int64)
    for batch in batches_of(model, [3, 2, 4, 1, 9, 3]):  # fills up, goes round, one batch longer than the queue
        z = batch.attacked.features
        expected = 2.0 * l_sep(z, batch.y, z_seen[-length:], y_seen[-length:])
        torch.testing.assert_close(queue(batch), expected, rtol=1e-4, atol=1e-5)
        z_seen, y_seen = torch.cat([z_seen, z.detach()]), torch.cat([y_seen, batch.y])


def test_an_empty_queue_is_plain_l_sep_and_a_queue_of_another_method_is_not_shared(batch):
    plain = Separation().build(FACTS)(batch)
    one, two = QueuedSeparation().build(FACTS), QueuedSeparation().build(FACTS)
    torch.testing.assert_close(one(batch), plain)
    assert (two.labels == -1).all() and (one.labels >= 0).sum() == 12


def test_a_queue_gives_the_only_rare_image_of_a_batch_a_positive_without_gradients_of_the_past():
    model = build("small-cnn", 1, 3).train()
    queue = QueuedSeparation(queue_length=4).build(FACTS)
    lonely = Batch(model, torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8), torch.tensor([2, 0]), torch.ones(2))
    assert queue(lonely) == 0  # nothing to be near to yet
    value = queue(replace(lonely))
    assert value > 0 and not queue.features.requires_grad
    value.backward()
    assert model.body[0][0][0].weight.grad.abs().sum() > 0


def test_an_extra_pass_is_not_remembered(batch):
    objective = Objective(METHODS["SRAT-CE-Queue"].terms, FACTS)
    with AWP()(objective, batch) as moved:
        objective(moved)
    assert (objective.terms["separation_loss"].labels >= 0).sum() == 12 == objective.terms["separation_loss"].place


@pytest.mark.parametrize("projection", [None, 16])
def test_centres_are_the_heads_own_vectors_and_nobody_is_alone(projection):
    model = build("small-cnn", 1, 3, projection=projection).eval()
    term = CentredSeparation().build(FACTS)
    for batch in batches_of(model, [5, 1]):
        z, centres = model.projection(batch.attacked.features), model.projection(model.head.weight)
        torch.testing.assert_close(term(batch), l_sep(z, batch.y, centres, range(3)), rtol=1e-4, atol=1e-5)
        assert term(batch) > 0
    term(batch).backward()
    assert model.head.weight.grad.abs().sum() > 0


def test_a_queue_is_as_wide_as_what_l_sep_sees(data):
    state = fit(Config(method="SRAT-CE-Queue", projection=16, queue_length=20, **TINY), data)
    term = state.objective.terms["separation_loss"]
    assert term.features.shape == (20, 16) and (term.labels >= 0).all()


def test_balanced_batches_reach_the_loop_and_other_methods_may_have_them(data):
    drawn = fit(Config(method="SRAT-CE-Balanced", **TINY), data).history[0]["anchors_with_positive"]
    asked = fit(Config(method="SRAT-CE", sampler="class-balanced", **TINY), data).history[0]["anchors_with_positive"]
    assert drawn == asked != fit(Config(method="SRAT-CE", **TINY), data).history[0]["anchors_with_positive"]
    assert Config(method="SRAT-CE").fingerprint == Config(method="SRAT-CE", sampler="shuffled").fingerprint


# ------------------------------------------------------------------------------------------------ HARL


def harl(logits, y, alpha=0.1, beta=0.1, gamma=0.1):
    """A class at a time."""
    each = F.cross_entropy(logits, y, reduction="none")
    means = [each[y == c].mean() for c in sorted(set(y.tolist()))]
    mean = sum(means) / len(means)
    spread = sum((m - mean) ** 2 for m in means) / len(means)
    return alpha * mean + beta * spread + gamma * sum((m / sum(means)) ** 2 for m in means)


def test_harl_by_hand_absent_classes_left_out(batch):
    late = replace(batch, progress=0.4)
    torch.testing.assert_close(minimised("TAET", late), harl(late.attacked.logits, late.y))
    two = replace(late, y=torch.arange(12) % 2)
    torch.testing.assert_close(minimised("TAET", two), harl(two.attacked.logits, two.y))
    one = replace(late, y=torch.zeros(12, dtype=torch.int64))
    expected = 0.1 * F.cross_entropy(one.attacked.logits, one.y) + 0.1  # no spread, and the whole share
    torch.testing.assert_close(minimised("TAET", one), expected)


@pytest.mark.parametrize("first", ["clean", "attacked"])
def test_harl_begins_as_cross_entropy_and_looks_at_nothing_else(batch, first):
    early = replace(batch, progress=0.39)
    value = HARL(harl_first=first).build(FACTS)(early)
    assert early.shown is getattr(early, first) and len({"clean", "attacked"} & set(vars(early))) == 1
    torch.testing.assert_close(value, F.cross_entropy(getattr(early, first).logits, early.y))


def test_equal_class_losses_have_no_spread_and_a_loss_of_zero_no_nan():
    logits, y = torch.zeros(6, 3, requires_grad=True), torch.arange(6) % 3
    model_pass = SimpleNamespace(logits=logits)
    term = HARL(harl_mean=0, harl_share=0).build(FACTS)
    assert term(SimpleNamespace(attacked=model_pass, y=y, progress=1.0)) == 0
    sure = 200 * F.one_hot(y, 3).float().requires_grad_()
    value = HARL().build(FACTS)(SimpleNamespace(attacked=SimpleNamespace(logits=sure), y=y, progress=1.0))
    value.backward()
    assert value == 0 and sure.requires_grad


def test_the_loop_tells_terms_how_far_it_is(data):
    """Its first epoch is natural training; the loss of the second is a tenth and less."""
    plain, natural = (fit(Config(method="CE", adversarial=a, **TINY), data).history for a in (True, False))
    for first, like in (("clean", natural), ("attacked", plain)):
        late = fit(Config(method="TAET", harl_variance=0.0, harl_share=0.0, harl_first=first, **TINY), data).history
        assert late[0]["loss"] == like[0]["loss"] and late[0]["train_accuracy"] == like[0]["train_accuracy"]
        assert late[1]["loss"] < 0.2 * plain[1]["loss"]


# ------------------------------------------------------------------------------------------------ settings of every method


def test_averaged_weights_are_the_moving_average_and_what_the_run_keeps(data, monkeypatch, tmp_path):
    decay, seen = 0.8, []
    descend = State.descend

    def watched(state, loss):
        descend(state, loss)
        seen.append({name: value.detach().clone() for name, value in state.model.state_dict().items()})

    monkeypatch.setattr(State, "descend", watched)
    config = Config(method="SRAT-CE", averaging=decay, **TINY)
    run = train(config, store=tmp_path, progress=False)
    for name, kept in run.model.state_dict().items():
        if kept.is_floating_point():
            expected = seen[0][name].double()
            for later in seen[1:]:
                expected = decay * expected + (1 - decay) * later[name].double()
            torch.testing.assert_close(kept.double(), expected, rtol=1e-4, atol=1e-5)
    assert not torch.equal(run.model.head.weight, seen[-1]["head.weight"])


def test_averaging_does_not_touch_training(data):
    plain, watched = (fit(Config(method="SRAT-CE", averaging=a, **TINY), data) for a in (None, 0.5))
    assert plain.averaged is None and plain.result is plain.model
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, watched.model.state_dict()[name])
    last = fit(Config(method="SRAT-CE", averaging=0.0, **TINY), data)  # no memory at all
    assert torch.equal(last.result.head.weight, last.model.head.weight)


@pytest.mark.parametrize("method", ["CE", "SRAT-LDAM", "TRADES", "DAFA"])
def test_randaugment_is_a_setting_of_every_method(method, data):
    plain, augmented = (fit(Config(method=method, rand_augment=n, **TINY), data) for n in (0, 2))
    assert augmented.history[0]["loss"] != plain.history[0]["loss"]
    with pytest.raises(ConfigError, match="rand_magnitude must be 0 to 30"):
        Config(method=method, rand_magnitude=31)


# ------------------------------------------------------------------------------------------------ all of them


LATE = {
    "reweight_at": 0.0,
    "harl_from": 0.0,
    "difficulty_at": 0.5,
    "budget_warmup": 0.0,
}  # everything switched on at once


def set_of(counts, seed=0, size=8) -> ImageDataset:
    """Random pictures, each class around a picture of its own, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    middle = rng.integers(40, 215, (len(counts), size, size, 1))
    images = middle[labels] + rng.integers(-40, 41, (len(labels), size, size, 1))
    order = rng.permutation(len(labels))
    names = tuple(f"class {c}" for c in range(len(counts)))
    return ImageDataset(images[order].astype(np.uint8), labels[order], names, "made up train")


def trained(method: str, dataset: ImageDataset, **settings) -> State:
    settings = {"epochs": 2, "batch_size": 8, "attack_steps": 2, "warmup_epochs": 0} | LATE | settings
    state = fit(Config(method=method, **settings), dataset)
    assert all(np.isfinite(row["loss"]) for row in state.history), state.history
    assert all(torch.isfinite(value).all() for value in state.model.state_dict().values())
    return state


@pytest.mark.parametrize("method", LATER)
@pytest.mark.parametrize(
    ("counts", "settings"),
    [
        ([12, 8, 1], {}),
        ([1, 8, 12], {"batch_size": 1}),
        ([9, 2], {}),
        ([1, 1, 1, 1], {"batch_size": 4}),
        ([9, 3, 3], {"precision": "bf16"}),
        ([9, 3, 3], {"eps": 0.0}),
        ([9, 3, 3], {"adversarial": False}),
        ([9, 3, 3], {"eps_warmup_epochs": 2, "attack_batch_norm": "train"}),
    ],
    ids=["one image", "batch of one", "two classes", "no positive", "bf16", "no budget", "natural", "warm-up"],
)
def test_every_later_method_trains_where_there_is_little(method, counts, settings):
    trained(method, set_of(counts), **settings)


def in_double_with(method: str, dataset: ImageDataset, rows: list[int], **settings) -> State:
    """Two epochs of two steps in float64; rows: which row of a fresh head each class takes."""
    config = Config(method=method, **{"epochs": 2, "attack_steps": 2, "weight_decay": 0.0} | LATE | settings)
    state = State.fresh(config, dataset, CPU)
    state.model.double()
    with torch.no_grad():
        for name, value in state.model.head.state_dict().items():
            getattr(state.model.head, name).copy_(value[rows])
    job = Job.of(config, state)
    images, labels = dataset.tensors(CPU)
    for epoch in range(2):
        job, w = job.in_epoch(config, epoch), class_weights(config, dataset.counts, epoch)
        for x, y in SAMPLERS[config.sampler](images, labels, 12, state.order):
            step(job, state, x.double(), y, torch.tensor(w))
    return state


@pytest.mark.parametrize("method", METHODS)
def test_other_names_for_the_classes_change_nothing(method):
    """Rare classes last, first, or anywhere: the same network with its head's rows in another order."""
    dataset, other = set_of([12, 8, 3, 1]), [2, 3, 0, 1]
    back = np.argsort(other)
    renamed = ImageDataset(dataset.images, np.array(other)[dataset.labels], dataset.classes, "made up train")
    assert renamed.counts == [dataset.counts[c] for c in back]
    ours, theirs = in_double_with(method, dataset, [0, 1, 2, 3]), in_double_with(method, renamed, list(back))
    for (name, value), (_, moved) in zip(
        ours.model.state_dict().items(), theirs.model.state_dict().items(), strict=True
    ):
        expected = value[back] if name.startswith("head") else value
        torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize(
    ("method", "base", "settings"),
    [
        ("AT-BSL", "CE", {}),
        ("AT-BSL-Both", "CE", {}),
        ("RobustLT", "CE", {}),
        ("AT-BSL-AWP", "AWP", {}),
        ("TRADES-BSL", "TRADES", {}),
        ("SRAT-CE", "CE", {"separation_weight": 0.0}),
        ("SRAT-CE-Queue", "CE", {"separation_weight": 0.0}),
        ("SRAT-CE-Centres", "CE", {"separation_weight": 0.0}),
        ("SRAT-CE-Queue", "SRAT-CE", {"queue_length": 1, "separation_weight": 0.0}),
        ("RoBal-R", "RoBal-N", {"kl_weight": 0.0}),  # what tells them apart is rarity
        ("CB-LDAM", "LDAM", {}),
    ],
)
def test_with_equal_counts_what_is_made_for_rare_classes_changes_nothing(method, base, settings):
    dataset = set_of([6, 6, 6, 6])
    ours = in_double_with(method, dataset, [0, 1, 2, 3], **settings)
    plain = in_double_with(base, dataset, [0, 1, 2, 3], **settings)
    for (name, value), other in zip(ours.model.state_dict().items(), plain.model.state_dict().values(), strict=True):
        torch.testing.assert_close(value, other, rtol=0, atol=1e-9, msg=name)


def test_no_method_is_another_one_under_a_second_name():
    dataset = set_of([12, 8, 3, 1])
    heads = {name: in_double_with(name, dataset, [0, 1, 2, 3]).model.head.weight for name in METHODS}
    # With weights from the start, deferred ones are those that are always on.
    twins = {frozenset((early, f"DRCB-{early[3:]}")) for early in ("CB-Focal", "CB-LDAM")}
    twins |= {frozenset(("CB-Reweight", "DRCB-CE"))}
    same = {frozenset((a, b)) for a, b in combinations(heads, 2) if torch.equal(heads[a], heads[b])}
    assert same == twins


def test_what_a_method_of_ones_own_names_is_part_of_its_identity():
    scope = {"Prediction": Prediction, "CE": CE, "dataclass": dataclass, "__name__": "mine"}
    written = """
SHARE = 1.0

def scaled(losses):
    return SHARE * losses

@dataclass(frozen=True)
class Scaled(Prediction):
    head_scale = None

    def each(self, facts):
        plain = CE().each(facts)
        return lambda logits, labels: scaled(plain(logits, labels))
"""

    def of(text):
        own = dict(scope)
        exec(text, own)
        return code_of(own["Scaled"])

    assert of(written) == of(written)
    for old, new in (
        ("SHARE = 1.0", "SHARE = 0.5"),
        ("SHARE * losses", "losses / SHARE"),
        ("head_scale = None", "head_scale = 30.0"),
    ):
        assert of(written.replace(old, new)) != of(written)


def test_a_class_says_its_code_as_the_process_did_that_sent_it_and_edited_anew(monkeypatch):
    scope = {"partial": functools.partial, "__name__": "mine"}
    exec("def scaled(x, by):\n    return by * x\ntwice = partial(scaled, by=2)", scope)
    exec("class Own:\n    def each(self, x):\n        return twice(x) if x in {'a', 'b', 'c'} else x", scope)
    here = code_of(scope["Own"])
    scope["twice"] = functools.partial(scope["scaled"], by=3)
    edited = code_of(scope["Own"])
    assert edited != here
    scope["twice"] = functools.partial(scope["scaled"], by=4)  # as a worker may see it, without the source
    monkeypatch.setattr(records.os, "getpid", lambda: -1)
    assert code_of(scope["Own"]) == edited


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_the_order_of_a_set_of_words_is_no_part_of_a_methods_code(hash_seed):
    script = "from srat_utils.records import code_of\nclass Own:\n    def each(self, x):\n        return x in {'a', 'b', 'c', 'd'}\n"
    said = [
        subprocess.run(
            [sys.executable, "-c", f"{script}print(code_of(Own))"], capture_output=True, text=True, check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", hash_seed)
    ]  # fmt: skip
    assert said[0] == said[1] != ""


def test_an_inner_loss_of_ones_own_is_part_of_the_identity_and_refused_where_it_is_unknown(monkeypatch):
    def on_nothing(first, facts):
        return lambda model, x, y: (lambda logits, target: 0 * logits.sum(1), y)

    monkeypatch.setitem(INNER, "mine", on_nothing)
    own = Config(method="CE", attack_loss="mine")
    before = own.fingerprint
    monkeypatch.setitem(INNER, "mine", lambda first, facts: on_nothing(first, facts))
    assert own.fingerprint != before
    monkeypatch.setitem(INNER, "mine", functools.partial(on_nothing, facts=None))
    before = own.fingerprint
    monkeypatch.setitem(INNER, "mine", functools.partial(on_nothing, facts=1))
    assert own.fingerprint != before
    natural = own.replace(adversarial=False)
    assert natural.fingerprint == Config(method="CE", adversarial=False).fingerprint
    monkeypatch.delitem(INNER, "mine")
    with pytest.raises(ConfigError, match=r"knows no inner loss 'mine'.*jobs=1"):
        _ = own.fingerprint


def test_code_of_what_takes_no_attribute_is_told_all_the_same():
    assert code_of(functools.partial) == code_of(functools.partial) and code_of(type(code_of)) and code_of(len)
