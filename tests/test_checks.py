"""Whether robustness is real: each check finds the failure planted for it, it alone does, and none speaks of a sound network."""

import numpy as np
import pytest
import torch
from helpers import build
from scipy.stats import norm
from torch import nn

from srat_utils import Config, checks
from srat_utils.attacks import APGD, PGD, objectives
from srat_utils.course.planted import Twisted
from srat_utils.losses import cross_entropy
from srat_utils.runs import load_data
from srat_utils.training import fit

# A minute and a half: fourteen checks on each of fourteen planted failures.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
EPS = 0.2
ATTACK = PGD(EPS, 0.05, 20)
SOUND = {"adversarial": {}, "natural": {"adversarial": False}, "LDAM": {"method": "LDAM"}}
ORDER = [
    "ε = 1", "larger ε", "more steps", "enough steps", "zero gradients", "float32", "flat softmax", "random search",
    "random network", "batch", "clean below attacked", "guessing", "classes", "images per class",
]  # fmt: skip


@pytest.fixture(scope="module")
def sound():
    """Networks that were trained for a moment, by name."""

    def trained(method="CE", **settings):
        config = Config(method=method, imbalance="balanced", epochs=10, **settings)
        return fit(config, load_data(config).train).model.eval()

    return {name: trained(**settings) for name, settings in SOUND.items()}


@pytest.fixture(scope="module")
def test_set():
    images, labels = load_data(Config()).test.tensors("cpu")
    return images.float() / 255, labels


@pytest.fixture(scope="module")
def some(test_set):
    """Eight images of each class."""
    images, labels = test_set
    first = torch.cat([(labels == digit).nonzero()[:8, 0] for digit in range(10)])
    return images[first], labels[first]


def failures(findings):
    return [finding.name for finding in findings if finding.ok is False]


def notes(findings):
    return [finding.name for finding in findings if finding.ok is None]


# ------------------------------------------------------------------------------------------------ planted failures


class Near(nn.Module):
    """A network whose logits are twisted where an image is between `low` and `high` away from one that it remembers.

    twist: (logits, images, which is remembered, its logits) → logits.
    """

    def __init__(self, model, remembered, low, high, twist):
        super().__init__()
        self.model, self.remembered, self.low, self.high, self.twist = model, remembered, low, high, twist
        with torch.no_grad():
            self.logits = model(remembered)

    def forward(self, x):
        logits = self.model(x)
        distance, which = torch.cdist(x.detach().flatten(1), self.remembered.flatten(1), p=torch.inf).min(1)
        twisted = self.twist(logits, x, which, self.logits[which])
        return torch.where(((distance >= self.low) & (distance < self.high))[:, None], twisted, logits)


def purified(logits, x, which, remembered):
    """Every image becomes the one that is remembered."""
    return remembered


def misled(logits, x, which, remembered):
    """The logits, with the gradient of others."""
    others = x.flatten(1) @ torch.randn(x[0].numel(), logits.shape[1], generator=torch.Generator().manual_seed(1))
    return logits.detach() + others - others.detach()


def blind(logits, x, which, remembered):
    return logits.detach()


def confused(logits, x, which, remembered):
    """Every second image is taken for the next class."""
    return torch.where(which[:, None] % 2 == 0, logits.roll(1, 1), logits)


def noisy(generator):
    return lambda logits: logits + 0.005 * torch.randn(logits.shape, generator=generator)


