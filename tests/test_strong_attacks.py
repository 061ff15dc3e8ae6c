"""Auto-PGD and Square against their papers' formulas, closed forms, and the published implementation."""

from dataclasses import replace
from fractions import Fraction
from functools import cache
from math import ceil

import pytest
import torch
import torch.nn.functional as F
from helpers import build
from torch import nn

from srat_utils import Config, load_dataset
from srat_utils.attacks import APGD, PGD, Square, frozen, objectives, square
from srat_utils.attacks.apgd import Climb, checkpoints
from srat_utils.training import fit

pytestmark = pytest.mark.usefixtures("one_thread")
EPS = 0.2
ATTACKS = [APGD(EPS, 12), APGD(EPS, 12, "dlr"), APGD(EPS, 6, "targeted", targets=3), Square(EPS, 100)]
every_attack = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)


@cache
def trained(method):
    """A small network after a few adversarial epochs on digits."""
    return fit(
        Config(imbalance="step-10", epochs=8, method=method), load_dataset("digits", imbalance="step-10").train
    ).model


@cache
def digits(number):
    images, labels = load_dataset("digits", imbalance="step-10").test.tensors("cpu")
    return images[::3][:number].float() / 255, labels[::3][:number]


@pytest.fixture
def model():
    return trained("DRCB-CE").eval()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def correct(model, images, labels):
    with torch.no_grad():
        return model.eval()(images).argmax(1) == labels


def linear_model(weight, bias):
    model = nn.Sequential(nn.Flatten(), nn.Linear(weight.shape[1], len(weight)))
    with torch.no_grad():
        model[1].weight.copy_(weight)
        model[1].bias.copy_(bias)
    return model


def read_by(model, number=12, channels=1, side=8, seed=0):
    """Random images with the labels that a model gives them: all are classified correctly."""
    images = torch.rand(number, channels, side, side, generator=generator(seed))
    with torch.no_grad():
        return images, model.eval()(images).argmax(1)


class Scaled(nn.Module):
    def __init__(self, model, factor):
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, x):
        return self.factor * self.model(x)


# ------------------------------------------------------------------------------------------------ what every attack keeps


@every_attack
@pytest.mark.parametrize("eps", [0.02, 0.2, 2.0])
def test_adversarial_images_stay_in_the_ball_and_in_the_pixel_range(model, attack, eps):
    images, labels = digits(40)
    adversarial = replace(attack, eps=eps)(model, images, labels, generator=generator())
    assert (adversarial - images).abs().max() <= eps + 1e-6
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    assert adversarial.shape == images.shape and adversarial.dtype == images.dtype


@every_attack
def test_zero_epsilon_returns_the_images(model, attack):
    images, labels = digits(20)
    assert torch.equal(replace(attack, eps=0.0)(model, images, labels, generator=generator()), images)


@every_attack
@pytest.mark.parametrize("number", [0, 1])
def test_one_image_or_none_is_a_batch(model, attack, number):
    images, labels = digits(number)
    adversarial = attack(model, images, labels, generator=generator())
    assert adversarial.shape == (number, 1, 8, 8) and bool(torch.equal(adversarial, images)) == (number == 0)


@every_attack
@pytest.mark.parametrize("classes", [3, 4, 10])
@pytest.mark.parametrize(("channels", "side"), [(1, 1), (1, 8), (3, 16)])
def test_any_shape_and_number_of_classes(attack, classes, channels, side):
    model = build("small-cnn", channels, classes)
    images, labels = read_by(model, channels=channels, side=side)
    adversarial = attack(model, images, labels, generator=generator())
    assert (adversarial - images).abs().amax((1, 2, 3)).min() > 0.01 and adversarial.isfinite().all()


@pytest.mark.parametrize("attack", [APGD(EPS, 12), APGD(EPS, 12, "targeted"), Square(EPS, 100)])
def test_two_classes_are_enough(attack):
    model = build("small-cnn", 1, 2)
    images, labels = read_by(model)
    adversarial = attack(model, images, labels, generator=generator())

    def true_logit_leads(x):
        with torch.no_grad():
            logits = model.eval()(x)
        return logits.gather(1, labels[:, None]) - logits.gather(1, 1 - labels[:, None])

    assert (true_logit_leads(adversarial) < true_logit_leads(images)).all()


