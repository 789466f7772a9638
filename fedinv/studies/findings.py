"""The risk card of a scenario: what leaks, what it depends on, and which single change lowers it most, as measured."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from fedinv.judge.truth import population_of
from fedinv.results.assessment import Assessment, VariationLeak, change, effect
from fedinv.results.intervals import clopper_pearson
from fedinv.results.run import Rate
from fedinv.results.wording import hits, metric_text, metric_value, percent, unfinished_text
from fedinv.scenario.reading import read
from fedinv.scenario.scenario import Scenario
from fedinv.storage.run_folder import RunFolder
from fedinv.studies.assess import most_helpful
from fedinv.studies.attack_choice import Choice


def assessment(scenario: Scenario, folder: Path, leaks: Sequence[VariationLeak], tried: Choice) -> Assessment:
    """The conclusions from all variations that were run, whose folders lie in `folder`; the base must be the first."""
    names = list(dict.fromkeys(attack.kind for attack in tried.attacks))
    unusual = _unusual(folder / leaks[0].run)
    depends = (_complexity(leaks), _columns(leaks[0]), _unusualness(unusual), *_attacker(leaks))
    findings = [_as_it_is(leaks[0]), _help(leaks), _tried(names, tried.not_tried), *depends]
    return Assessment(
        scenario=scenario.name,
        seed=scenario.seed,
        findings=[f"{said[0].upper()}{said[1:]}." for said in findings if said],
        unusual=unusual,
        attacks=names,
        not_tried=dict(tried.not_tried),
        leaks=list(leaks),
    )


def _tried(names: Sequence[str], not_tried: Collection[str]) -> str:
    """A sentence on which attacks every change met, and of which nothing is known."""
    said = f"each change met {', '.join(names)}"
    if not_tried:
        said += f"; not tried, so nothing is known of them: {', '.join(not_tried)}"
    return said


def _as_it_is(base: VariationLeak) -> str:
    parts = []
    if base.records is not None:
        whole = base.records
        parts.append(
            f"rebuilds {hits(whole)} of {whole.count} records in full (guess {percent(whole.prior)})"
            if whole.count
            else "had no record to rebuild, so that what it can rebuild is not measurable"
        )
    if base.attribute is not None:
        told, column = base.attribute, next(iter(base.columns), "a sensitive value")
        parts.append(
            f"tells {column} of {hits(told)} of {told.count} people whose other fields it knows "
            f"({percent(told.value)}, guess {percent(told.prior)})"
        )
    if base.membership is not None and base.membership.numbers is not None:
        value, (low, high), chance = base.membership.numbers
        tells = "tells" if low > chance else "does not measurably tell"
        parts.append(
            f"{tells} from the trained model alone who took part, with an AUC of {value:.3f} "
            f"({low:.3f} to {high:.3f}, chance {chance:g})"
        )
    return "as it is, the server " + ", ".join(parts) if parts else "no attack had anything to attack"


def _complexity(leaks: Sequence[VariationLeak]) -> str:
    """A sentence on whether more complex models leaked more, by counts of variations; empty where none was tested.

    What an attack rebuilt that a limit of its own ended says nothing of the model.
    """
    base, told = leaks[0], []
    for name in ("records", "attribute", "membership"):
        more = less = level = ended = 0
        for one in leaks[1:]:
            before, after = getattr(base, name), getattr(one, name)
            apart = change(before, after)
            if not one.complexity or apart is None:
                continue
            if name == "records" and one.newly_unfinished(leaks[0]):
                ended += 1
                continue
            _, (low, high) = apart
            low, high = (low, high) if one.complexity > 0 else (-high, -low)
            more, less, level = more + (low > 0), less + (high < 0), level + (low <= 0 <= high)
        total = more + less + level
        if total:
            told.append(f"{name}: more leaks in {more}, less in {less}, no measurable difference in {level} of {total}")
            told[-1] += f" ({ended} left out, where a limit of its own ended an attack)" if ended else ""
    return "is a more complex model, or longer training, easier to attack? " + "; ".join(told) if told else ""


def _columns(base: VariationLeak) -> str:
    if len(base.columns) < 2:
        return ""
    told = [
        f"{name} {percent(rate.value)} (guess {percent(rate.prior)})"
        for name, rate in sorted(base.columns.items(), key=lambda one: (one[1].prior or 0.0) - (one[1].value or 0.0))
    ]
    return "of the sensitive columns, everything else about a person being known, the updates tell " + ", ".join(told)


def _unusual(folder: Path) -> Rate | None:
    """Share recovered, by a run's worst attack, of the quarter of people farthest from their nearest neighbor.

    Its prior is that of the quarter nearest to theirs. None with fewer than eight records.
    """
    scenario, path = read(str(RunFolder(folder).scenario)), RunFolder(folder).records
    if not path.is_file():
        return None
    rows = pq.read_table(path, columns=["attack", "variant", "target", "person", "recovered"])
    names = np.array([" ".join(row.values()) for row in rows.select([0, 1, 2]).to_pylist()])
    recovered = rows["recovered"].to_numpy().astype(bool)
    worst = names == max(dict.fromkeys(names), key=lambda name: recovered[names == name].mean())
    people, persons, recovered = population_of(scenario), rows["person"].to_numpy()[worst], recovered[worst]
    if len(persons) < 8:
        return None
    apart = torch.cdist(people.inputs[persons].double(), people.inputs.double())
    apart[torch.arange(len(persons)), torch.from_numpy(persons)] = torch.inf
    order = np.argsort(apart.min(1).values.numpy())
    quarter = len(order) // 4
    most, least = recovered[order[-quarter:]], recovered[order[:quarter]]
    return Rate(
        value=float(most.mean()),
        count=quarter,
        ci95=clopper_pearson(int(most.sum()), quarter),
        prior=float(least.mean()),
    )


def _unusualness(rate: Rate | None) -> str:
    if rate is None:
        return ""
    return (
        f"of the quarter of people least like anyone else {hits(rate)} of {rate.count} are rebuilt, of the most usual "
        f"quarter {round((rate.prior or 0.0) * rate.count)} of {rate.count}"
    )


def _attacker(leaks: Sequence[VariationLeak]) -> list[str]:
    base, found = leaks[0].records, []
    for one in leaks:
        found_change = change(base, one.records)
        if one.axis == "attacker" and one.records is not None and found_change is not None:
            apart, (low, high) = found_change
            said = "it makes no measurable difference" if low <= 0 <= high else f"{100 * apart:+.1f} points of records"
            found.append(f"where {one.change}: {hits(one.records)} of {one.records.count} records ({said})")
    return ["; ".join(found)] if found else []


def _help(leaks: Sequence[VariationLeak]) -> str:
    best, base = most_helpful(leaks), leaks[0]
    if base.records is None or not base.records.count:
        return "no change is recommended, as what is rebuilt is not measurable"
    if not hits(base.records):
        return "no record is rebuilt as it is, so no change can lower that"
    if best is None or best.records is None:
        return "no single change of those tried lowers the records rebuilt measurably"
    metric = metric_text(base.utility)
    held = best.guarantee or f"it guarantees nothing: an attack that was not run may rebuild more{_short(best, base)}"
    return (
        f"the single change that lowers it most under these attacks: {best.change}, {hits(base.records)} of "
        f"{base.records.count} to {hits(best.records)} of {best.records.count} records, "
        f"{effect(base.records, best.records)} points, at "
        f"{metric} {metric_value(base.utility.value)} to {metric_value(best.utility.value)}{_by_field(best)}; {held}"
    )


def _short(best: VariationLeak, base: VariationLeak) -> str:
    """The attacks that were not run to their end under the change, while they were as it is; empty without any."""
    fell = best.newly_unfinished(base)
    return f", and so may one that a limit of its own ended: {unfinished_text(fell)}" if fell else ""


def _by_field(best: VariationLeak) -> str:
    """What the change leaves to be known field by field; empty where no attack claims records."""
    if best.fields is None or best.fields.numbers is None:
        return ""
    value, interval, prior = best.fields.numbers
    if interval[0] <= prior:
        return f", and field by field nothing beyond a guess ({percent(value)} right, guess {percent(prior)})"
    return f", but {percent(value)} of the fields are still told (guess {percent(prior)})"
