"""From measured differences to words: up, down or undecided, by a rule that is written down and never typed in.

A difference between two methods is uncertain twice.  Another seed would train another network, and other test images
would count other mistakes; every seed is tested on the same images, so more seeds do not shrink the second part.  For
the difference d_si of seed s = 1…S on image i = 1…N both are crossed random effects,

    d_si = δ + seed_s + image_i + rest_si,      Var(mean) = σ²_seed/S + σ²_image/N + σ²_rest/(SN).

With mean squares A over seeds, B over images and R of the rest, all divided by SN, A estimates σ²_seed/S + σ²_rest/(SN)
and B − R estimates σ²_image/N.  Half of the 95 % interval is the root of max(t²A, u²B, t²A + u²(B − R)), where t and u
are Student's quantiles for S − 1 and for the images' degrees of freedom.

Each part keeps its own quantile: t²A + u²B covers at least as often as it says, whatever the parts' shares, because
P(Z² ≤ q) is concave in q (Banerjee, Sankhya 22, 1960, 357–358).  One quantile for the sum, with Satterthwaite's degrees
of freedom, does not: where three seeds agree by luck the sum takes the images' many degrees of freedom, and at the
small levels of Holm's correction it errs several times too often.  Taking off R, which A holds already, costs none of
that in simulation as long as the interval stays at least as wide as seeds alone or images alone make it: the maximum.

Student's t wants seeds that are near normal.  Where some trainings collapse and others do not, three that happen to be
of one kind say nothing of the other: such an interval is of trainings that go as these did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, reduce
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import optimize, special

from .config import Config
from .evaluation import STRONG, Protocol
from .runs import Run

LEVEL = 0.05
DUST = 1e-9  # what rounding leaves of no difference


class Spread(NamedTuple):
    """Estimated parts of a mean's variance, A, B and R of the module's docstring, with their degrees of freedom."""

    seeds: float
    seeds_df: int
    images: float = 0.0
    images_df: float = 1.0
    rest: float = 0.0

    def half_width(self, level: float = LEVEL) -> float:
        """Half the interval that misses the truth at most this often."""
        t, u = special.stdtrit([self.seeds_df, self.images_df], level / 2)  # both negative, and only squared
        seeds, images, rest = t**2 * self.seeds, u**2 * self.images, u**2 * self.rest
        return float(max(seeds, images, seeds + images - rest) ** 0.5)

    def seen(self) -> Spread:
        """Itself, or, where no spread was seen at all, one that knows nothing: as a single seed's."""
        return self if self.half_width() else self._replace(seeds=np.inf)

    def p(self, estimate: float) -> float:
        """The level at which the interval around `estimate` reaches 0: two-sided, and 0 below 1e-15."""
        if estimate == 0 or np.isinf(self.half_width()):
            return 1.0
        if abs(estimate) >= self.half_width(1e-15):
            return 0.0
        return 10 ** optimize.brentq(lambda power: self.half_width(10**power) - abs(estimate), -15, 0)


@dataclass(frozen=True)
class Effect:
    """A difference in points, its 95 % interval and two-sided p.  images is None where only seeds were counted."""

    estimate: float
    low: float
    high: float
    p: float
    seeds: int
    images: int | None = None
    spread: Spread | None = None  # None where the interval is made of several (`above_best`)


