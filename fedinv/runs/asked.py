"""The people whom a malicious server asks about while it trains, of whom it has the records."""

import torch

from fedinv.attack import Attack, Exchange, Observation, Sample
from fedinv.data.population import Population
from fedinv.deviation import Deviation
from fedinv.federation.agreement import round_senders
from fedinv.judge.questions import Setting, judge_of
from fedinv.scenario.scenario import Scenario
from fedinv.task.models import build


def asked(scenario: Scenario, people: Population) -> Sample | None:
    """The people of the question that attacks will be asked about the last watched round, in random order.

    Those of all watched clients, or of the sum behind secure aggregation. None where no deviation needs them.
    """
    listed: tuple[object, ...] = scenario.server.deviations  # parsed, as the scenario is
    deviations = [one for one in listed if isinstance(one, Deviation) and one.asks is not None]
    attacks = [attack for one in deviations for attack in scenario.attacks if attack.asks == one.asks]
    if not attacks:
        return None
    watch, round_ = scenario.attacker.watch, max(scenario.attacker.watch.rounds)
    senders = round_senders(scenario.federation, scenario.seed, round_)
    summed = any(defense.secure_aggregation for defense in scenario.defenses)
    groups = [senders] if summed else [(client,) for client in senders[: watch.clients]]
    found = [_people(scenario, people, attacks[0], tuple(group), round_) for group in groups]
    some = [one for one in found if one is not None]
    if not some:
        return None
    return Sample(torch.cat([one.records for one in some]), torch.cat([one.labels for one in some]))


def _people(
    scenario: Scenario, people: Population, attack: Attack, clients: tuple[int, ...], round_: int
) -> Sample | None:
    """The people of a question about these clients' update of a round, before there is one."""
    schema = people.schema
    setting = Setting(
        scenario,
        people,
        attack,
        lambda: build(scenario.model.fitted(schema), schema.shape, schema.outputs, scenario.seed),
    )
    coming = Exchange(round_, {}, {"": torch.zeros(0)}, 1)
    question = judge_of(attack.asks).ask(setting, Observation(clients, (coming,)))
    return None if question is None else question.people
