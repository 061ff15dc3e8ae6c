"""What the paper claims, section by section, each as a difference that our runs can show."""

from __future__ import annotations

from itertools import product

from . import studies
from .evidence import (
    EXTREME,
    PAIRS,
    Claim,
    above_all,
    between,
    given_up,
    mean_of,
    more_than,
    of_features,
    of_level,
    where_smaller_ratios_are,
)  # fmt: skip
from .studies import SRAT

RIVALS = {
    "CE": ("CE", "CB-Reweight", "DRCB-CE"),
    "Focal": ("Focal", "CB-Focal", "DRCB-Focal"),
    "LDAM": ("LDAM", "DRCB-LDAM"),
}
LOSSES = tuple(RIVALS)
SETS = {  # as a claim names them → as `Stage.configs` does
    "Step, smaller ratio": "step, smaller", "Step, larger ratio": "step",
    "Exp, smaller ratio": "exp, smaller", "Exp, larger ratio": "exp",
}  # fmt: skip


def section_2_1() -> list[Claim]:
    natural, adversarial = {"method": "CE", "adversarial": False}, {"method": "CE"}
    gap = "adversarial training produces larger performance gap than natural training"
    claims = [
        Claim("2.1, A.1", gap, f"clean gap well − rare, adversarial − natural, {name}", "01",
              between(adversarial | {"imbalance": sets}, natural | {"imbalance": sets}, "gap", "clean"), clean=True)
        for name, sets in SETS.items()
    ]  # fmt: skip
    claims += [
        Claim("2.1", "[adversarial training] suffers more on under-represented classes",
              "rare classes' clean accuracy, natural − adversarial", "01",
              between(natural, adversarial, "under", "clean"), clean=True),
        Claim("2.1", "3 out of the 5 under-represented classes with 0% standard accuracy",
              "number of rare classes at 0 % clean, minus 3, Step, larger ratio", "01",
              given_up(adversarial | {"imbalance": "step"}, "clean", 3), "no change", clean=True),
        Claim("2.1", "3 out of the 5 under-represented classes with 0% robust accuracy",
              "number of rare classes at 0 % robust, minus 3, Step, larger ratio", "01",
              given_up(adversarial | {"imbalance": "step"}, "robust", 3), "no change"),
    ]  # fmt: skip
    claims += [
        Claim("A.1", "in all imbalanced scenarios very low robust accuracy on under-represented classes",
              f"10 % (guessing) − rare classes' robust accuracy, {name}", "01",
              of_level(adversarial | {"imbalance": sets}, 10, "under", "robust"))
        for name, sets in SETS.items()
    ]  # fmt: skip
    return claims


def section_2_2() -> list[Claim]:
    def pair(ratio, adversarial=True):
        return {"imbalance": "step", "classes": PAIRS, "method": "CB-Reweight", "weight_ratio": ratio,
                "adversarial": adversarial}  # fmt: skip

    low, high = studies.PAIR_RATIOS[0], studies.PAIR_RATIOS[-1]
    rise, drop = (pair(high), pair(low)), (pair(low), pair(high))
    natural = (pair(low, False), pair(high, False))
    claims = []
    for kind in ("clean", "robust"):
        words = "standard" if kind == "clean" else "robust"
        claims += [
            Claim("2.2", f"the under-represented class's {words} accuracy can be improved drastically",
                  f"rare class, {kind}, ρ = {high:g} − ρ = {low:g}", "02",
                  between(*rise, "under", kind), clean=kind == "clean"),
            Claim("2.2", f"… immensely decreasing the performance of the well-represented class ({words})",
                  f"frequent class, {kind}, ρ = {low:g} − ρ = {high:g}", "02",
                  between(*drop, "well", kind), clean=kind == "clean"),
        ]  # fmt: skip
    claims += [
        Claim("2.2", "for naturally trained models, increasing the weights will only slightly decrease the well-represented class",
              f"frequent class, clean, natural training, ρ = {low:g} − ρ = {high:g}", "02",
              between(*natural, "well", "clean"), "no change", clean=True),
        Claim("2.2", "… adversarial training decreases it more: standard accuracy on both sides",
              "loss of the frequent class, clean, adversarial − natural", "02",
              more_than((*drop, "clean"), (*natural, "clean"), "well"), clean=True),
        Claim("2.2", "… adversarial training decreases it more: robust accuracy there, standard accuracy here",
              "loss of the frequent class, robust, adversarial − clean, natural", "02",
              more_than((*drop, "robust"), (*natural, "clean"), "well")),
    ]  # fmt: skip
    claims += [
        Claim("2.2", "reweighting can hardly help improve the overall performance no matter which weight ratio",
              f"mean of both classes, {kind}, ρ = {high:g} − ρ = {low:g}", "02",
              between(*rise, "balanced", kind), "no change", clean=kind == "clean")
        for kind in ("clean", "robust")
    ]  # fmt: skip
    return claims


