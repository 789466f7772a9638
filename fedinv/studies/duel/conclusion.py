"""What follows from the runs of a duel: shares flagged, records recovered, what is left past the best combination."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from fedinv.results.duel import COMBINED, Alarms, Combination, Duel, Evasion, Member, Opponent, Seen
from fedinv.results.run import AttackResult, InferenceResult, Measure
from fedinv.results.wording import hits
from fedinv.studies.duel import detection
from fedinv.studies.duel.advice import advice
from fedinv.studies.duel.cells import Found, scores_of
from fedinv.studies.duel.detection import Honest, Panel, Scores
from fedinv.studies.seed_pooling import recovered_over_seeds

if TYPE_CHECKING:
    from fedinv.studies.duel.duel import Key, Plan

RATES = (0.01, 0.001)
"""False-alarm rates that are stated, the first of which is that of adaptive deviations."""
HONEST = {"strength": 0.0}
"""Settings of a deviation that sends the model itself."""


def panels(plan: "Plan", found: Mapping["Key", Found]) -> list[Panel | None]:
    """The best combination of detectors at each of RATES, by the seeds that set thresholds.

    A deviation counts twice that was also carried out in the clients' first round.
    """
    honest, crafted = _sides(plan, found, plan.threshold_seeds)
    for key, one in found.items():
        if key.deviation in crafted and key.how and key.seed in plan.threshold_seeds:
            name = f"{key.deviation}, {key.how}"
            scores = scores_of([one], len(plan.detectors))
            crafted[name] = np.concatenate([crafted[name], scores]) if name in crafted else scores
    return [detection.best_panel(honest, crafted, rate) for rate in RATES]


def _sides(plan: "Plan", found: Mapping["Key", Found], seeds: Sequence[int]) -> tuple[Honest, dict[str, Scores]]:
    """The scores of honest messages of some seeds, and those of each deviation as it is that was tried with them."""
    width, crafted = len(plan.detectors), dict[str, Scores]()
    for one in plan.contestants:
        mine = [result for key, result in found.items() if key.deviation == one.name and not key.how]
        if mine:
            some = [found[key] for key in found if (key.deviation, key.how) == (one.name, "") and key.seed in seeds]
            crafted[one.name] = scores_of(some, width)
    honest = {key.seed: found[key] for key in found if not key.deviation and key.seed in seeds}
    return _honest(honest, [type(one).highest for one in plan.detectors]), crafted


def concluded(
    plan: "Plan", found: Mapping["Key", Found], refused: Mapping["Key", str], panels: Sequence[Panel | None]
) -> Duel:
    """All conclusions from what each run found, why some did not run, and the best combination at each of RATES."""
    width = len(plan.detectors)
    (setting, _), (reported, crafted) = (_sides(plan, found, side) for side in (plan.threshold_seeds, plan.seeds))
    plain: dict[str, list[Found]] = {}
    for key, one in found.items():
        if key.deviation and not key.how and key.seed in plan.seeds:
            plain.setdefault(key.deviation, []).append(one)
    plain = {name: plain[name] for name in crafted if name in plain}
    kinds = [one.kind for one in plan.detectors]
    alone = [[detection.panel([at], setting, rate) for rate in RATES] for at in range(width)]
    seen = [
        _seen(kind, name, crafted[name], panels_, detection.auc(crafted[name][:, at], reported.scores[:, at]))
        for name in plain
        for at, (kind, panels_) in enumerate(zip(kinds, alone, strict=True))
    ]
    seen += [_seen(COMBINED, name, crafted[name], panels, None) for name in plain]
    alarms = [
        _alarms(kind, reported.scores, panels_)
        for kind, panels_ in zip([*kinds, COMBINED], [*alone, panels], strict=True)
    ]
    opponents = [_opponent(plan, name, results, len(crafted[name])) for name, results in plain.items()]
    evasions = _evasions(plan, found, panels[0], width)
    rounds = plan.scenario.federation.rounds
    duel = Duel(
        scenario=plan.scenario.name,
        threshold_seeds=plan.threshold_seeds,
        seeds=plan.seeds,
        honest=(len(setting.scores), len(reported.scores)),
        models=(rounds * len(plan.threshold_seeds), rounds * len(plan.seeds)),
        detectors=kinds,
        deviations=list(plain),
        seen=seen,
        alarms=alarms,
        combinations=[
            Combination(rate=rate, members=_members(one, kinds))
            for rate, one in zip(RATES, panels, strict=True)
            if one is not None
        ],
        opponents=opponents,
        evasions=evasions,
        not_tried=_not_tried(plan, plain, refused),
        failed={
            f"{key.deviation}, {key.how}, seed {key.seed}": why
            for key, why in refused.items()
            if key.how and key.deviation in plain
        },
        recommendation="",
    )
    return duel.model_copy(update={"recommendation": advice(duel)})


def _honest(found: Mapping[int, Found], highest: Sequence[float]) -> Honest:
    """The scores of an honest server's messages in the trainings of these seeds."""
    each = [len(one.scores) for one in found.values()]
    trainings = np.repeat(np.array([*found], np.int64), each)
    return Honest(scores_of([*found.values()], len(highest)), trainings, tuple(highest))