def test_the_ratio_of_logits_is_refused_for_two_classes_with_what_to_take_instead():
    model = build("small-cnn", 1, 2)
    with pytest.raises(ValueError, match="take loss='targeted' or 'ce'") as error:
        APGD(EPS, 5, "dlr")(model, *read_by(model))
    assert "\n" not in str(error.value) and "the model has 2" in str(error.value)
    assert model.head.weight.requires_grad


@every_attack
def test_misclassified_images_stay_as_they_are(model, attack):
    images, labels = digits(60)
    right = correct(model, images, labels)
    adversarial = attack(model, images, labels, generator=generator())
    assert 0 < right.sum() < len(labels)
    assert torch.equal(adversarial[~right], images[~right])
    assert ((adversarial - images)[right].abs().amax((1, 2, 3)) > 0).all()


@every_attack
def test_images_returned_as_fooling_fool_the_plain_model(model, attack):
    images, labels = digits(100)
    adversarial = attack(model, images, labels, generator=generator())
    with torch.no_grad(), frozen(model):
        seen = model(adversarial).argmax(1) == labels
    plain = correct(model, adversarial, labels)
    with torch.no_grad():
        first, second = model(adversarial).topk(2).values.unbind(1)
    assert torch.equal(plain[first - second > 1e-4], seen[first - second > 1e-4])
    assert plain.sum() < correct(model, images, labels).sum()


@every_attack
def test_an_image_leaves_the_batch_when_it_falls_and_not_before(model, attack):
    own = 3
    images, labels = (part[digits(600)[1] == own] for part in digits(600))
    passed, stood = [], []

    def watch(module, inputs, logits):
        passed.append(len(logits))
        stood.append(int((logits.argmax(1) == own).sum()))

    handle = model.register_forward_hook(watch)
    adversarial = attack(model, images, labels, generator=generator())
    handle.remove()
    assert passed == [len(labels), *stood[:-1]]
    assert 0 < stood[-1] < stood[0] and abs(correct(model, adversarial, labels).sum() - stood[-1]) <= 1  # one: rounding


def test_nothing_is_asked_once_all_have_fallen():
    model = linear_model(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.zeros(2))
    images, labels = torch.tensor([[0.51, 0.49], [0.49, 0.51]]).view(2, 1, 1, 2), torch.tensor([0, 1])
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    for attack in (APGD(0.3, 100), APGD(0.3, 100, "targeted"), Square(0.3, 5000)):
        calls.clear()
        assert not correct(model, attack(model, images, labels, generator=generator()), labels).any()
        assert len(calls) < 30


# ------------------------------------------------------------------------------------------------ nothing left behind


@every_attack
def test_modes_statistics_flags_and_gradients_are_untouched(attack):
    model = build("small-cnn", 1, 10).train()
    images, _ = digits(30)
    labels = model(images).argmax(1)
    F.cross_entropy(model(images), labels).backward()
    model.body[0][0][1].eval()  # a batch norm that its owner froze inside a training model
    model.head.weight.requires_grad_(False)

    def facts():
        modes, flags = [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]
        gradients = [p.grad.clone() for p in model.parameters()]
        return modes, flags, gradients, [value.clone() for value in model.state_dict().values()]

    during, before = set(), facts()
    model.head.register_forward_hook(
        lambda head, *_: during.add((head.training, any(p.requires_grad for p in model.parameters())))
    )
    attack(model, images, labels, generator=generator())
    after = facts()
    assert during == {(False, False)}
    assert after[:2] == before[:2]
    assert all(torch.equal(a, b) for part in (2, 3) for a, b in zip(after[part], before[part], strict=True))


@every_attack
def test_modes_and_flags_come_back_after_an_exception(attack):
    model = build("small-cnn", 1, 10).train()

    def broken(*_):
        raise KeyboardInterrupt

    model.head.register_forward_hook(broken)
    with pytest.raises(KeyboardInterrupt):
        attack(model, *digits(5))
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model.body[0][0].constant is None