def section_3() -> list[Claim]:
    natural, adversarial = ({"imbalance": "step", "method": "CE", "adversarial": one} for one in (False, True))
    pair = {"imbalance": "step", "classes": PAIRS, "method": "CB-Reweight", "weight_ratio": studies.PAIR_RATIOS[0]}
    claims = [
        Claim("3, Figure 3", "adversarially trained models present poorer separability on the learned features",
              f"{measure.replace('_', ' ')}, ten classes, {images} test images, natural − adversarial", "03",
              of_features(natural, adversarial, measure, (images, images)), clean=True)
        for images in ("clean", "attacked")
        for measure in ("variance_ratio", "silhouette", "probe_accuracy")
    ]  # fmt: skip
    claims += [
        Claim("3, Figure 3", "adversarially trained models present poorer separability on the learned features",
              f"t, pairs of classes, {images} test images, natural − adversarial", "04",
              of_features(pair | {"adversarial": False}, pair, "t", (images, images)), clean=True)
        for images in ("clean", "attacked")
    ]  # fmt: skip
    return claims


def section_4_3() -> list[Claim]:
    claims = []
    for kind in ("clean", "robust"):
        clean = kind == "clean"
        claims += [
            Claim("4.3", "deferred reweighting: weights that come late help", f"DRCB-CE − CE, rare classes, {kind}", "05",
                  between({"method": "DRCB-CE"}, {"method": "CE"}, "under", kind), clean=clean),
            Claim("4.3", "… and more than weights from the start", f"DRCB-CE − CB-Reweight, rare classes, {kind}", "07",
                  between({"method": "DRCB-CE"}, {"method": "CB-Reweight"}, "under", kind), clean=clean),
            Claim("4.3", "… and more than weights from the start", f"DRCB-CE − CB-Reweight, overall, {kind}", "07",
                  between({"method": "DRCB-CE"}, {"method": "CB-Reweight"}, "overall", kind), clean=clean),
        ]  # fmt: skip
    for times, at in ((1, 0.5), (2, 0.8), (2, 0.5)):
        late = {"imbalance": "step", "method": "DRCB-CE", "times": times, "reweight_at": at}
        early = {"imbalance": "step", "method": "CB-Reweight", "times": times}
        claims += [
            Claim("4.3", "… and more than weights from the start",
                  f"DRCB-CE − CB-Reweight, rare classes, {kind}, Step, larger ratio, {times} × the epochs, T_d = {at}", "07",
                  between(late, early, "under", kind), clean=kind == "clean")
            for kind in ("clean", "robust")
        ]  # fmt: skip
    return claims