PLANTED = {
    "ε = 1": lambda sound, x: Near(sound["adversarial"], x, 2.5 * EPS, 2, purified),
    "larger ε": lambda sound, x: Near(sound["adversarial"], x, 1.2 * EPS, 2.2 * EPS, purified),
    "more steps": lambda sound, x: Near(sound["natural"], x, 0.8 * EPS, 1.5 * EPS, purified),
    "enough steps": lambda sound, x: sound["adversarial"],
    "zero gradients": lambda sound, x: Near(sound["adversarial"], x, 0, 0.01, blind),
    "float32": lambda sound, x: Twisted(sound["adversarial"], lambda logits: 1e4 * logits),
    "flat softmax": lambda sound, x: Twisted(sound["adversarial"], lambda logits: logits / 100),
    "random search": lambda sound, x: Near(sound["adversarial"], x, 0, 2.2 * EPS, misled),
    "random network": lambda sound, x: Twisted(sound["adversarial"], noisy(torch.Generator().manual_seed(5))),
    "batch": lambda sound, x: Twisted(sound["adversarial"], lambda logits: logits - 0.1 * logits.mean(0)),
    "clean below attacked": lambda sound, x: Near(sound["adversarial"], x, 0, 0.01, confused),
    "guessing": lambda sound, x: Twisted(sound["adversarial"], lambda logits: logits.roll(3, 1)),
    "classes": lambda sound, x: Twisted(sound["adversarial"], lambda logits: logits[:, :3]),
}
ATTACKS = {
    "more steps": PGD(EPS, EPS / 60, 20, "zero"),
    "enough steps": PGD(EPS, EPS / 40, 20, "zero"),
    "classes": APGD(EPS, loss="targeted"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_failure_is_found_by_its_check_and_no_other(name, sound, some):
    images, labels = some
    if name == "classes":
        images, labels = images[labels < 3], labels[labels < 3]
    findings = checks.run(PLANTED[name](sound, images), images, labels, ATTACKS.get(name, ATTACK))
    assert failures(findings) == [name], checks.table(findings)


def test_images_without_a_gradient_that_a_search_moves_are_found_from_several_sides(sound, some):
    rounded = nn.Sequential(Rounded(), sound["adversarial"])
    assert {"ε = 1", "zero gradients", "random search"} <= set(
        failures(checks.run(rounded, some[0][::2], some[1][::2], ATTACK))
    )


class Rounded(nn.Module):
    def forward(self, x):
        return x.round()


# ------------------------------------------------------------------------------------------------ sound networks


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_network_fails_no_check(name, sound, test_set):
    findings = checks.run(sound[name], *test_set, ATTACK)
    assert failures(findings) == [], checks.table(findings)
    assert [finding.name for finding in findings] == ORDER and notes(findings) == ["images per class"]


def test_a_network_is_left_as_it_was_and_the_same_seed_finds_the_same(some):
    model, (images, labels) = build("small-cnn", 1, 10), (some[0][::8], some[1][::8])
    model.body[1].eval()
    modes, state = [module.training for module in model.modules()], torch.get_rng_state()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    first = checks.run(model, images, labels, ATTACK)
    assert [module.training for module in model.modules()] == modes and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert checks.run(model, images, labels, ATTACK) == first


# ------------------------------------------------------------------------------------------------ edges


def test_one_image_is_no_evidence(sound, some):
    findings = checks.run(sound["natural"], some[0][:1], some[1][:1], ATTACK)
    assert failures(findings) == [] and notes(findings) == ["images per class"]


def test_two_classes_are_a_note_and_no_failure(sound, some):
    images, labels = some
    two = Twisted(sound["adversarial"], lambda logits: logits[:, :2])
    findings = checks.run(two, images[labels < 2], labels[labels < 2], ATTACK)
    assert failures(findings) == [] and notes(findings) == ["classes", "images per class"]


def test_with_a_budget_of_nothing_every_attack_leaves_what_is_right(sound, some):
    findings = {each.name: each for each in checks.run(sound["adversarial"], some[0][::4], some[1][::4], PGD(0, 0, 20))}
    assert failures(findings.values()) == []
    clean = findings["clean below attacked"].seen.removeprefix("accuracy ").partition(",")[0]
    assert findings["larger ε"].seen == f"accuracy {', '.join([f'{clean} at 0'] * 4)}"
    assert findings["random search"].seen.startswith(f"{clean} % of the images stand under gradients, 0.0 %")


def test_an_attack_that_takes_no_step_has_not_arrived(sound, some):
    assert failures(checks.run(sound["adversarial"], some[0][::2], some[1][::2], PGD(EPS, 0.05, 0))) == ["enough steps"]


def test_a_network_that_always_says_the_same_is_guessing_and_stands_where_none_can(some):
    class Same(nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :1] * 0 + torch.eye(10)[3]

    assert set(failures(checks.run(Same(), *some, ATTACK))) == {"ε = 1", "zero gradients", "guessing"}


@pytest.mark.parametrize(
    "images, labels, said",
    [
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), "divide bytes by 255"),
        (torch.full((2, 1, 8, 8), 255.0), torch.zeros(2, dtype=torch.int64), "divide bytes by 255"),
        (torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64), "one or more"),
        (torch.zeros(2, 1, 8, 8), torch.zeros(3, dtype=torch.int64), "a label each"),
        (torch.zeros(2, 1, 8, 8), torch.tensor([0, 3]), "labels 0 to 3 do not fit 3 logits"),
        (torch.zeros(2, 1, 8, 8), torch.tensor([-1, 0]), "labels -1 to 0 do not fit 3 logits"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(images, labels, said):
    with pytest.raises(ValueError, match=said) as error:
        checks.run(build("small-cnn", 1, 3), images, labels, ATTACK)
    assert "\n" not in str(error.value)


def test_logits_that_are_no_numbers_are_refused(some):
    broken = Twisted(build("small-cnn", 1, 10), lambda logits: logits / 0)
    with pytest.raises(ValueError, match="no number"):
        checks.run(broken, *some, ATTACK)


def test_a_gradient_of_no_numbers_is_none(some):
    images, labels = some

    class Rooted(torch.nn.Module):  # what is not shown has an infinite slope, times 0
        def forward(self, x):
            flat = x.flatten(1)[:, :10]
            return torch.where(flat >= 0, flat, (flat - 2).sqrt())

    still = checks.zero_gradient(Rooted(), images, labels, lambda z, y: z.gather(1, y[:, None]).sum(1))
    assert still.all()


# ------------------------------------------------------------------------------------------------ what the checks are made of


def test_log_odds_are_cross_entropy_without_its_rounding(sound, some):
    """The signs of cross-entropy's gradients in float64, also where p rounds to 1 in float32."""
    images, labels = some
    steep = Twisted(sound["adversarial"], lambda logits: 3 * logits)

    def signs(loss, dtype):
        steep.to(dtype)
        x = images.to(dtype).requires_grad_()
        logits = steep(x)
        return torch.autograd.grad(loss(logits, labels).sum(), x)[0].sign().flatten(1), logits.detach()

    exact, _ = signs(cross_entropy, torch.float64)
    ours, logits = signs(checks.log_odds, torch.float32)
    rounded, _ = signs(cross_entropy, torch.float32)
    certain = logits.softmax(1).gather(1, labels[:, None]).squeeze(1) == 1
    assert certain.sum() > 10
    assert (ours == exact).float().mean() > 0.999
    assert (rounded == exact)[certain].float().mean() < 0.95
    values = torch.tensor([[2.0, 0.0, -1.0], [-3.0, 1.0, 1.0]], dtype=torch.float64)
    p = values.softmax(1)[torch.arange(2), torch.tensor([0, 2])]
    assert checks.log_odds(values, torch.tensor([0, 2])) == pytest.approx(((1 - p) / p).log())
    assert objectives.largest_margin(values, torch.tensor([0, 2])).tolist() == [-2.0, 0.0]


def masks(images, gained, lost=0):
    """Two attacks under which so many images are right under the second alone, and so many under the first alone."""
    first, second = np.zeros(images, bool), np.zeros(images, bool)
    second[:gained] = True
    first[gained : gained + lost] = True
    return first, second


def test_what_is_beyond_chance():
    assert checks.rises(*masks(200, 7)) and not checks.rises(*masks(200, 6))  # 2^-7 < 0.01 < 2^-6
    assert (
        not checks.rises(*masks(200, 7, 2)) and not checks.rises(*masks(200, 0, 20)) and not checks.rises(*masks(5, 0))
    )
    for images, enough in ((200, 10), (100, 7)):
        fewer, more = masks(images, enough)
        assert checks.misses(more, fewer) and not checks.misses(fewer, more)
        assert not checks.misses(*masks(images, enough - 1)[::-1])
    for images, enough in ((200, 5), (100, 4)):
        assert checks.exceed(enough, images, checks.STRAYS) and not checks.exceed(enough - 1, images, checks.STRAYS)


@pytest.mark.parametrize("number", [1, 2, 70, 380, 381, 1000])
def test_the_interval_is_wilsons(number):
    z, p = norm.ppf(0.975), (number // 2) / number
    formula = 2 * z / (1 + z**2 / number) * np.sqrt(p * (1 - p) / number + z**2 / (4 * number**2))
    width = np.ptp(checks.wilson(number // 2, number))
    assert width == pytest.approx(100 * formula)
    assert (width > checks.WIDE) == (number < 381)


def test_a_class_without_images_knows_nothing():
    assert checks.wilson(0, 0) == (0, 100)


def test_many_images_of_every_class_leave_no_note(some):
    counts = np.full(10, 400)
    trial = checks.Trial(None, *some, torch.zeros(80, 10), ATTACK, ATTACK, counts)
    assert checks.images_a_class(trial)[0] is True
    counts[7] = 12
    ok, seen = checks.images_a_class(trial)
    assert ok is None and seen == "1 of 10 classes have intervals wider than 10 points; class 7, 12 images: ± 25"


def test_the_sample_takes_as_many_of_each_class_as_there_are():
    labels = torch.tensor([0] * 500 + [1] * 500 + [2] * 30)
    chosen = checks.sample(labels, 200, 0)
    assert len(chosen) == len(set(chosen.tolist())) == 200
    assert torch.bincount(labels[chosen]).tolist() == [85, 85, 30]
    assert torch.equal(chosen, checks.sample(labels, 200, 0)) and not torch.equal(chosen, checks.sample(labels, 200, 1))
    assert sorted(checks.sample(labels[-7:], 200, 3).tolist()) == list(range(7))


def test_the_table_names_what_to_do_only_where_something_is_wrong():
    findings = [
        checks.Finding("a", True, "1", "x"),
        checks.Finding("b", False, "2", "y"),
        checks.Finding("c", None, "3", "z"),
    ]
    rows = ["| a | ok | 1 |  |", "| b | fails | 2 | y |", "| c | note | 3 | z |"]
    assert checks.table(findings).splitlines() == ["| check |  | seen | what to do |", "| - | - | - | - |", *rows]