@every_attack
def test_images_and_labels_are_left_alone_and_no_graph_is_kept(model, attack):
    images, labels = digits(30)
    given, of = images.clone().requires_grad_(), labels.clone()
    adversarial = attack(model, given, of, generator=generator())
    assert not adversarial.requires_grad and given.grad is None
    assert torch.equal(given, images) and torch.equal(of, labels)


@every_attack
def test_equal_generators_give_equal_images_whoever_calls_and_others_differ(model, attack):
    images, labels = digits(30)
    before = torch.get_rng_state()
    first, again, other = (attack(model, images, labels, generator=generator(seed)) for seed in (1, 1, 2))
    with torch.no_grad():
        quietly = attack(model, images, labels, generator=generator(1))
    assert torch.equal(first, again) and torch.equal(first, quietly) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


# ------------------------------------------------------------------------------------------------ names and refusals


def test_names_carry_the_loss_the_work_and_the_budget():
    assert APGD(0.2).name == "apgd-ce-100@0.2"
    assert APGD(8 / 255, 50, "targeted").name == "apgd-targeted-50@8/255"
    assert Square(0.2).name == "square-5000@0.2"


@pytest.mark.parametrize(
    ("attack", "wrong"),
    [
        (APGD, {"eps": -0.1}), (APGD, {"eps": float("nan")}), (APGD, {"eps": 0.1, "steps": -1}), (APGD, {"eps": 0.1, "loss": "mse"}),
        (APGD, {"eps": 0.1, "targets": 0}), (Square, {"eps": -0.1}), (Square, {"eps": 0.1, "queries": 0}),
        (Square, {"eps": 0.1, "p": 0.0}), (Square, {"eps": 0.1, "p": 1.5}),
    ],
)  # fmt: skip
def test_impossible_attacks_are_refused_in_one_line_with_the_value(attack, wrong):
    with pytest.raises(ValueError) as error:
        attack(**wrong)
    assert "\n" not in str(error.value) and str(list(wrong.values())[-1]) in str(error.value)


# ------------------------------------------------------------------------------------------------ closed forms


def linear_case(classes, number=8):
    rng = generator(3)
    weight, bias = torch.randn(classes, 12, generator=rng), torch.randn(classes, generator=rng)
    model = linear_model(weight, bias)
    images = torch.rand(number, 1, 3, 4, generator=rng)
    with torch.no_grad():
        labels = model(images).argmax(1)
    return model, weight.double(), bias.double(), images, labels


def worst_margin(weight, bias, images, labels, eps):
    """The largest z_t − z_y that the ball and [0,1] allow, over all t: each pixel at the end that its own weight asks for."""
    low, high = (images - eps).clamp(min=0).flatten(1).double(), (images + eps).clamp(max=1).flatten(1).double()
    margins = []
    for target in range(len(weight)):
        slope = weight[target] - weight[labels]
        reached = (torch.where(slope > 0, high, low) * slope).sum(1) + bias[target] - bias[labels]
        margins.append(torch.where(labels == target, -torch.inf, reached))
    return torch.stack(margins).amax(0)


def margin(model, images, labels):
    with torch.no_grad():
        logits = model(images).double()
    wrong = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    return wrong - logits.gather(1, labels[:, None]).squeeze(1)


@pytest.mark.parametrize(
    "attack", [APGD(0.02, 20), APGD(0.02, 20, "targeted"), Square(0.02, 1500)], ids=lambda a: a.name
)
def test_the_exact_optimum_of_a_linear_model_is_reached(attack):
    model, weight, bias, images, labels = linear_case(2)
    worst = worst_margin(weight, bias, images, labels, 0.02)
    standing = worst < -1e-3
    assert standing.sum() >= 5 and (images[standing] < 0.02).any()  # the range of pixels cuts some balls
    reached = margin(model, attack(model, images, labels, generator=generator()), labels)
    torch.testing.assert_close(reached[standing], worst[standing], rtol=1e-5, atol=1e-5)


def test_the_targeted_attack_reaches_the_optimum_over_all_wrong_classes():
    model, weight, bias, images, labels = linear_case(3, number=40)
    worst = worst_margin(weight, bias, images, labels, 0.02)
    standing = worst < -1e-3
    likely = model(images).topk(2).indices[:, 1]
    adversarial = APGD(0.02, 20, "targeted")(model, images, labels, generator=generator())
    reached = margin(model, adversarial, labels)
    torch.testing.assert_close(reached[standing], worst[standing], rtol=1e-5, atol=1e-5)
    assert (model(adversarial).topk(2).indices[:, 1] != likely)[standing].any()  # not always towards the likeliest


