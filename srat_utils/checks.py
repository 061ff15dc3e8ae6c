"""Is this robustness real?  A small function a failure mode; its finding says what was seen and what to do.

Every gradient attack here climbs the log-odds of being wrong.  They rise with cross-entropy, so that their gradient has the same
sign, but they do not round to a constant in float32.  Only the check "float32" climbs cross-entropy itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from scipy.stats import binomtest
from torch import nn

from .attacks import APGD, PGD, Square, frozen, pgd
from .attacks.objectives import largest_margin
from .losses import Loss, cross_entropy

SAMPLE = 200  # images, balanced over the classes; one is half a point, and differences below 5 points are seldom seen
STEPS, MANY_STEPS, QUERIES = 20, 80, 500
SPAN = 20.0  # of the logits, lowest to highest: steep enough to pull at the nearest class, and far from rounding
CHANCE = 0.01  # how often a check may fail a network at the edge of what is sound
# Shares of the images.  An attack is as good as another that leaves hardly less standing: sound networks, trained for a moment,
# show up to 3 points between two attacks.  Beyond chance more than this are ten of 200 images, or seven of 100.
TOLERATED = 0.02
STRAYS = 0.005  # where a sound network has none at all; beyond chance more than this are five of 200, or four of 100
# Parts of the logits' spread: nothing rounds anew in the same batch, and a little may in another.
REPEATED, REGROUPED = 1e-4, 1e-2
WIDE = 10.0  # points between the ends of an interval


@dataclass(frozen=True)
class Finding:
    """ok: True, False, or None for a note, which is no failure.  seen: what was measured.  advice: what to do where it is not ok."""

    name: str
    ok: bool | None
    seen: str
    advice: str


@dataclass(frozen=True, eq=False)
class Trial:
    """A network in eval mode, a sample of images, and what is known of attacks on them: which images stand, bool [N].

    attack: as it was given.  path: the PGD whose ε and step are tried.  counts: images per class before the sample was drawn.
    """

    model: nn.Module
    images: torch.Tensor
    labels: torch.Tensor
    logits: torch.Tensor
    attack: object
    path: PGD
    counts: np.ndarray
    seed: int = 0
    known: dict = field(default_factory=dict)

    @cached_property
    def clean(self) -> np.ndarray:
        return (self.logits.argmax(1) == self.labels).cpu().numpy()

    @cached_property
    def span(self) -> float:
        """From an image's lowest logit to its highest, the median."""
        return float((self.logits.amax(1) - self.logits.amin(1)).median())

    @cached_property
    def steep(self) -> Loss:
        """Log-odds of logits scaled to `SPAN`: their scale decides how alike cross-entropy pulls at the wrong classes."""
        scale = SPAN / max(self.span, 1e-30)
        return lambda logits, labels: log_odds(scale * logits, labels)

    def stands(self, factor: float = 1.0, steps: int = STEPS, loss: Loss | None = None) -> np.ndarray:
        """Under PGD on a loss, log-odds unless said, with ε and step times a factor."""
        return self.under(replace(self.path.scaled(factor), steps=steps), loss or log_odds)

    def under(self, attack: PGD, loss: Loss) -> np.ndarray:
        if (attack, loss) not in self.known:
            adversarial = pgd(self.model, self.images, self.labels, attack, loss=loss, generator=self.noise())
            self.known[attack, loss] = self.right(adversarial, self.labels)
        return self.known[attack, loss]

    def left(self, standing: np.ndarray, attack: APGD | Square) -> np.ndarray:
        """What an attack leaves of those that stand."""
        left = standing.copy()
        if standing.any():
            chosen = torch.from_numpy(standing).to(self.labels.device)
            images, labels = self.images[chosen], self.labels[chosen]
            left[standing] = self.right(attack(self.model, images, labels, generator=self.noise()), labels)
        return left

    @torch.no_grad()
    def right(self, images: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
        return (self.model(images).argmax(1) == labels).cpu().numpy()

    def noise(self) -> torch.Generator:
        """Always the same, so that two attacks differ in what they do and not in where they start."""
        return torch.Generator(self.images.device).manual_seed(self.seed)

    def still(self, loss: Loss) -> np.ndarray:
        """Which images have a gradient of exactly 0 where they are."""
        return zero_gradient(self.model, self.images, self.labels, loss).cpu().numpy()

    @torch.no_grad()
    def moved(self, batches: Iterable[torch.Tensor]) -> float:
        """How far a logit moves at most when the images come again in these batches, in parts of the logits' spread."""
        spread = (self.logits - self.logits.mean(1, keepdim=True)).abs().mean()
        far = [(self.model(self.images[batch]) - self.logits[batch]).abs().max() for batch in batches]
        return float(max(far) / spread.clamp(min=1e-30))


@torch.enable_grad()
def zero_gradient(model: nn.Module, x: torch.Tensor, y: torch.Tensor, loss: Loss) -> torch.Tensor:
    """Which images have a gradient of exactly 0, or of no numbers, on a loss, bool [N]: no step follows from either."""
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(model(x), y).sum(), x)
    return ((gradient == 0) | gradient.isnan()).flatten(1).all(1)


