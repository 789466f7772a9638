"""A scenario: one experiment's declaration, and what must hold between its tables."""

from dataclasses import replace
from typing import Any, Literal, Self

import tomli_w
from pydantic import Field, SerializeAsAny, model_validator

from fedinv.attack import Attack, Knowledge
from fedinv.blame import blamed
from fedinv.data.dataset import Dataset
from fedinv.defense import Defense
from fedinv.defense_terms import model_keys, with_model_keys
from fedinv.detector import Detector
from fedinv.deviation import Deviation
from fedinv.federation.agreement import Attacker, Federation, Server, TrainingTable
from fedinv.federation.knowledge import public_knowledge
from fedinv.federation.strategies import FEDAVG
from fedinv.federation.streams import hidden_seed
from fedinv.federation.training import Participation, Training
from fedinv.federation.watching import with_watch
from fedinv.scenario.compatibility import offered, stacking
from fedinv.strict import Strict
from fedinv.task.models import DEFAULT, TABULAR, TEXTUAL, Model
from fedinv.task.schema import Schema


class AuditTable(Strict):
    """Which privacy claim `fedinv audit` puts to the test, and with how many canaries."""

    claimed_epsilon: float | None = Field(default=None, ge=0)
    """Epsilon to hold the audit against, 0 or more; without it the ledger's epsilon over all rounds is tested."""
    clients: int = Field(default=200, ge=20)
    """Clients of the audited federation where privacy is claimed per client; each is one canary. At least 20."""
    plant: Literal["nothing", "records", "clients"] = "nothing"
    """Canaries that take part in the training. Leave it at "nothing": `fedinv audit` sets it."""


class JudgeTable(Strict):
    """How claims are judged."""

    tolerance: float = Field(default=0.319, gt=0)
    """Error in standard deviations up to which a continuous field counts as right (Vero et al. 2023, TabLeak)."""