def test_a_linear_model_is_fooled_exactly_where_it_can_be():
    model, weight, bias, images, labels = linear_case(10, number=200)
    worst = worst_margin(weight, bias, images, labels, 0.1)
    adversarial = APGD(0.1, 30, "targeted")(model, images, labels, generator=generator())
    assert torch.equal(correct(model, adversarial, labels), worst < 0)
    assert 20 < (worst < 0).sum() < 180


# ------------------------------------------------------------------------------------------------ Auto-PGD


def test_the_checkpoints_are_the_published_ones():
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]


@pytest.mark.parametrize("steps", [0, 1, 2, 5, 10, 30, 50, 77, 200, 1000])
def test_the_checkpoints_follow_the_papers_recursion(steps):
    p = [Fraction(0), Fraction(22, 100)]
    while p[-1] <= 1:
        p.append(p[-1] + max(p[-1] - p[-2] - Fraction(3, 100), Fraction(6, 100)))
    assert checkpoints(steps) == sorted({ceil(share * steps) for share in p[1:-1]})


def auto_pgd(f, x0, eps, steps, start):
    """Algorithm 1 of Croce & Hein (2020) for one image, a line per line.  f: image → (value, gradient)."""

    def project(x):
        return x.clamp((x0 - eps).clamp(min=0), (x0 + eps).clamp(max=1))

    step, x_before, halvings = 2 * eps, start, 0
    value_before, gradient = f(x_before)
    best, best_value, best_gradient = x_before, value_before, gradient
    x = project(x_before + step * gradient.sign())
    rises, last_best, reduced, begin, ends = 0, None, True, 0, checkpoints(steps)
    for k in range(1, steps + 1):
        value, gradient = f(x)
        rises += value > value_before
        if value > best_value:
            best, best_value, best_gradient = x, value, gradient
        if k in ends:
            condition_1 = rises < 0.75 * (k - begin)
            condition_2 = not reduced and last_best == best_value
            reduced = bool(condition_1 or condition_2)
            if reduced:
                step, x, value, gradient, halvings = step / 2, best, best_value, best_gradient, halvings + 1
            rises, last_best, begin = 0, best_value, k
        z = project(x + step * gradient.sign())
        x, x_before, value_before = project(x + 0.75 * (z - x) + 0.25 * (x - x_before)), x, value
    return best, best_value, halvings


@pytest.mark.parametrize("seed", range(4))
def test_auto_pgd_is_the_papers_algorithm(seed):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 5)).double()
    with torch.no_grad():
        model[1].weight.mul_(8)  # curved enough for steps that are too long
    image = torch.rand(1, 1, 4, 4, dtype=torch.float64, generator=generator(seed))
    with torch.no_grad():
        label = model(image).argmax(1)
        model[3].bias[label] += 20  # nothing falls
    eps, steps = 0.3, 60
    start = image + eps * (2 * torch.rand(image.shape, dtype=torch.float64, generator=generator(seed)) - 1)

    def f(x):
        x = x.detach().requires_grad_()
        value = F.cross_entropy(model(x), label)
        (gradient,) = torch.autograd.grad(value, x)
        return value.item(), gradient

    low, high = (image - eps).clamp(min=0), (image + eps).clamp(max=1)
    expected, value, halvings = auto_pgd(f, image, eps, steps, start.clamp(low, high))
    reached = APGD(eps, steps)(model, image, label, generator=generator(seed))
    assert halvings >= 2
    torch.testing.assert_close(reached, expected)
    assert f(reached)[0] == pytest.approx(value, rel=1e-9)


