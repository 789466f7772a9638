"""Runs attacks on victims and averages their scores."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from fedinv import plugins
from fedinv.attack import Attack, Claim
from fedinv.judge.matching import Match


class Target(Protocol):
    """An attacker's view of one client, and the truth behind it."""

    def attacked(self, attack: Attack) -> Claim:
        """The claim of an attack on this client."""
        ...

    def judged(self, claim: Claim) -> Match:
        """A claim judged against the true records."""
        ...


@dataclass
class Score:
    """The scores of one attack on several targets, one entry a target."""

    fields: list[float] = field(default_factory=list)
    """Share of fields that are right."""
    recovered: list[float] = field(default_factory=list)
    """Share of records with every field right."""
    exact: list[float] = field(default_factory=list)
    """Share of records that are exact."""
    seconds: list[float] = field(default_factory=list)
    """CPU seconds of the attack."""

    def add(self, found: Match, seconds: float = 0.0) -> None:
        """Add the scores of one target."""
        self.fields.append(float(found.right.mean()))
        self.recovered.append(float(found.recovered.mean()))
        self.exact.append(float(found.exact.mean()))
        self.seconds.append(seconds)

    def line(self, name: str) -> str:
        """One line: means over the targets, the least share of records recovered, and CPU seconds."""
        return (
            f"{name:40} fields {np.mean(self.fields):5.3f}  recovered {np.mean(self.recovered):5.3f} "
            f"(worst {min(self.recovered):5.3f})  exact {np.mean(self.exact):5.3f}  "
            f"CPU {np.mean(self.seconds):6.2f} s (longest {max(self.seconds):.2f})"
        )


def build(kind: str, **keys: object) -> Attack:
    """A built-in attack with these settings."""
    attack = plugins.load("attacks", kind)(kind=kind, **keys)
    assert isinstance(attack, Attack)
    return attack


def attacked(attack: Attack, targets: Iterable[Target]) -> Score:
    """Attack each target and judge the claims."""
    score = Score()
    for target in targets:
        begun = time.process_time()
        claim = target.attacked(attack)
        seconds = time.process_time() - begun
        score.add(target.judged(claim), seconds)
    return score