class Scenario(Strict):
    """One experiment: its data, model and training, the defenses, the attacker and the attacks."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)
    """Name of the experiment, which names its run folders: letters, digits, dots, dashes, underscores, at most 80."""
    seed: int = Field(default=7, ge=0)
    """Seed of data, partition, batches and initial weights, 0 or more. It is small enough to be guessed: what an
    attacker must not repeat is drawn from `secret`."""
    secret: str | None = Field(default=None, pattern=r"^[0-9a-f]{32}$")
    """Secret from which clients draw their noise, masks and other disguises, and attacks their randomness: 32
    hexadecimal digits, which no attack is given. Default: each run draws one of its own and keeps it in the file
    `secret` of its folder. Write it into the scenario to repeat a run to the last digit."""
    data: SerializeAsAny[Dataset]
    """The records, and how they are spread over the clients."""
    model: Model = DEFAULT
    """The network that is trained."""
    federation: Federation
    """How many clients and rounds there are."""
    training: TrainingTable
    """How a client trains in a round."""
    defenses: tuple[SerializeAsAny[Defense], ...] = ()
    """Defenses that are on, in the order in which clients apply them; none by default."""
    vetting: tuple[SerializeAsAny[Detector], ...] = ()
    """Detectors by which each client looks at the weights that it was sent before it answers, and what it does where
    one flags them; none by default. `fedinv list detectors` names them."""
    server: Server = Server()
    """Whether the server follows the protocol, and how it deviates."""
    attacker: Attacker = Attacker()
    """What the attacker sees and knows."""
    attacks: tuple[SerializeAsAny[Attack], ...] = ()
    """Attacks to run on what the attacker saw; none by default."""
    judge: JudgeTable = JudgeTable()
    """How claims are judged."""
    audit: AuditTable = AuditTable()
    """Which privacy claim `fedinv audit` puts to the test."""

    @model_validator(mode="before")
    @classmethod
    def _filled_in(cls, document: Any) -> Any:
        return with_watch(with_model_keys(document))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        federation, watch = self.federation, self.attacker.watch
        if federation.participants > federation.clients:
            raise ValueError(
                f"federation.clients_per_round: {federation.participants} is more than the "
                f"{federation.clients} clients there are"
            )
        if max(watch.rounds) > federation.rounds:
            raise ValueError(
                f"attacker.watch.rounds: round {max(watch.rounds)} does not happen, "
                f"federation.rounds is {federation.rounds}"
            )
        if watch.clients > federation.participants:
            raise ValueError(
                f"attacker.watch.clients: {watch.clients} is more than the {federation.participants} clients of a round"
            )
        if federation.participants < 2 and federation.dropout:
            raise ValueError("federation.dropout: needs at least two clients in a round, as one must stay")
        if watch.choose == "smallest" and self.data.partition.kind == "drawn":
            raise ValueError(
                "attacker.watch.choose: drawn clients hold equally many records, so that none is smallest: write "
                '"first"'
            )
        if federation.participants < 2 and any(defense.secure_aggregation for defense in self.defenses):
            raise ValueError("federation.clients: secure aggregation needs at least two clients in a round, not 1")
        opening = [f"deviations: {one.kind!r}" for one in self._deviations if type(one).unmasks]
        if self.server.unmask:
            opening.insert(0, "unmask")
        if opening and not any(defense.can_be_unmasked for defense in self.defenses):
            raise ValueError(
                f"server.{opening[0]}: there is nothing to unmask, list a defense that can be: "
                f"{offered(lambda defense: defense.can_be_unmasked)}"
            )
        if self.model.images and not self.data.images:
            raise ValueError(
                f"model.kind: {self.model.kind!r} reads images, and data source {self.data.source!r} holds a table: "
                f"use {' or '.join(TABULAR)}"
            )
        if self.model.texts != self.data.texts:
            held = "texts" if self.data.texts else "none"
            other = TEXTUAL if self.data.texts else TABULAR
            raise ValueError(
                f"model.kind: {self.model.kind!r} reads {'texts' if self.model.texts else 'numbers'}, and data source "
                f"{self.data.source!r} holds {held}: use {' or '.join(other)}"
            )
        for defense in self.defenses:
            if defense.per_record and self.model.no_own_gradients is not None:
                raise ValueError(
                    f"model: {defense.kind!r} clips each record's own gradient, and {self.model.no_own_gradients}"
                )
        for defense in self.defenses:
            with blamed(f"defense {defense.kind!r}", type(defense)):
                misfit = defense.misfit(federation.participants)
            if misfit is not None:
                raise ValueError(f"defenses: {defense.kind!r}: {misfit}")
            if defense.averaged_only is not None and federation.strategy != FEDAVG:
                raise ValueError(f'federation.strategy: {defense.kind!r} needs "fedavg": {defense.averaged_only}')
        for deviation in self._deviations:
            with blamed(f"deviation {deviation.kind!r}", type(deviation)):
                misfit = deviation.misfit(self.model)
            if misfit is not None:
                raise ValueError(f"server.deviations: {deviation.kind!r}: {misfit}")
            asks = deviation.asks
            if asks and not self.attacker.auxiliary and all(attack.asks != asks for attack in self.attacks):
                raise ValueError(
                    f"server.deviations: {deviation.kind!r}: there is nobody to ask about, list an attack on {asks} or "
                    "grant attacker.auxiliary"
                )
        if self.model.no_own_gradients is not None and any(one.action == "clip" for one in self.vetting):
            raise ValueError(
                f'vetting: "clip" clips each record\'s own gradient, and {self.model.no_own_gradients}: choose another '
                "action"
            )
        refusal = stacking(self.defenses)
        if refusal is not None:
            raise ValueError(f"defenses: {refusal}")
        return self

    @property
    def _deviations(self) -> tuple[Deviation, ...]:
        # where the server itself reads the table, they are not parsed yet
        listed: tuple[object, ...] = self.server.deviations
        return tuple(one for one in listed if isinstance(one, Deviation))

    @property
    def hidden(self) -> int:
        """Seed of noise, masks and attacks, which cannot be guessed where there is a secret."""
        return hidden_seed(self.secret, self.seed)

    @property
    def sampling(self) -> Literal["shuffle", "poisson"]:
        """How local batches are drawn: "poisson" where any defense needs it, else "shuffle"."""
        return "poisson" if any(d.sampling == "poisson" for d in self.defenses) else "shuffle"

    def participation(self, records: int) -> Participation:
        """The participation of a client that holds `records` records, as far as privacy depends on it."""
        training, federation = self.training, self.federation
        size = min(training.batch_size, records)
        return Participation(
            records=records,
            batch_size=size,
            divisor=min(training.batch_size, training.records_per_client or training.batch_size),
            steps=1 if training.algorithm == "fedsgd" else training.epochs * -(-records // size),
            rounds=federation.rounds,
            clients=federation.clients,
            cohort=federation.participants,
            heaviest=training.heaviest,
        )

    def undefended(self) -> Self:
        """The same federation without defenses, vetting, PRECODE's bottleneck, and a server that unmasks."""
        listed: tuple[object, ...] = self.server.deviations
        kept = tuple(one for one in listed if not (isinstance(one, Deviation) and type(one).unmasks))
        server = self.server.model_copy(update={"unmask": False, "deviations": kept})
        keys = {key for defense in self.defenses for key in model_keys(defense.model_dump())}
        fields = type(self.model).model_fields
        model = self.model.model_copy(update={key: fields[key].get_default() for key in keys})
        return self.model_copy(update={"defenses": (), "vetting": (), "server": server, "model": model})

    def local_training(self, round_: int) -> Training:
        """The settings of local training in a round, counted from 1."""
        return self.training.in_round(round_, self.federation.rounds)

    def knowledge(self, schema: Schema, *, adaptive: bool, records: int = 1, round_: int = 1) -> Knowledge:
        """What the attacker of a round, counted from 1, knows of a client that holds `records` records.

        The defenses are left out unless the attack is `adaptive` and the scenario grants that knowledge.
        """
        public = public_knowledge(self.model, self.training, self.federation, self.attacker, schema, round_)
        told = adaptive and "defenses" in self.attacker.knows
        taken = self.participation(records)
        return replace(
            public,
            defenses=tuple(_known(d, taken) for d in self.defenses) if told else None,
            deviations=self._deviations,
        )

    def to_toml(self) -> str:
        """The scenario as TOML, every default written out."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


def _known(defense: Defense, taken: Participation) -> dict[str, Any]:
    with blamed(f"defense {defense.kind!r}", type(defense)):
        return defense.known(taken)