def test_a_step_is_halved_on_either_condition_and_the_climb_goes_on_from_the_best_point():
    # Of 16 steps rose: 11; 12 without a new best; 12 with one; 12 without one, but the step was halved at the last checkpoint.
    rises, best_loss, checked = ([11, 12, 12, 12], [5.0, 5.0, 5.0, 5.0], [4.0, 5.0, 4.0, torch.inf])
    images, every = torch.zeros(4, 1, 2, 2), torch.arange(4)
    climb = Climb.start(every, images, every, every, 0.5, None)
    climb.x, climb.best = images + 0.1, images + 0.4
    climb.gradient, climb.best_gradient = images - 1, images + 1
    climb.loss = torch.full((4, 1, 1, 1), 3.0)
    for name, values in (("rises", rises), ("best_loss", best_loss), ("checked", checked)):
        setattr(climb, name, torch.tensor(values, dtype=torch.float32).view(4, 1, 1, 1))
    climb.check(16)
    stuck = torch.tensor([True, True, False, False])
    assert climb.step.flatten().tolist() == [0.5, 0.5, 1.0, 1.0]
    assert climb.loss.flatten().tolist() == [5.0, 5.0, 3.0, 3.0]
    assert climb.checked.flatten().tolist() == [torch.inf, torch.inf, 5.0, 5.0]
    assert climb.rises.flatten().tolist() == [0, 0, 0, 0]
    assert (climb.x[stuck] == 0.4).all() and (climb.gradient[stuck] == 1).all()
    assert (climb.x[~stuck] == 0.1).all() and (climb.gradient[~stuck] == -1).all()


class Scripted(nn.Module):
    """Gives the logits of a list, one after the other, whatever it sees, with a gradient that turns; remembers what it saw."""

    def __init__(self, *logits):
        super().__init__()
        self.logits, self.seen = iter(logits), []

    def forward(self, x):
        self.seen.append(x.detach().clone())
        slope = torch.tensor([0.0, (-1.0) ** len(self.seen), 0.0])
        return torch.tensor([next(self.logits)]) + slope * (x - x.detach()).sum()


def test_what_fools_comes_back_even_where_another_point_had_a_higher_loss():
    stands, higher, fools = [9.0, 0.0, 0.0], [1.0, 0.99, 0.99], [1.0, 1.01, -9.0]
    for attack, logits in (
        (APGD(0.1, 5), [stands, stands, higher, fools]),
        (Square(0.1, 5), [stands, stands, higher, fools]),
    ):
        model = Scripted(*logits)
        adversarial = attack(model, torch.full((1, 1, 2, 2), 0.5), torch.tensor([0]), generator=generator())
        assert torch.equal(adversarial, model.seen[3]) and len(model.seen) == 4
        assert not torch.equal(model.seen[3], model.seen[2])


def test_an_image_that_stands_comes_back_as_the_point_of_highest_loss():
    clean, low, high = [9.0, 0.0, 0.0], [5.0, 0.0, 0.0], [5.0, 4.0, 0.0]
    for attack, looks in (
        (APGD(0.1, 3), 4),
        (APGD(0.1, 3, "dlr"), 4),
        (Square(0.1, 4), 4),
        (APGD(0.1, 1, "targeted"), 4),
    ):
        model = Scripted(clean, low, high, *[low] * (looks - 2))
        adversarial = attack(model, torch.full((1, 1, 2, 2), 0.5), torch.tensor([0]), generator=generator())
        assert torch.equal(adversarial, model.seen[2]) and len(model.seen) == 5


def test_losses_are_the_direct_formulas():
    logits = torch.randn(50, 6, generator=generator(1), dtype=torch.float64)
    labels, targets = torch.arange(50) % 6, (torch.arange(50) + 1 + torch.arange(50) % 4) % 6
    for row, y, t, margin_, ratio, targeted in zip(
        logits.tolist(), labels.tolist(), targets.tolist(), objectives.margin(logits, labels, targets).tolist(),
        objectives.dlr(logits, labels, targets).tolist(), objectives.targeted_dlr(logits, labels, targets).tolist(),
        strict=True,
    ):  # fmt: skip
        ordered = sorted(row, reverse=True)
        wrong = max(z for i, z in enumerate(row) if i != y)
        assert margin_ == pytest.approx(row[t] - row[y])
        assert ratio == pytest.approx(-(row[y] - wrong) / (ordered[0] - ordered[2]))
        assert targeted == pytest.approx(-(row[y] - row[t]) / (ordered[0] - (ordered[2] + ordered[3]) / 2))


