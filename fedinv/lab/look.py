"""Runs the scenario that was chosen and gathers what the page shows of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fedinv import plugins
from fedinv.judge.truth import forget_files
from fedinv.lab.update_picture import UpdatePicture, update_picture
from fedinv.privacy.claims import rough_epsilon
from fedinv.privacy.events import PrivacyEvent
from fedinv.privacy.ledger import Ledger
from fedinv.report.plots.pictures import Picture, drawn, pictures
from fedinv.report.reading import CARDS, Card, cards, labels, read_run
from fedinv.results.run import AttackResult, FederationResult, InferenceResult, Privacy, Rate, Results, Utility
from fedinv.results.wording import hits, percent
from fedinv.runs import run as runs
from fedinv.runs.attack_runner import ProgressBars
from fedinv.scenario.scenario import Scenario
from fedinv.storage import observations
from fedinv.storage.checkpoints import read_charges
from fedinv.storage.run_folder import RunFolder

POINTS = 8
"""Rounds, at most, at which the epsilon so far is computed."""


@dataclass(frozen=True)
class Line:
    """One attack's outcome."""

    attack: str
    """Kind, variant and target of the attack."""
    says: str
    """Outcome in words, with the counts."""
    guess: str
    """What a guess without the update finds."""
    above: float
    """Share, 0 to 1, of what a guesser gets wrong and the attack right."""


@dataclass(frozen=True)
class Look:
    """Everything that the page shows of one setting."""

    folder: Path
    """Folder of the run."""
    headline: str
    """The verdict in a sentence."""
    cards: tuple[Card, ...]
    """Up to three people beside their reconstructions; empty for images."""
    pictures: tuple[Picture, ...]
    """Up to three images beside their reconstructions; empty for tables."""
    faces: tuple[tuple[str, str, str], ...]
    """Up to three images that the trained model gives away: caption, the true one and the claimed one, PNG, base64."""
    seen: UpdatePicture | None
    """One update as the server received it; None where it watched nobody."""
    lines: tuple[Line, ...]
    """Each attack's outcome."""
    utility: Utility
    """How good the trained model is, and how good without the defense."""
    privacy: Privacy
    """The guarantee over all rounds."""
    epsilons: tuple[tuple[int, float], ...]
    """Rounds, counted from 1, and the epsilon up to each; empty without a guarantee."""
    warnings: tuple[str, ...]
    """Defenses without a guarantee that no attack of the page has an answer to, each with the attacks that have one;
    replies that did not count."""
    notes: tuple[str, ...]
    """Remarks of the run and of its attacks, each once."""


def look(scenario: Scenario, folder: Path, bars: ProgressBars) -> Look:
    """Train, attack and judge a scenario in a new folder. Raises RequestError and RunError as `fedinv.run` does."""
    forget_files(scenario.data)
    runs.check(scenario, "inline")
    place = runs.open_folder(scenario, folder)
    results = runs.run(scenario, place, "inline", bars, page=False)
    return gathered(place, results)


def gathered(folder: Path, results: Results) -> Look:
    """What the page shows of a finished run. Raises RunError naming a file that is damaged."""
    read = read_run(folder, results)
    seen = observations.read(RunFolder(folder).observations)
    ledger = read_charges(RunFolder(folder).ledger).clients
    return Look(
        folder=folder,
        headline=results.headline,
        cards=cards(read),
        pictures=pictures(read)[:CARDS],
        faces=_faces(results),
        seen=update_picture(seen[-1]) if seen else None,
        lines=tuple(lines(results)),
        utility=results.utility,
        privacy=results.privacy,
        epsilons=epsilons(ledger, read.scenario.federation.rounds, results.privacy.epsilon),
        warnings=(*warnings(read.scenario, results.privacy), *left_out(results.federation)),
        notes=_notes(results),
    )