def effect(values, classes=None, weights=None) -> Effect:
    """The mean over seeds of Σ_i weights_i · values_si, with the error of seeds and of test images.

    values: [S,N], of the same N test images under each of S seeds: points that one method is above another, or a
    difference of such differences.  weights: [N], 1/N each unless given; `class_mean(classes, rare)`, or a contrast of
    two such means.  classes: [N]; a test set has a fixed number of images per class, so images vary within theirs only.
    One seed, or a class of one image, has no spread that is known: the interval is infinite and p = 1.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"{values.shape} must be finite numbers [seeds, images]; for one number per seed: from_seeds")
    images = values.shape[1]
    classes = np.zeros(images) if classes is None else np.asarray(classes)
    weights = np.full(images, 1 / images) if weights is None else np.asarray(weights, dtype=float)
    if classes.shape != (images,) or weights.shape != (images,) or not np.isfinite(weights).all() or not weights.any():
        raise ValueError(
            f"classes {classes.shape} and weights {weights.shape}, not all 0, must be one per image: {images}"
        )
    used = weights != 0
    return _effect(values[:, used] * weights[used], classes[used])


def paired(ours, theirs, classes=None, weights=None) -> Effect:
    """How many points of accuracy ours is above theirs.  ours, theirs: [S,N], whether image i was right under seed s.

    Row s of both is the same seed and column i the same image.  Means of outcomes over settings that share seeds and
    images will do, too.  classes and weights as in `effect`: accuracy per image without weights, balanced accuracy with
    `class_mean(classes)`.
    """
    ours, theirs = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if ours.shape != theirs.shape:
        raise ValueError(f"ours {ours.shape} and theirs {theirs.shape} must be the same seeds and images")
    if any(((one < 0) | (one > 1)).any() for one in (ours, theirs)):
        raise ValueError("outcomes are 0 or 1, or means of such, not percent")
    return effect(100 * (ours - theirs), classes, weights)


def from_seeds(differences: Sequence[float]) -> Effect:
    """One difference per seed, of what has no form per image (a silhouette, the worst class): Student's t over seeds.

    The test images' own error is not in it, and images is None.  Equal differences, other than 0, show the steps of
    the measure and no spread: they are as undecided as a single seed.
    """
    values = np.asarray(differences, dtype=float)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise ValueError(
            "differences must be finite numbers, one per seed; give `judge` None for what was not measured"
        )
    return replace(_effect(values[:, None], None), images=None)


def _effect(parts: np.ndarray, classes: np.ndarray | None) -> Effect:
    """parts: [S,N], what each image adds to its seed's value.  Without classes, images are no source of error.

    A difference without any spread, as few seeds and images may show, is as undecided as a single seed.
    """
    estimate = float(parts.sum(1).mean())
    estimate = estimate if abs(estimate) > DUST else 0.0
    spread = _spread(parts, classes)
    spread = spread.seen() if estimate else spread
    half = spread.half_width()
    return Effect(estimate, estimate - half, estimate + half, spread.p(estimate), *parts.shape, spread)


def _spread(parts: np.ndarray, classes: np.ndarray | None) -> Spread:
    seeds = len(parts)
    if seeds == 1:
        return Spread(np.inf, 1)
    between = float(parts.sum(1).var(ddof=1)) / seeds
    spread = Spread(between if between > DUST**2 else 0.0, seeds - 1)
    if classes is None:
        return spread
    names, index = np.unique(classes, return_inverse=True)
    member = (index[:, None] == np.arange(len(names))).astype(float)
    count = member.sum(0)
    if count.min() < 2:
        return spread._replace(images=np.inf)
    inside = parts - (parts @ member / count)[:, index]  # a seed's mean of the class taken out
    image = inside.mean(0)
    share = count / (count - 1) * (image**2 @ member)  # of each class in B
    if share.sum() <= DUST**2:
        return spread
    rest = count / (count - 1) * (((inside - image) ** 2).sum(0) @ member) / ((seeds - 1) * seeds)
    df = share.sum() ** 2 / (share**2 / (count - 1)).sum()  # Satterthwaite's, over classes (Cochran 1977, eq. 5.16)
    return spread._replace(images=float(share.sum()), images_df=float(df), rest=float(rest.sum()))


def class_mean(classes, chosen=None) -> np.ndarray:
    """Weights [N] of the mean of class accuracies over the chosen classes (all unless given); they sum to 1."""
    names, index, counts = np.unique(classes, return_inverse=True, return_counts=True)
    inside = np.isin(names, names if chosen is None else list(chosen))
    if not inside.any():
        raise ValueError(f"no test image is of the chosen classes {chosen}")
    return (inside / counts / inside.sum())[index]


class Right(NamedTuple):
    """What runs got right: the same seeds on the same images, of several settings with one seed the mean."""

    seeds: tuple[int, ...]
    tests: tuple[str, ...]  # fingerprints of the test sets, whose images stand side by side
    share: np.ndarray  # [S,N], 0 … 1
    test_of: np.ndarray  # [N], of each image
    classes: np.ndarray  # [N]; a class of another test set is another class
    rare: np.ndarray  # bool [N]
    met: dict[tuple[int, str], set[str]]  # (seed, test set) → `Protocol.meets`; empty where images are clean

    @classmethod
    def of(cls, runs: Iterable[Run], kind: str, protocol: Protocol) -> Right:
        """kind: "clean", or "robust", the worst case over the protocol's attacks."""
        found: dict[str, dict[int, list]] = {}
        settings: dict[int, Counter] = {}
        about, met = {}, {}
        for run in runs:
            outcomes, seed = run.outcomes(protocol), run.config.seed
            said = outcomes.of_kind(kind, protocol.union)
            found.setdefault(outcomes.test, {}).setdefault(seed, []).append(said == outcomes.labels)
            settings.setdefault(seed, Counter())[outcomes.test, _but_for_the_seed(run.config)] += 1
            if kind != "clean":
                met.setdefault((seed, outcomes.test), set()).add(protocol.meets(run.config))
            rare = np.asarray(run.rare)[outcomes.labels]
            if (about.setdefault(outcomes.test, (outcomes.labels, rare))[1] != rare).any():
                raise ValueError("the settings of one side differ in which classes are rare")
        if not found:
            raise ValueError("there is no run to measure")
        tests, seeds = tuple(sorted(found)), tuple(sorted(settings))
        if any(settings[seed] != settings[seeds[0]] for seed in seeds):
            raise ValueError("every setting of one side must have the same seeds")
        share = np.hstack([[np.mean(found[test][seed], axis=0) for seed in seeds] for test in tests])
        test_of = np.concatenate([[test] * len(about[test][0]) for test in tests])
        classes = np.concatenate([[f"{test} {label}" for label in about[test][0]] for test in tests])
        return cls(seeds, tests, share, test_of, classes, np.concatenate([about[test][1] for test in tests]), met)

    def weights(self, measure: str) -> np.ndarray:
        """What each image weighs in "overall", "balanced", "well", "under" or "gap" (well − under)."""
        if measure == "overall":
            _, index, counts = np.unique(self.test_of, return_inverse=True, return_counts=True)
            return (1 / counts / len(counts))[index]
        if measure == "balanced":
            return class_mean(self.classes)
        if measure == "gap":
            return self.weights("well") - self.weights("under")
        if measure not in ("well", "under"):
            raise ValueError(f"measure must be overall, balanced, well, under, gap or worst, not {measure!r}")
        chosen = np.unique(self.classes[self.rare == (measure == "under")])
        if not len(chosen):
            raise ValueError(f"{'no' if measure == 'under' else 'every'} class is rare; choose measure='balanced'")
        return class_mean(self.classes, chosen)