@pytest.mark.parametrize("value", [0.0, 1.0, 1e4, -3e38])
@pytest.mark.parametrize("loss", [objectives.dlr, objectives.targeted_dlr])
def test_equal_logits_give_no_infinite_ratio_in_float32(value, loss):
    logits = torch.full((2, 5), value, requires_grad=True)
    losses = loss(logits, torch.tensor([0, 3]), torch.tensor([1, 1]))
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    assert losses.tolist() == [0, 0] and gradient.isfinite().all()


def test_targets_are_the_likeliest_wrong_classes():
    logits = torch.tensor([[5.0, 1.0, 4.0, 3.0], [0.0, 9.0, -1.0, 2.0]])
    loss, runs = objectives.choose("targeted", logits, torch.tensor([0, 1]), 9)
    assert loss is objectives.targeted_dlr and [run.tolist() for run in runs] == [[2, 3], [3, 0], [1, 2]]
    assert len(objectives.choose("targeted", logits, torch.tensor([0, 1]), 2)[1]) == 2
    assert objectives.choose("targeted", logits[:, :3], torch.tensor([0, 1]), 9)[0] is objectives.margin


@pytest.mark.parametrize("factor", [1 / 64, 1024.0])
@pytest.mark.parametrize("loss", ["dlr", "targeted"])
def test_the_ratio_sees_no_scale_of_the_logits(model, loss, factor):
    attack, (images, labels) = APGD(EPS, 15, loss, targets=2), digits(30)
    plain = attack(model, images, labels, generator=generator())
    assert torch.equal(attack(Scaled(model, factor), images, labels, generator=generator()), plain)


@pytest.mark.parametrize(
    "factor", [1 / 100, 1e4]
)  # nearly flat; saturated: cross-entropy is 0 in float32, without a gradient
def test_a_masked_model_stands_pgd_and_falls_to_the_ratio_of_logits(model, factor):
    masked, (images, labels) = Scaled(model, factor), digits(100)
    by_pgd = PGD(EPS, EPS / 4, 20)(masked, images, labels, generator=generator())
    left_by_pgd = correct(masked, by_pgd, labels).sum()
    for attack in (APGD(EPS, 50, "dlr"), APGD(EPS, 50, "targeted", targets=3)):
        left = correct(masked, attack(masked, images, labels, generator=generator()), labels).sum()
        assert left < 0.8 * left_by_pgd


def test_a_gradient_that_is_no_number_moves_nothing():
    class Rooted(nn.Module):
        def forward(self, x):
            flat = x.flatten(1)
            return torch.stack([1 + flat[:, 0], (flat[:, 1:] * 0).sum(1).sqrt()], 1)  # 0 · ∞ for all pixels but one

    images, labels = torch.full((3, 1, 2, 2), 0.5), torch.zeros(3, dtype=torch.long)
    adversarial = APGD(0.1, 10)(Rooted(), images, labels, generator=generator())
    assert adversarial.isfinite().all() and (adversarial - images).abs().max() <= 0.1 + 1e-6
    torch.testing.assert_close(adversarial[:, 0, 0, 0], torch.full((3,), 0.4))


# ------------------------------------------------------------------------------------------------ Square


class NoWayBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise AssertionError("a gradient was asked for")


def test_square_never_asks_for_a_gradient(model):
    class Closed(nn.Module):
        def forward(self, x):
            return model(NoWayBack.apply(x))

    images, labels = digits(60)
    adversarial = Square(EPS, 100)(Closed(), images, labels, generator=generator())
    assert correct(model, adversarial, labels).sum() < correct(model, images, labels).sum()
    with pytest.raises(AssertionError, match="a gradient was asked for"):
        APGD(EPS, 3)(Closed(), images, labels, generator=generator())


def test_the_windows_shrink_as_published():
    attack, side = Square(EPS, queries=10_000), 1000
    sides = [attack.side(query, side, side) for query in range(10_000)]
    changes = [query for query in range(1, 10_000) if sides[query] != sides[query - 1]]
    assert changes == [11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001]
    assert [sides[0], *(sides[query] for query in changes)] == [
        round(side * (0.8 / 2**halvings) ** 0.5) for halvings in range(10)
    ]