def warnings(scenario: Scenario, privacy: Privacy) -> tuple[str, ...]:
    """A sentence for each defense that was attacked by nobody who has an answer to it, and gives no guarantee.

    That nothing was read then says nothing of the defense.
    """
    if privacy.epsilon is not None:
        return ()
    said = []
    for defense in scenario.defenses:
        if defense.secure_aggregation or any(attack.answers(defense.kind) for attack in scenario.attacks):
            continue  # sums are attacked as they are
        able = [kind for kind, one in plugins.loaded("attacks").items() if defense.kind in one.adapts_to]
        ask = f"{', '.join(able)} {'has' if len(able) == 1 else 'have'}" if able else "none that is built in has"
        said.append(
            f"No attack on this page has an answer to {defense.kind}; {ask}. What is not read here others may read: "
            "fedinv compare runs them all."
        )
    return tuple(said)


def left_out(federation: FederationResult) -> tuple[str, ...]:
    """A sentence where replies did not count, which attacks then did not see, and the reason of the first of them."""
    if not federation.left_out:
        return ()
    first, count = federation.left_out[0], len(federation.left_out)
    others = "" if count == 1 else f" ({count} replies in all)"
    return (
        f"Client {first.client} does not count in round {first.round}: {first.reason}{others}. A sum that did not come "
        "about is attacked by nobody.",
    )


def lines(results: Results) -> list[Line]:
    """A line for each attack, those that rebuild records first."""
    found = [
        Line(
            label,
            f"{_counted(one.recovered)} records in full, {percent(one.field_accuracy.value or 0.0)} of the fields",
            f"{percent(one.recovered.prior or 0.0)} in full, {percent(one.field_accuracy.prior or 0.0)} of the fields",
            _above(one.field_accuracy),
        )
        for label, one in zip(labels(results.attacks), results.attacks, strict=True)
    ]
    for label, asked in zip(labels(results.inferences), results.inferences, strict=True):
        first = asked.measures[0] if asked.measures else None
        guess = "" if first is None or first.prior is None or not first.share else percent(first.prior)
        above = 0.0
        if first is not None and first.share and first.value is not None and first.prior is not None:
            above = max(0.0, (first.value - first.prior) / (1 - first.prior)) if first.prior < 1 else 0.0
        found.append(Line(label, asked.says, guess, above))
    return found


def epsilons(charges: Mapping[str, Ledger], rounds: int, last: float | None) -> tuple[tuple[int, float], ...]:
    """The epsilon after some rounds up to the last, of the client that spent most; empty without a guarantee.

    Every round is charged the same. Upper bounds on the quick grid, and `last`, that of all rounds, where it is lower.
    """
    if last is None:
        return ()
    at = sorted({max(1, round(rounds * step / POINTS)) for step in range(1, POINTS + 1)})
    distinct = dict.fromkeys(charges.values())
    found = []
    for number in at[:-1]:
        spent = [_spent(ledger, number, rounds) for ledger in distinct]
        found.append((number, min(last, max(spent, default=last))))
    return (*found, (at[-1], last))


def _spent(ledger: Ledger, number: int, rounds: int) -> float:
    """The least epsilon of a ledger's mechanisms after the share `number` of `rounds` rounds."""
    by_mechanism: dict[str, list[PrivacyEvent]] = {}
    for event in ledger:
        steps = math.ceil(event.steps * number / rounds)
        by_mechanism.setdefault(event.mechanism, []).append(replace(event, steps=steps))
    return min((rough_epsilon(events) for events in by_mechanism.values()), default=math.inf)


def _counted(rate: Rate) -> str:
    return f"{hits(rate)} of {rate.count}"


def _above(rate: Rate) -> float:
    if rate.numbers is None:
        return 0.0
    value, _, prior = rate.numbers
    return 0.0 if prior >= 1 else max(0.0, (value - prior) / (1 - prior))


def _faces(results: Results) -> tuple[tuple[str, str, str], ...]:
    pairs = [pair for one in results.inferences for exhibit in one.exhibits for pair in exhibit.images]
    return tuple((pair.caption, *drawn(pair)) for pair in pairs[:CARDS])


def _notes(results: Results) -> tuple[str, ...]:
    judged: list[AttackResult | InferenceResult] = [*results.attacks, *results.inferences]
    said = [note for one in judged for note in one.notes]
    return tuple(dict.fromkeys([*results.notes, *said]))