@cache
def _but_for_the_seed(config: Config) -> str:
    """Equal for runs that differ in the seed and in what training is not handed."""
    return config.replace(seed=0).fingerprint


def difference(
    ours: Iterable[Run],
    theirs: Iterable[Run],
    measure: str = "under",
    kind: str = "robust",
    protocol: Protocol = STRONG,
    *,
    against: str | None = None,
) -> Effect | None:
    """How many points ours are above theirs, with the error of seeds and of test images; None where nothing was measured.

    ours, theirs: runs of the same seeds, trained and tested on the same sets; of several settings with one seed the mean counts.
    measure: "overall", per image, test sets alike; "balanced", "well" or "under", means of class accuracies; "gap", well − under; "worst" class,
    which has no form per image: its interval holds the error of seeds alone.
    kind: "clean" or "robust", of ours; against: of theirs, the same unless given.
    """
    ours, theirs = list(ours), list(theirs)
    found = contrast([(1, ours, kind), (-1, theirs, against or kind)], measure, protocol)
    sets = [{(run.config.imbalance, run.config.classes) for run in side} for side in (ours, theirs)]
    if found and sets[0] != sets[1]:
        raise ValueError("both sides must be trained on the same imbalanced sets; leave out what one of them lacks")
    return found


def contrast(
    sides: Iterable[tuple[float, Iterable[Run], str]], measure: str = "under", protocol: Protocol = STRONG
) -> Effect | None:
    """Σ sign · accuracy over sides (sign, runs, kind), in points: a difference of two differences has four of them.

    All sides: the same seeds on the same test sets, with the same rare classes.  Else as `difference`.
    """
    sides = [(sign, list(runs), kind) for sign, runs, kind in sides]
    if not all(runs for _, runs, _ in sides):
        return None
    parts = [(sign, Right.of(runs, kind, protocol)) for sign, runs, kind in sides]
    first = parts[0][1]
    for _, part in parts:
        if (part.seeds, part.tests) != (first.seeds, first.tests) or (part.rare != first.rare).any():
            raise ValueError("all sides must have the same seeds on the same test sets, with the same rare classes")
    attacked = [part.met for _, part in parts if part.met]
    if any(met != attacked[0] for met in attacked):
        raise ValueError(
            "all sides must meet the same attacks; give a protocol whose attacks do not depend on the config"
        )
    if measure == "worst":
        return from_seeds(sum(sign * worst(runs, kind, protocol) for sign, runs, kind in sides))
    return effect(100 * sum(sign * part.share for sign, part in parts), first.classes, first.weights(measure))


def level(runs: Iterable[Run], measure: str = "under", kind: str = "robust", protocol: Protocol = STRONG) -> Effect:
    """The accuracy itself, in percent, with the same two errors; measure and kind as in `difference`."""
    runs = list(runs)
    mine = Right.of(runs, kind, protocol)
    if measure == "worst":
        return from_seeds(worst(runs, kind, protocol))
    return effect(100 * mine.share, mine.classes, mine.weights(measure))