def test_the_windows_schedule_is_stretched_to_the_queries():
    few, many = Square(EPS, queries=500), Square(EPS, queries=10_000)
    assert all(few.side(query, 99, 99) == many.side(20 * query, 99, 99) for query in range(500))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (2, 2), (3, 5), (8, 8), (32, 32)])
def test_a_window_has_at_least_one_pixel_and_fits_the_image(height, width):
    sides = [Square(EPS, 200, p=1.0).side(query, height, width) for query in range(200)]
    assert min(sides) >= 1 and max(sides) <= min(height, width) and sides == sorted(sides, reverse=True)


@pytest.mark.parametrize(("height", "width", "side"), [(8, 8, 3), (5, 9, 2), (4, 4, 1), (6, 6, 6), (1, 1, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_proposal_changes_one_square_and_always_something(height, width, side, channels):
    low, high = torch.zeros(400, channels, height, width), torch.ones(400, channels, height, width)
    best = square.stripes(low, high, generator())
    assert torch.equal(best, best[:, :, :1].expand_as(best)) and set(best.unique().tolist()) <= {0.0, 1.0}
    proposed = square.windows(best, low, high, side, generator(1))
    changed = (proposed != best).any(1)
    assert changed.flatten(1).any(1).all()
    for there, image in zip(changed, proposed, strict=True):
        rows, columns = there.any(1).nonzero(), there.any(0).nonzero()
        assert rows.max() - rows.min() < side and columns.max() - columns.min() < side
        window = image[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].flatten(1)
        assert torch.equal(window, window[:, :1].expand_as(window))  # one value a channel
    if side == 1:
        assert changed.any(0).all()  # every pixel can be reached, the last row and column too


def test_square_finds_what_needs_no_gradient_and_more_queries_find_more(model):
    images, labels = digits(100)
    left = [
        int(correct(model, Square(EPS, queries)(model, images, labels, generator=generator()), labels).sum())
        for queries in (1, 20, 400)
    ]
    assert int(correct(model, images, labels).sum()) > left[0] > left[1] > left[2]


# ------------------------------------------------------------------------------------------------ the published implementation


def survivors(model, images, labels, targets, seed):
    """Which images stand after our Auto-PGD on cross-entropy and then the targeted one, each on what is left."""
    standing = correct(model, images, labels)
    for attack in (APGD(EPS), APGD(EPS, loss="targeted", targets=targets)):
        left = standing.nonzero().squeeze(1)
        adversarial = attack(model, images[left], labels[left], generator=generator(seed))
        standing[left] = correct(model, adversarial, labels[left])
    return standing


def published_survivors(model, images, labels, targets, seed):
    autopgd = pytest.importorskip("pyautoattack.autopgd_base")
    standing = correct(model, images, labels)
    with torch.random.fork_rng(devices=[]):  # it seeds the global generator
        for attack in (
            autopgd.APGDAttack(model, n_iter=100, eps=EPS, seed=seed, loss="ce"),
            autopgd.APGDAttack_targeted(model, n_iter=100, eps=EPS, seed=seed, n_target_classes=targets),
        ):
            left = standing.nonzero().squeeze(1)
            standing[left] = correct(model, attack.perturb(images[left], labels[left]), labels[left])
    return standing


@pytest.mark.slow
def test_as_many_images_survive_as_under_the_published_auto_pgd(model):
    images, labels = digits(60)
    theirs = published_survivors(model, images, labels, 2, seed=0)
    ours = survivors(model, images, labels, 2, seed=0)
    assert abs(ours.sum() - theirs.sum()) <= 1
    assert (
        ours.sum() < correct(model, PGD(EPS, EPS / 4, 20)(model, images, labels, generator=generator()), labels).sum()
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", ["CE", "DRCB-CE", "SRAT-LDAM"])
def test_as_many_of_200_images_survive_nine_targets_as_under_the_published_auto_pgd(method):
    model, (images, labels) = trained(method).eval(), digits(200)
    theirs = published_survivors(model, images, labels, 9, seed=0)
    ours = survivors(model, images, labels, 9, seed=0)
    assert len(labels) == 200 and 20 < ours.sum() < 180
    assert abs(ours.sum() - theirs.sum()) <= 1
