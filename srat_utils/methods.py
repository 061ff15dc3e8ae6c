"""A method is a row: terms that are minimised, when classes are weighted, what the adversary climbs, how the weights move."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from .batches import SAMPLERS
from .budgets import Difficulty, Rarity
from .inner import INNER
from .records import ConfigError, Record
from .terms import (
    CE,
    HARL,
    LDAM,
    CentredSeparation,
    Consistency,
    Focal,
    LogitAdjusted,
    Prediction,
    QueuedSeparation,
    RoBal,
    Separation,
)
from .updates import AWP, Plain
from .weights import Always, Deferred


@dataclass(frozen=True)
class Method:
    """terms: records of `terms`, the first a Prediction.  weighting: None, `Always` or `Deferred` (T_d of Algorithm 1).

    inner: a key of `inner.INNER`.  update: a record of `updates`.  sampler: a key of `batches.SAMPLERS`.  budget: None for one
    ε, or a record of `budgets`.  A setting of any of these records is a setting of Config.
    """

    name: str
    terms: tuple[Record, ...]
    weighting: Always | None = None
    inner: str = "cross-entropy"
    update: Record = field(default_factory=Plain)
    sampler: str = "shuffled"
    budget: Record | None = None

    def __post_init__(self):
        if not (self.terms and isinstance(self.terms[0], Prediction)):
            raise ConfigError(f"method {self.name!r}: the first term must be a prediction loss, such as CE()")
        if len({term.name for term in self.terms}) < len(self.terms):
            raise ConfigError(
                f"method {self.name!r}: two of its terms have one name, which is their column in the history"
            )
        for what, chosen, known in (("inner", self.inner, INNER), ("sampler", self.sampler, SAMPLERS)):
            if chosen not in known:
                raise ConfigError(f"method {self.name!r}: {what} must be one of {', '.join(known)}, not {chosen!r}")

    @property
    def loss(self) -> str:
        """The name of the prediction loss: methods that share it are compared with each other."""
        return type(self.terms[0]).__name__

    def records(self) -> Iterator[Record]:
        yield from self.terms
        if self.weighting is not None:
            yield self.weighting
        yield self.update
        if self.budget is not None:
            yield self.budget

    def having(self, settings: dict[str, object]) -> Method:
        """The method with these settings in place of its records' own; others' settings are passed over."""
        weighting, budget = (own and own.having(settings) for own in (self.weighting, self.budget))
        terms = tuple(term.having(settings) for term in self.terms)
        return replace(self, terms=terms, weighting=weighting, update=self.update.having(settings), budget=budget)


ELEVEN = {  # the rows of the paper's Tables 1–4
    method.name: method
    for method in (
        Method("CE", (CE(),)),
        Method("Focal", (Focal(),)),
        Method("LDAM", (LDAM(),)),
        Method("CB-Reweight", (CE(),), Always()),
        Method("CB-Focal", (Focal(),), Always()),
        Method("DRCB-CE", (CE(),), Deferred()),
        Method("DRCB-Focal", (Focal(),), Deferred()),
        Method("DRCB-LDAM", (LDAM(),), Deferred()),
        Method("SRAT-CE", (CE(), Separation()), Deferred()),
        Method("SRAT-Focal", (Focal(), Separation()), Deferred()),
        Method("SRAT-LDAM", (LDAM(), Separation()), Deferred()),
    )
}
LATER = {  # what is compared with them: most of it came after the paper
    method.name: method
    for method in (
        # Balanced softmax; its attack climbs cross-entropy, which knows no prior (Yue et al., 2024).
        Method("AT-BSL", (LogitAdjusted(),)),
        # The prior in loss and attack is training CE from a bias of ln π: the twin of CE under `Protocol.adjusted`.
        Method("AT-BSL-Both", (LogitAdjusted(),), inner="method"),
        Method("TRADES", (CE(view="clean"), Consistency()), inner="clean output"),
        Method("TRADES-BSL", (LogitAdjusted(view="clean"), Consistency()), inner="clean output"),
        # RoBal for natural accuracy, read off under `Protocol.adjusted(0.1)`, and RoBal for robustness.
        Method("RoBal-N", (RoBal(), Consistency(kl_temperature=10.0))),
        Method("RoBal-R", (RoBal(tau=1.5, robal_slope=0.3), Consistency(kl_temperature=10.0))),
        # As many images of each class in a batch, which needs no class weights beside it.
        Method("CE-Balanced", (CE(),), sampler="class-balanced"),
        # SRAT whose rare anchors find a positive.
        Method("SRAT-CE-Balanced", (CE(), Separation()), sampler="class-balanced"),
        Method("SRAT-CE-Queue", (CE(), QueuedSeparation()), Deferred()),
        Method("SRAT-CE-Centres", (CE(), CentredSeparation()), Deferred()),
        Method("AWP", (CE(),), update=AWP(awp_gamma=0.01)),
        # RobustLT gives rare classes the larger ε, DAFA hard ones.
        Method("RobustLT", (LogitAdjusted(),), budget=Rarity()),
        Method("DAFA", (CE(view="clean"), Consistency()), inner="clean output", budget=Difficulty()),
        Method("TAET", (HARL(),)),
        # What the paper's tables leave out between CB-Focal and DRCB-LDAM; found by `course.compose`.
        Method("CB-LDAM", (LDAM(),), Always()),
        Method("AT-BSL-AWP", (LogitAdjusted(),), update=AWP(awp_gamma=0.01)),
    )
}
METHODS = ELEVEN | LATER  # what Config knows