def worst(runs: Iterable[Run], kind: str, protocol: Protocol) -> pd.Series:
    """Seed → accuracy of the worst class in percent, the mean over settings."""
    rows = [(run.config.seed, run.summary(protocol).loc[[kind], "worst"].iloc[0]) for run in runs]
    return pd.DataFrame(rows, columns=["seed", "worst"]).groupby("seed")["worst"].mean()


def above_best(effects: Iterable[Effect]) -> Effect:
    """Ours above the best of K rivals, from one Effect (ours − rival) a rival; the best is chosen on these very seeds.

    The difference to the best is the smallest of the K true differences.  "Up" says that all are positive, so each is
    tested at the full level (intersection–union; Berger, Technometrics 24, 1982).  "Down" says that some one is
    negative, which is K tries, so each is tested at level/K (Bonferroni).  The interval covers for the same reasons:
    the smallest lower end, and the smallest upper end at level/K.  The estimate, the smallest of the K, is the
    difference to the rival that looks best, and favours the rival a little.
    """
    effects = list(effects)
    if not effects:
        raise ValueError("no rival: give one Effect a rival")
    tries, nearest = len(effects), min(effects, key=lambda one: one.estimate)
    up = max(one.p / 2 if one.estimate > 0 else 1 - one.p / 2 for one in effects)
    down = tries * min(one.p / 2 if one.estimate < 0 else 1 - one.p / 2 for one in effects)
    low = min(one.low for one in effects)
    high = min(one.estimate + one.spread.half_width(LEVEL / tries) for one in effects)
    seeds = min(one.seeds for one in effects)
    # Where no rival has a second seed nothing can be decided, which `judge` sees by the spread.
    spread = None if any(one.seeds > 1 for one in effects) else nearest.spread
    return replace(nearest, low=low, high=high, p=min(1.0, 2 * up, 2 * down), seeds=seeds, spread=spread)


def holm(p: Sequence[float]) -> np.ndarray:
    """Adjusted p [m]: where all below a level are called findings, there is a false one at most that often.

    The smallest is multiplied by m, the next by m − 1, …, and none is smaller than the one before (Holm, Scandinavian
    Journal of Statistics 6, 1979).  The rows may depend on each other.
    """
    p = np.asarray(p, dtype=float)
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return adjusted.clip(max=1)


def word(found: Effect | None, p: float | None = None) -> str:
    """Up, down or undecided, by the effect's own p or an adjusted one; not measured for None."""
    if found is None:
        return "not measured"
    if (found.p if p is None else p) >= LEVEL:
        return "undecided"
    return "up" if found.estimate > 0 else "down"


def judge(claims: Mapping[str, Effect | None]) -> pd.DataFrame:
    """One row per claim: difference, low, high (each row's own 95 %), seeds, images, p after Holm, verdict.

    Holm's correction runs over all rows but those of one seed, which can decide nothing, whatever they show (p = 1).
    The verdict follows p: in a long table a row may be undecided though its own interval leaves out 0.
    """
    measured = {name: one for name, one in claims.items() if one is not None}
    decidable = {name: one for name, one in measured.items() if one.seeds > 1 or one.spread is None}
    adjusted = {name: one.p for name, one in measured.items()}
    adjusted |= dict(zip(decidable, holm([one.p for one in decidable.values()]), strict=True))
    rows = {}
    for name, one in claims.items():
        shown, p = one or Effect(*[np.nan] * 4, seeds=0), adjusted.get(name, np.nan)
        rows[name] = (shown.estimate, shown.low, shown.high, shown.seeds, shown.images, p, word(one, p))
    columns = ["difference", "low", "high", "seeds", "images", "p", "verdict"]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("claim")
    return frame.astype({"images": "Int64"})


def chance_wins(rivals: Sequence[int]) -> tuple[float, int, int]:
    """Wins against the best of k rivals if all methods were equal: how many to expect, and the ends of the middle 95 %.

    rivals: k of each comparison; a win then has probability 1/(k + 1).  The range takes comparisons as independent;
    where they share networks or images, the true one is wider.
    """
    chances = [1 / (k + 1) for k in rivals]
    up_to = np.cumsum(reduce(np.convolve, [[1 - chance, chance] for chance in chances], np.ones(1)))
    low, high = (int(np.argmax(up_to >= tail)) for tail in (LEVEL / 2, 1 - LEVEL / 2))
    return sum(chances), low, high
