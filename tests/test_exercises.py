"""Every check accepts the solution and says what is wrong with typical mistakes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import rankdata

from srat_utils import losses, weights
from srat_utils.attacks import frozen, pgd
from srat_utils.course import exercises, theory, verdicts
from srat_utils.imbalance import class_counts


def plain_pgd(model, x, y, attack, sign=1, clip=True, radius=1.0):
    low, high = (x - attack.eps).clamp(min=0), (x + attack.eps).clamp(max=1)
    adversarial = x
    for _ in range(attack.steps):
        adversarial = adversarial.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(adversarial), y), adversarial)
        adversarial = adversarial.detach() + radius * sign * attack.step * gradient.sign()
        if clip:
            adversarial = adversarial.clamp(low, high)
    return adversarial


def frozen_pgd(model, *arguments, **options):
    with frozen(model):
        return plain_pgd(model, *arguments, **options)


def outside_zero_one(model, x, y, attack):
    with frozen(model):
        return x + attack.eps * torch.sign(plain_pgd(model, x, y, attack) - x + 1e-9)


def leaves_eval_mode(model, x, y, attack):
    return plain_pgd(model.eval(), x, y, attack)


def leaves_gradients(model, x, y, attack):
    with frozen(model):
        adversarial = plain_pgd(model, x, y, attack)
    model.eval()
    F.cross_entropy(model(adversarial), y).backward()
    model.train()
    return adversarial


def silhouette(z, labels, i, *, itself=False, nearest=True):
    distance = np.linalg.norm(z - z[i], axis=1)
    own = labels == labels[i]
    a = distance[own].sum() / (own.sum() - (0 if itself else 1))
    groups = [labels == c for c in np.unique(labels) if c != labels[i]] if nearest else [~own]
    b = min(distance[group].mean() for group in groups)
    return (b - a) / max(a, b)


def separation(features, labels, temperature, *, length=True, sign=1, lonely="zero"):
    features = F.normalize(features) if length else features
    itself = torch.eye(len(features), dtype=torch.bool)
    positive = (labels[:, None] == labels) & ~itself
    similarity = (features @ features.T / temperature).masked_fill(itself, -torch.inf)
    log_p = torch.where(positive, similarity - similarity.logsumexp(1, keepdim=True), 0)
    number = positive.sum(1)
    if lonely == "nan":
        return (-log_p.sum(1) / number).mean()
    each = -sign * log_p.sum(1) / number.clamp(min=1)
    return each.mean() if lonely == "zero" else each[number > 0].mean()


def ratio(features, labels, power=1, inverse=False):
    means = np.stack([features[labels == c].mean(0) for c in np.unique(labels)])
    within = np.mean([features[labels == c].var(0).sum() for c in np.unique(labels)])
    value = means.var(0).sum() / within**power
    return 1 / value if inverse else value


def ranks(accuracies, method="average"):
    return rankdata(-np.array(accuracies), method=method)


CASES = [
    ("pgd", pgd, "Right"),
    ("pgd", frozen_pgd, "Right"),
    ("pgd", plain_pgd, "train mode"),
    ("pgd", leaves_eval_mode, "is not afterwards"),
    ("pgd", leaves_gradients, "gradients in the parameters"),
    ("pgd", outside_zero_one, "[0, 1]"),
    ("pgd", lambda *a: frozen_pgd(*a, clip=False), "leaves the ε-ball by 0.2"),
    ("pgd", lambda *a: frozen_pgd(*a, sign=-1), "loss went down"),
    ("pgd", lambda m, x, y, a: x[:1], "shape"),
    ("pgd", lambda m, x, y, a: None, "not NoneType"),
    ("exp_counts", lambda n, K, C: class_counts(f"exp-{K}", [n] * C), "Right"),
    ("exp_counts", lambda n, K, C: [n] * C, "last class"),
    ("exp_counts", lambda n, K, C: [round(n * K ** (-i / (C - 1))) for i in range(C)], "it should be"),
    ("exp_counts", lambda n, K, C: [int(n * K ** (-(i + 1) / C)) for i in range(C)], "first class must keep"),
    ("exp_counts", lambda n, K, C: [n], "1 counts for 10"),
    ("class_accuracy", lambda p, y, C: [100 * (p[y == c] == c).mean() for c in range(C)], "Right"),
    ("class_accuracy", lambda p, y, C: [(p[y == c] == c).mean() for c in range(C)], "percent"),
    ("class_accuracy", lambda p, y, C: [100 * ((p == c) & (y == c)).mean() for c in range(C)], "not by all images"),
    ("class_accuracy", lambda p, y, C: [100 * C * ((p == c) & (y == c)).mean() for c in range(C)], "N/C"),
    ("class_accuracy", lambda p, y, C: 100 * (p == y).mean(), "one number a class"),
    ("weighted_mean", weights.reduce, "Right"),
    ("weighted_mean", lambda v, w: (v * w).mean(), "divide by the sum of the weights"),
    ("weighted_mean", lambda v, w: v.mean(), "no effect"),
    ("weighted_mean", lambda v, w: (v * w).sum(), "this is the sum"),
    ("break_even", lambda r, a, b: min(zip(r, a, b, strict=True), key=lambda t: abs(t[1] - t[2]))[0], "Right"),
    ("break_even", lambda r, a, b: r[int(np.argmax(b))], "not where the two meet"),
    ("break_even", lambda r, a, b: 70, "was not run"),
    ("break_even", lambda r, a, b: r[0], "99 points apart"),
    ("projection", lambda a, x, e: a.clamp(x - e, x + e).clamp(0, 1), "Right"),
    ("projection", lambda a, x, e: a.clamp(0, 1), "leaves the ε-ball by 0.3"),
    ("projection", lambda a, x, e: a.clamp(x - e, x + e), "pixels reach from -0.10 to 1.05"),
    ("projection", lambda a, x, e: (x + e * (a - x).sign()).clamp(0, 1), "in both already"),
    ("projection", lambda a, x, e: torch.where((a - x).abs() <= e, a, x), "not the nearest"),
    ("silhouette", silhouette, "Right"),
    ("silhouette", lambda z, y, i: -silhouette(z, y, i), "sign"),
    ("silhouette", lambda z, y, i: silhouette(z, y, i, itself=True), "divide by n − 1"),
    ("silhouette", lambda z, y, i: silhouette(z, y, i, nearest=False), "not over all others"),
    ("silhouette", lambda z, y, i: 0.0, "it should be"),
    ("variance_ratio", ratio, "Right"),
    ("variance_ratio", lambda z, y: ratio(z, y, inverse=True), "inverse"),
    ("variance_ratio", lambda z, y: ratio(z, y, power=0.5), "multiplied by 10"),
    ("variance_ratio", lambda z, y: ratio(z, y) * 2, "it should be"),
    ("class_balanced", weights.class_balanced, "Right"),
    ("class_balanced", lambda n, b: weights.effective_number(n, b), "rarest class"),
    ("class_balanced", lambda n, b: 1 / weights.effective_number(n, b) * 100, "not to C"),
    ("class_balanced", lambda n, b: 3 / np.array(n) / (1 / np.array(n)).sum(), "inverse counts"),
    ("bias_for_priors", lambda eta, sigma, p: 0.5 * np.log(p / (1 - p)) * sigma**2 / eta, "Right"),
    ("bias_for_priors", lambda eta, sigma, p: 0.5 * np.log((1 - p) / p) * sigma**2 / eta, "sign"),
    ("bias_for_priors", lambda eta, sigma, p: 1.5 * np.log(p / (1 - p)) * sigma**2 / eta, "factor d"),
    ("bias_for_priors", lambda eta, sigma, p: np.log(p / (1 - p)) * sigma**2 / eta, "½"),
    ("eps_of_cost", theory.eps_of_cost, "Right"),
    ("eps_of_cost", lambda eta, *rest: 2 * eta, "between 0 and"),
    ("eps_of_cost", lambda *setting: 0.0, "reweighting costs 1.77"),
    ("eps_of_cost", lambda *setting: theory.eps_of_cost(*setting[:4]), "points, not 10"),
    ("robust_margin", theory.robust_margin, "Right"),
    ("robust_margin", lambda w, b, x, y, eps: y * (x @ w - b), "no effect"),
    ("robust_margin", lambda w, b, x, y, eps: y * (x @ w - b) + eps * np.abs(w).sum(), "smaller, not larger"),
    ("robust_margin", lambda w, b, x, y, eps: y * (x @ w - b) - eps * np.linalg.norm(w), "1-norm"),
    ("robust_margin", lambda w, b, x, y, eps: y * (x @ w - b) - eps * w.sum(), "absolute"),
    ("verdict", verdicts.verdict, "Right"),
    ("verdict", lambda d: "reproduced" if len(d) and np.mean(d) > 0 else "not measured", "direction at most"),
    ("verdict", lambda d: verdicts.verdict(d) if len(d) else "not reproduced", "nothing was measured"),
    ("verdict", lambda d: verdicts.verdict(np.repeat(d, 9) if len(d) > 1 else d), "standard error"),
    ("ranks", ranks, "Right"),
    ("ranks", lambda a: rankdata(a), "turned round"),
    ("ranks", lambda a: ranks(a) - 1, "not at 0"),
    ("ranks", lambda a: ranks(a, method="min"), "share the mean"),
    ("ranks", lambda a: 1, "three ranks"),
    ("paired_error", lambda a, b: np.std(b - a, ddof=1) / 2, "Right"),
    ("paired_error", lambda a, b: np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 4), "unpaired"),
    ("paired_error", lambda a, b: np.std(b - a, ddof=1), "standard deviation"),
    ("paired_error", lambda a, b: np.std(b - a) / 2, "ddof=1"),
    ("weight_ratio", lambda n, m, b: (1 - b**n) / (1 - b**m), "Right"),
    ("weight_ratio", lambda n, m, b: (1 - b**m) / (1 - b**n), "inverse"),
    ("weight_ratio", lambda n, m, b: n / m, "ratio of the counts"),
    ("weight_ratio", lambda n, m, b: 78, "it should be"),
    ("feature_separation", losses.feature_separation, "Right"),
    ("feature_separation", separation, "Right"),
    ("feature_separation", lambda *a: separation(*a, lonely="nan"), "NaN"),
    ("feature_separation", lambda *a: separation(*a, length=False), "normalise"),
    ("feature_separation", lambda *a: separation(*a, sign=-1), "sign"),
    ("feature_separation", lambda *a: separation(*a, lonely="drop"), "must count in the mean"),
]


@pytest.mark.parametrize(("name", "answer", "said"), CASES)
def test_a_check_says_what_is_wrong(name, answer, said, capsys):
    right = getattr(exercises, f"check_{name}")(answer)
    printed = capsys.readouterr().out
    assert said in printed
    assert printed.count("\n") == 1
    assert right == (said == "Right")


@pytest.mark.parametrize("name", sorted({name for name, _, _ in CASES}))
def test_an_open_exercise_and_a_crash_do_not_raise(name, capsys):
    def open_exercise(*arguments):
        raise NotImplementedError

    check = getattr(exercises, f"check_{name}")
    assert not check(open_exercise)
    assert "Not answered yet" in capsys.readouterr().out
    assert not check(lambda *arguments: 1 / 0)
    assert "ZeroDivisionError" in capsys.readouterr().out