def _members(panel: Panel, kinds: Sequence[str]) -> list[Member]:
    pairs = zip(panel.members, panel.thresholds, strict=True)
    return [Member(detector=kinds[at], threshold=threshold) for at, threshold in pairs]


def _seen(detector: str, deviation: str, scores: Scores, panels: Sequence[Panel | None], auc: float | None) -> Seen:
    at_1, at_01 = (None if one is None else detection.share(one.flags(scores)) for one in panels)
    return Seen(detector=detector, deviation=deviation, at_1=at_1, at_01=at_01, auc=auc)


def _alarms(detector: str, honest: Scores, panels: Sequence[Panel | None]) -> Alarms:
    at_1, at_01 = (None if one is None else detection.share(one.flags(honest)) for one in panels)
    single = [None if one is None or detector == COMBINED else one.thresholds[0] for one in panels]
    return Alarms(detector=detector, threshold_1=single[0], threshold_01=single[1], at_1=at_1, at_01=at_01)


def _opponent(plan: "Plan", name: str, found: Sequence[Found], messages: int) -> Opponent:
    records = [one.records for one in found if one.records is not None]
    answers = [one.answer for one in found if one.answer is not None]
    judged: list[AttackResult | InferenceResult] = [*records, *answers]
    measures = [one.measures[0] for one in answers if one.measures]
    return Opponent(
        deviation=name,
        seeds=[seed for seed, _ in plan.tried_with(plan.seeds)][: len(found)],
        messages=messages,
        recovered=recovered_over_seeds(records) if records else None,
        measure=_mean(measures) if measures else None,
        seconds=fmean(one.seconds for one in judged) if judged else 0.0,
        notes=list(dict.fromkeys(note for one in judged for note in one.notes)),
    )


def _mean(measures: Sequence[Measure]) -> Measure:
    """A measure over several seeds: the means of its value and its prior, with the widest interval."""
    known = [one.numbers for one in measures if one.numbers is not None]
    count = sum(one.count for one in measures)
    if not known:
        return measures[0]
    low, high = min(ci95[0] for _, ci95, _ in known), max(ci95[1] for _, ci95, _ in known)
    changed = {"value": fmean(value for value, _, _ in known), "prior": fmean(prior for _, _, prior in known)}
    return measures[0].model_copy(update={**changed, "count": count, "ci95": (low, high)})


def _evasions(plan: "Plan", found: Mapping["Key", Found], panel: Panel | None, width: int) -> list[Evasion]:
    """What each deviation that reads records gets as it is, and by each of its evasions; empty without thresholds."""
    if panel is None:
        return []
    told: dict[tuple[str, str], list[tuple[Found, AttackResult]]] = {}
    for key, one in found.items():
        if key.deviation and key.seed in plan.seeds and one.records is not None:
            told.setdefault((key.deviation, key.how), []).append((one, one.records))
    listed = []
    for (name, how), pairs in told.items():
        recovered = recovered_over_seeds([records for _, records in pairs])
        flagged = detection.share(panel.flags(scores_of([one for one, _ in pairs], width)))
        listed.append(
            Evasion(
                deviation=name,
                how=how,
                recovered=recovered,
                flagged=flagged,
                past=(recovered.value or 0.0) * (1 - flagged.value),
                plain=not how,
                honest=how == ", ".join(f"{key}={value}" for key, value in HONEST.items()),
            )
        )
    evading = {one.deviation for one in listed if one.plain and hits(one.recovered)}
    places = {one.name: ["", *(how for how, _ in one.evasions())] for one in plan.contestants}
    names = list(places)

    def place(one: Evasion) -> tuple[int, int, str]:
        hows = places[one.deviation]
        return names.index(one.deviation), hows.index(one.how) if one.how in hows else len(hows), one.how

    return sorted((one for one in listed if one.deviation in evading), key=place)


def _not_tried(plan: "Plan", tried: Mapping[str, object], refused: Mapping["Key", str]) -> dict[str, str]:
    """Why deviations were not tried, by name."""
    reasons = dict(plan.not_tried)
    for key, why in refused.items():
        if key.deviation not in tried and not key.how:
            reasons.setdefault(key.deviation, _clause(why, key.deviation))
    return reasons


def _clause(why: str, kind: str) -> str:
    """A refusal without the places that it names: the reader sees which deviation it is about."""
    for lead in ("duel: ", "server.deviations: ", f"{kind!r}: ", f"{kind}: "):
        why = why.removeprefix(lead)
    return why.removesuffix("; the server does not deviate so")
