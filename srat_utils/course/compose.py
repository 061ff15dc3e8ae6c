"""What is best for rare classes when the pieces of this course are put together, chosen on validation images of one set.

python -m srat_utils.course.compose          trains 54 networks, resumable, and writes results/digits/composed.csv

1. Step-25, a fifth of each class held out before the imbalance; no test image is read.  The seeds are not those of the studies.
2. Compared are six rows of notebooks 06 and 09 (RIVALS) and COMPOSED: margins, a prior that the attack in training sees or not,
   weights, consistency, positives from a queue, AWP, in twos and threes.
3. The value is the rare classes' accuracy under STRONG, the mean over seeds.  The best of COMPOSED is a method of its own,
   whether it beats the others here or not; the other sets and the test images say what it is worth.
"""

from __future__ import annotations

import argparse

from ..config import Config
from ..evaluation import STRONG
from ..methods import METHODS, Method
from ..selection import select
from ..store import write
from ..terms import LDAM, AdjustedLDAM, Consistency, LogitAdjusted, QueuedSeparation, RoBal
from ..updates import AWP
from ..weights import Deferred
from . import results

SEEDS = (100, 101, 102)
BY = "robust under"
RIVALS = ("DRCB-LDAM", "SRAT-LDAM", "AT-BSL", "AT-BSL-Both", "RoBal-N", "AT-BSL-AWP")
SEEN = "method"  # the attack in training climbs the first term's own loss, the prior in it
COMPOSED = {
    method.name: method
    for method in (
        Method("margins, prior", (AdjustedLDAM(),)),
        Method("margins, prior seen", (AdjustedLDAM(),), inner=SEEN),
        Method("margins, prior seen, queue", (AdjustedLDAM(), QueuedSeparation()), inner=SEEN),
        Method("margins, prior seen, AWP", (AdjustedLDAM(),), inner=SEEN, update=AWP(awp_gamma=0.01)),
        METHODS["CB-LDAM"],
        Method("margins, late weights, queue", (LDAM(), QueuedSeparation()), Deferred()),
        Method("equal margins, prior seen", (RoBal(),), inner=SEEN),
        Method("RoBal-N, prior seen", (RoBal(), Consistency(kl_temperature=10.0)), inner=SEEN),
        Method("prior seen, queue", (LogitAdjusted(), QueuedSeparation()), inner=SEEN),
        Method("prior seen, consistency", (LogitAdjusted(), Consistency()), inner=SEEN),
    )
}


def candidates() -> list[Config]:
    """Every rival and every composition, the second also with a gentler head and with averaged weights, seed by seed.

    METHODS must have COMPOSED, so that Config knows them.
    """
    base = Config("digits", imbalance="step-25", validation=0.2)
    seen = base.replace(method="margins, prior seen")
    listed = [base.replace(method=name) for name in (*RIVALS, *COMPOSED)]
    listed += [seen.replace(ldam_scale=10.0), seen.replace(averaging=0.99)]
    return [config.replace(seed=seed) for seed in SEEDS for config in listed]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m srat_utils.course.compose", description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, help="processes at a time; one per core unless given")
    asked = parser.parse_args(arguments)
    METHODS.update(COMPOSED)
    target = results.FOLDER / "digits" / "composed.csv"
    target.parent.mkdir(parents=True, exist_ok=True)
    rows = select(candidates(), BY, STRONG, jobs=asked.jobs)
    write(target, lambda path: rows.to_csv(path, float_format="%.4g"))
    print(rows.round(1).to_string())


if __name__ == "__main__":
    main()