def log_odds(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """log (1 − p_y)/p_y = log Σ_{c≠y} e^{z_c} − z_y, [N].  Its gradient is Σ_{c≠y} q_c ∇z_c − ∇z_y, q the softmax without y."""
    own = labels[:, None]
    return logits.scatter(1, own, -torch.inf).logsumexp(1) - logits.gather(1, own).squeeze(1)


def percent(images: np.ndarray) -> str:
    return f"{100 * images.mean():.1f}"


def exceed(number: int, images: int, share: float) -> bool:
    """Whether so many of the images are more than a share, beyond chance."""
    return bool(binomtest(number, images, share, alternative="greater").pvalue < CHANCE)


def rises(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether more images are right after than before, beyond chance: the sign test over those that change, a fair coin each."""
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    return gained > lost and exceed(gained, gained + lost, 0.5)


def any_rises(series: Iterable[np.ndarray]) -> bool:
    return any(rises(before, after) for before, after in combinations(series, 2))


def misses(attack: np.ndarray, other: np.ndarray) -> bool:
    """Whether an attack leaves more standing than another, beyond chance and what is tolerated."""
    return rises(other, attack) and exceed(int(attack.sum()) - int(other.sum()), len(attack), TOLERATED)


CHECKS: list[Callable[[Trial], Finding]] = []


def check(name: str, advice: str) -> Callable[[Callable], Callable]:
    """Make a check of a function that gives (ok, what was seen)."""

    def register(look: Callable[[Trial], tuple[bool | None, str]]) -> Callable:
        CHECKS.append(lambda trial: Finding(name, *look(trial), advice))
        return look

    return register


@check("ε = 1", "no network can stand here: look for what stops the attack, such as a step without a gradient")
def boundless(trial: Trial) -> tuple[bool, str]:
    """An image may become any other."""
    right = trial.under(PGD(1.0, 0.1, STEPS), log_odds)
    return not exceed(int(right.sum()), len(right), STRAYS), f"{percent(right)} % of the images stand"


@check("larger ε", "report the lowest accuracy, and start a larger ε from what a smaller one has found")
def budget(trial: Trial) -> tuple[bool, str]:
    """The larger ball holds the smaller."""
    right = {factor: trial.stands(factor) for factor in (0.25, 0.5, 1.0, 2.0)}
    seen = ", ".join(f"{percent(r)} at {factor * trial.path.eps:.3g}" for factor, r in right.items())
    return not any_rises(right.values()), f"accuracy {seen}"


@check("more steps", "keep the worst point of the way instead of its last, and shorten the step")
def steps(trial: Trial) -> tuple[bool, str]:
    right = {number: trial.stands(steps=number) for number in (5, STEPS, MANY_STEPS)}
    seen = ", ".join(f"{percent(r)} after {number}" for number, r in right.items())
    return not any_rises(right.values()), f"accuracy {seen}"


@check("enough steps", "the attack has not arrived: take more steps, or longer ones, before you report a number")
def convergence(trial: Trial) -> tuple[bool, str]:
    right, later = trial.stands(steps=trial.path.steps), trial.stands(steps=MANY_STEPS)
    seen = f"accuracy {percent(right)} after {trial.path.steps} steps, {percent(later)} after {MANY_STEPS}"
    return not misses(right, later), seen


@check("zero gradients", "attack with something smooth in place of the step without a gradient, from a random start")
def zero_gradients(trial: Trial) -> tuple[bool, str]:
    still = trial.still(log_odds)
    rounded = [percent(trial.still(lambda z, y, scale=scale: cross_entropy(scale * z, y))) for scale in (1, 10)]
    seen = f"none at {percent(still)} % of the images; of cross-entropy at {rounded[0]} %, were the logits × 10 at {rounded[1]} %"
    return not exceed(int(still.sum()), len(still), STRAYS), seen


@check("float32", "p rounds to 1: climb the log-odds, or scale the logits down; float64 only puts the rounding off")
def saturation(trial: Trial) -> tuple[bool, str]:
    """Cross-entropy and the log-odds are one attack but for rounding."""
    rounded, exact = trial.stands(loss=cross_entropy), trial.stands()
    certain = (trial.logits.softmax(1) == 1).any(1).cpu().numpy()
    seen = f"accuracy {percent(rounded)} with rounding, {percent(exact)} without; p is 1 for {percent(certain)} % of the images"
    return not misses(rounded, exact), seen


@check("flat softmax", "cross-entropy pulls at all wrong classes alike: attack the margin, or scale the logits up")
def flatness(trial: Trial) -> tuple[bool, str]:
    """Neither the margin nor a steep softmax leaves much less standing than cross-entropy; more does no harm."""
    ce, gap, steep = trial.stands(), trial.stands(loss=largest_margin), trial.stands(loss=trial.steep)
    seen = f"accuracy {percent(ce)} on cross-entropy, {percent(gap)} on the margin"
    seen += f", {percent(steep)} with logits scaled from a span of {trial.span:.2g} to {SPAN:g}"
    return not (misses(ce, gap) or misses(ce, steep)), seen


@check("random search", "gradients mislead: report the worst case with Square in it, and look for what hides them")
def random_search(trial: Trial) -> tuple[bool, str]:
    """Square sees no gradient, so that none can be hidden from it; it tries what all gradients leave."""
    standing = trial.clean & trial.stands() & trial.stands(steps=MANY_STEPS)
    standing &= trial.stands(loss=largest_margin) & trial.stands(loss=trial.steep)
    standing = trial.left(standing, APGD(trial.path.eps, STEPS, "targeted"))
    beaten = standing & ~trial.left(standing, Square(trial.path.eps, QUERIES))
    seen = f"{percent(standing)} % of the images stand under gradients, {percent(beaten)} % fall to Square alone"
    return not exceed(int(beaten.sum()), len(beaten), TOLERATED), seen


@check("random network", "attack the mean of many passes, and count an image as robust only if all of them are right")
def randomness(trial: Trial) -> tuple[bool, str]:
    change = trial.moved([torch.arange(len(trial.labels))])
    return change <= REPEATED, f"a second pass moves a logit by {100 * change:.2g} % of the logits' spread"


@check("batch", "images change each other's logits: put batch norm into eval mode, with running statistics")
def neighbours(trial: Trial) -> tuple[bool, str]:
    """The low classes alone and the high classes alone; a random network moves anyway."""
    change, noise = trial.moved(trial.labels.argsort().chunk(2)), trial.moved([torch.arange(len(trial.labels))])
    seen = f"other neighbours move a logit by {100 * change:.2g} % of the logits' spread"
    return change <= max(REGROUPED, 10 * noise), seen


@check("clean below attacked", "see that both sets have the same labels, pixels in [0,1] and one mode of batch norm")
def clean_below(trial: Trial) -> tuple[bool, str]:
    attacked = [trial.stands(factor) for factor in (0.25, 0.5, 1.0)]
    best = percent(max(attacked, key=np.mean))
    return not any(
        rises(trial.clean, right) for right in attacked
    ), f"accuracy {percent(trial.clean)}, attacked up to {best}"


@check("guessing", "there is nothing to attack: check the labels, the pixels' range, and whether training collapsed")
def guessing(trial: Trial) -> tuple[bool, str]:
    """Clean accuracy is less than a quarter of the way from chance to certainty, beyond chance."""
    wrong, chance = ~trial.clean, 1 / trial.logits.shape[1]
    seen = f"accuracy {percent(trial.clean)}, by chance {100 * chance:.1f}"
    return not exceed(int(wrong.sum()), len(wrong), 0.75 * (1 - chance)), seen


@check("classes", "take APGD(loss='targeted') with at most C − 1 targets, and below four classes APGD(loss='ce')")
def classes(trial: Trial) -> tuple[bool | None, str]:
    """DLR needs three classes and targeted DLR four: with fewer, another attack runs than is named.  A note where only AutoAttack as
    published would stop.
    """
    number, loss = trial.logits.shape[1], getattr(trial.attack, "loss", None)
    if (loss == "dlr" and number < 3) or (loss == "targeted" and (number < 4 or trial.attack.targets >= number)):
        targets = f" with {trial.attack.targets} targets" if loss == "targeted" else ""
        return False, f"{number}, too few for {trial.attack.name}{targets}"
    return (True if number >= 4 else None), f"{number}"


@check("images per class", "give each class's accuracy with its interval, or collect more test images")
def images_a_class(trial: Trial) -> tuple[bool | None, str]:
    """Wilson's 95 % interval at an accuracy of one half, where it is widest.  A note, no failure."""
    width = np.array([np.ptp(wilson(number // 2, number)) for number in trial.counts])
    rarest = int(trial.counts.argmin())
    seen = f"{(width > WIDE).sum()} of {len(width)} classes have intervals wider than {WIDE:g} points"
    names = getattr(getattr(trial.model, "spec", None), "classes", range(len(width)))  # any network may be checked
    seen += f"; class {names[rarest]}, {trial.counts[rarest]} images: ± {width[rarest] / 2:.0f}"
    return (None if (width > WIDE).any() else True), seen


def wilson(right: int, images: int) -> tuple[float, float]:
    """Wilson's 95 % interval, in percent, of an accuracy of so many right of so many images; (0, 100) over none."""
    if images == 0:
        return 0.0, 100.0
    ends = binomtest(right, images).proportion_ci(0.95, "wilson")
    return 100 * ends.low, 100 * ends.high


def run(
    model: nn.Module, images: torch.Tensor, labels: torch.Tensor, attack: PGD, *, size: int = SAMPLE, seed: int = 0
) -> list[Finding]:
    """Look for reasons to distrust a network's accuracy under an attack; a finding a check.

    images: float [N,C,H,W] in [0,1].  labels: int64 [N].  attack: a PGD, of any other record its ε alone, with a step of ε/4.
    A sample of at most `size` images, as balanced over the classes as they allow, is drawn by the seed.  Each costs some 250
    gradients, and 180 more and 500 passes if it stands; more images show smaller differences.  The network is attacked in eval
    mode and left as it was.  Raises ValueError where images, labels and network do not fit.
    """
    if not (images.is_floating_point() and len(images) == len(labels) > 0 and images.min() >= 0 and images.max() <= 1):
        raise ValueError("images must be floats in [0,1], one or more, and have a label each; divide bytes by 255")
    chosen = sample(labels, size, seed)
    path = attack if isinstance(attack, PGD) else PGD(attack.eps, attack.eps / 4, STEPS)
    with frozen(model):
        with torch.no_grad():
            logits = model(images[chosen])
        if not (labels.min() >= 0 and labels.max() < logits.shape[1] and logits.isfinite().all()):
            raise ValueError(
                f"labels {labels.min()} to {labels.max()} do not fit {logits.shape[1]} logits, or a logit is no number; "
                "check that network, images and labels belong together"
            )
        counts = np.bincount(labels.cpu().numpy(), minlength=logits.shape[1])
        trial = Trial(model, images[chosen], labels[chosen], logits, attack, path, counts, seed)
        return [look(trial) for look in CHECKS]


def sample(labels: torch.Tensor, size: int, seed: int) -> torch.Tensor:
    """Positions of `size` images at most, int64: a random one of each class, then another one of each, and so on."""
    order = np.random.default_rng(seed).permutation(len(labels))
    drawn = pd.Series(labels.cpu().numpy()[order])
    turn = drawn.groupby(drawn).cumcount().to_numpy()
    return torch.from_numpy(order[turn.argsort(kind="stable")[:size]]).to(labels.device)


def table(findings: Sequence[Finding]) -> str:
    """The findings as a Markdown table, which reads as plain text, too."""
    words = {True: "ok", False: "fails", None: "note"}
    rows = [
        (each.name, words[each.ok], each.seen.replace("|", "\\|"), "" if each.ok else each.advice) for each in findings
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in [("check", "", "seen", "what to do"), ("-",) * 4, *rows])