def section_5_2() -> list[Claim]:
    claims = []
    measures = [(measure, kind) for measure in ("overall", "under") for kind in ("clean", "robust")]
    said = {"overall": "overall", "under": "rare classes"}
    for loss, (measure, kind) in product(LOSSES, measures):
        claims.append(
            Claim("5.2", "compared to baseline methods, SRAT obtains improved performance",
                  f"SRAT-{loss} − DRCB-{loss}, {said[measure]}, {kind}", "05",
                  between({"method": f"SRAT-{loss}"}, {"method": f"DRCB-{loss}"}, measure, kind), clean=kind == "clean")
        )  # fmt: skip
    for loss, (measure, kind) in product(LOSSES, measures):
        claims.append(
            Claim("5.2", "… under almost all imbalanced settings",
                  f"SRAT-{loss} − the best other {loss} method, {said[measure]}, {kind}", "06",
                  above_all({"method": f"SRAT-{loss}"}, [{"method": name} for name in RIVALS[loss]], measure, kind),
                  clean=kind == "clean")
        )  # fmt: skip
    for kind in ("clean", "robust"):
        twins = [({"method": f"SRAT-{loss}"}, {"method": f"DRCB-{loss}"}) for loss in LOSSES]
        larger = [(1 / 3, ours | {"imbalance": EXTREME}, theirs | {"imbalance": EXTREME}) for ours, theirs in twins]
        every = [(-1 / 3, ours, theirs) for ours, theirs in twins]
        claims.append(
            Claim("5.2", "… especially under the extremely imbalanced setting",
                  f"SRAT − DRCB, rare classes, {kind}, at the larger ratio − over all sets", "06",
                  where_smaller_ratios_are(mean_of(larger + every, "under", kind)), clean=kind == "clean")
        )  # fmt: skip
    for other, (measure, kind) in product(("CE", "Focal"), measures):
        claims += [
            Claim("5.2", f"{family}-LDAM outperforms {family}-{other}",
                  f"{family}-LDAM − {family}-{other}, {said[measure]}, {kind}", "06",
                  between({"method": f"{family}-LDAM"}, {"method": f"{family}-{other}"}, measure, kind), clean=kind == "clean")
            for family in ("DRCB", "SRAT")
        ]  # fmt: skip
    for other, kind in product(("CE", "Focal"), ("clean", "robust")):
        ours = ({"method": f"SRAT-{other}"}, {"method": f"DRCB-{other}"}, kind)
        ldam = ({"method": "SRAT-LDAM"}, {"method": "DRCB-LDAM"}, kind)
        claims.append(
            Claim("A.6", "the improvement is more obvious with CE and Focal than with LDAM",
                  f"(SRAT − DRCB with {other}) − (with LDAM), rare classes, {kind}", "06",
                  more_than(ours, ldam, "under"), clean=kind == "clean")
        )  # fmt: skip
    return claims


def section_5_3() -> list[Claim]:
    step = {"imbalance": "step"}
    claims = [
        Claim("5.3, Figure 4", "the feature space learned by SRAT-LDAM is more separable",
              f"{measure.replace('_', ' ')}, attacked test images, SRAT-LDAM − {other}", "07",
              of_features(step | {"method": "SRAT-LDAM"}, step | {"method": other}, measure, ("attacked", "attacked")),
              clean=True)
        for other in ("CE", "DRCB-LDAM")
        for measure in ("variance_ratio", "silhouette", "probe_accuracy")
    ]  # fmt: skip
    low, high = studies.RATIOS[0], studies.RATIOS[-1]
    for method in SRAT:
        heavy, light = (step | {"method": method, "weight_ratio": ratio} for ratio in (high, low))
        flat = method == "SRAT-LDAM"
        (ours, x), (theirs, y) = ((heavy, high), (light, low)) if flat else ((light, low), (heavy, high))
        claims += [
            Claim("5.3, Figure 5", "standard accuracy is increased with the increase of the weights",
                  f"{method}, overall, clean, weight {high:g} − {low:g}", "07",
                  between(heavy, light, "overall", "clean"), clean=True),
            Claim("5.3, Figure 5",
                  "robust accuracy of SRAT-LDAM is almost unchanged" if flat else "robust accuracy even has slight decrease",
                  f"{method}, overall, robust, weight {x:g} − {y:g}", "07",
                  between(ours, theirs, "overall", "robust"), "no change" if flat else "up"),
        ]  # fmt: skip
    for kind, sets, method in product(("clean", "robust"), ("step", "exp"), SRAT):
        at = {value: {"imbalance": sets, "method": method, "separation_weight": value} for value in studies.LAMBDAS}
        small, one, four, eight = at[0.3], at[1.0], at[4.0], at[8.0]
        name = sets.capitalize()
        claims += [
            Claim("5.3, Figure 6", "not very sensitive to the choice of λ", f"{method}, rare classes, {kind}, {name}, λ = 1 − λ = 0.3",
                  "07", between(one, small, "under", kind), "no change", clean=kind == "clean"),
            Claim("5.3, Figure 6", "a large value of λ, such as 8, may hurt", f"{method}, overall, {kind}, {name}, λ = 4 − λ = 8",
                  "07", between(four, eight, "overall", kind), clean=kind == "clean"),
        ]  # fmt: skip
    return claims


def every_claim() -> list[Claim]:
    """In the paper's order."""
    sections = (section_2_1, section_2_2, section_3, section_4_3, section_5_2, section_5_3)
    return [claim for section in sections for claim in section()]
