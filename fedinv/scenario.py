"""A scenario: one experiment's declaration, read from TOML and checked to the last key.

The tables [data], [[defenses]] and [[attacks]] are discriminated unions over the plugins; only those that a scenario
names are imported.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache, reduce
from operator import or_
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import Field, SerializeAsAny, ValidationError, create_model, model_validator

from fedinv import library, plugins
from fedinv.attack import Attack, Knowledge
from fedinv.blame import PluginError, blamed
from fedinv.bottleneck import with_bottleneck
from fedinv.data.dataset import Dataset
from fedinv.defense import Defense, Participation
from fedinv.errors import RequestError, nearest
from fedinv.faults import explain
from fedinv.federation import Attacker, Federation, Server, Strict, TrainingTable
from fedinv.models import Convnet, Mlp, Model
from fedinv.schema import Schema


class AuditTable(Strict):
    """What an audit is about."""

    claimed_epsilon: float | None = Field(default=None, ge=0)
    """The epsilon that someone quotes; what the ledger says where absent."""
    clients: int = Field(default=200, ge=20)
    """Canaries of an audit of whole clients: so many take part in it."""
    plant: Literal["nothing", "records", "clients"] = "nothing"
    """Canaries in the training: only for an audit, which sets it."""


class JudgeTable(Strict):
    """How claims are judged."""

    tolerance: float = Field(default=0.319, gt=0)
    """Standard deviations within which a continuous field counts as right (TabLeak's, Vero et al. 2023)."""


def stacking(defenses: Sequence[Defense]) -> str | None:
    """Why these defenses make no sense together in this order; None where they do."""
    noisy: str | None = None
    for before, defense in enumerate(defenses):
        later = defenses[before + 1 :]
        if defense.secure_aggregation and any(other.secure_aggregation for other in later):
            return f"{defense.kind!r} beside another secure aggregation: an update can be hidden only once"
        if defense.secure_aggregation and later:
            return f"{defense.kind!r} hides the update, so it must be the last defense listed"
        if defense.by_server and any(other.secure_aggregation for other in defenses):
            return f"{defense.kind!r} needs to see each client's update, which secure aggregation hides from the server"
        if defense.for_sum and not (later and later[0].secure_aggregation):
            return (
                f"{defense.kind!r} protects the sum alone: list a secure aggregation, such as masking, right after it, "
                "or use clip-noise, which protects each update"
            )
        if defense.mixes_records and any(other.per_record for other in defenses):
            return (
                f"{defense.kind!r} makes one example of several records, so that clipping examples bounds no record's "
                "share: the privacy claim would not hold"
            )
        if defense.no_own_gradients is not None and any(other.per_record for other in defenses):
            return f"{defense.kind!r} beside a defense that clips each record's gradient: {defense.no_own_gradients}"
        if noisy is not None and defense.after_noise is not None:
            return f"{defense.kind!r} after {noisy!r}: {defense.after_noise}"
        if type(defense).privacy_events is not Defense.privacy_events and not defense.by_server:
            noisy = defense.kind
    return None


class Scenario(Strict):
    """One experiment, whole."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)
    seed: int = Field(default=7, ge=0)
    data: SerializeAsAny[Dataset]
    model: Model = Mlp()
    federation: Federation
    training: TrainingTable
    defenses: tuple[SerializeAsAny[Defense], ...] = ()
    server: Server = Server()
    attacker: Attacker = Attacker()
    attacks: tuple[SerializeAsAny[Attack], ...] = ()
    judge: JudgeTable = JudgeTable()
    audit: AuditTable = AuditTable()

    @model_validator(mode="before")
    @classmethod
    def _with_bottleneck(cls, document: Any) -> Any:
        return with_bottleneck(document)

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
        if federation.participants < 2 and any(defense.secure_aggregation for defense in self.defenses):
            raise ValueError("federation.clients: secure aggregation needs at least two clients in a round, not 1")
        if self.server.unmask and not any(defense.kind == "secagg-plus" for defense in self.defenses):
            raise ValueError("server.unmask: there is nothing to unmask without the defense 'secagg-plus'")
        if self.model.images and not self.data.images:
            raise ValueError(
                f"model.kind: {self.model.kind!r} reads images, and data source {self.data.source!r} holds a table: "
                "use mlp or logistic"
            )
        for defense in self.defenses:
            if defense.per_record and isinstance(self.model, Convnet) and self.model.norm == "batch":
                raise ValueError(
                    f"model.norm: {defense.kind!r} clips each record's own gradient, and batch normalization mixes the "
                    'records of a batch: use norm = "none"'
                )
        for defense in self.defenses:
            with blamed(f"defense {defense.kind!r}", type(defense)):
                misfit = defense.misfit(federation.participants)
            if misfit is not None:
                raise ValueError(f"defenses: {defense.kind!r}: {misfit}")
        refusal = stacking(self.defenses)
        if refusal is not None:
            raise ValueError(f"defenses: {refusal}")
        return self

    @property
    def sampling(self) -> Literal["shuffle", "poisson"]:
        """How local batches are drawn: as the defenses need it."""
        return "poisson" if any(d.sampling == "poisson" for d in self.defenses) else "shuffle"

    def participation(self, records: int) -> Participation:
        """A client's part in a round, of so many records that it holds."""
        training, federation = self.training, self.federation
        size = min(training.batch_size, records)
        return Participation(
            records=records,
            batch_size=size,
            steps=1 if training.algorithm == "fedsgd" else training.epochs * -(-records // size),
            rounds=federation.rounds,
            clients=federation.clients,
            cohort=federation.participants,
            heaviest=training.heaviest,
        )

    def undefended(self) -> Self:
        """The same federation with every defense off."""
        server = self.server.model_copy(update={"unmask": False})
        model = self.model.model_copy(update={"bottleneck": 0})
        return self.model_copy(update={"defenses": (), "server": server, "model": model})

    def knowledge(self, schema: Schema, *, adaptive: bool, records: int = 1) -> Knowledge:
        """What the attacker is told of a client with so many records. A static one is never told of the defenses."""
        knows, training = set(self.attacker.knows), self.training
        lr, taken = "lr" in knows, self.participation(records)
        return Knowledge(
            model=self.model if "architecture" in knows else None,
            loss=schema.loss if "loss" in knows else None,
            schema=schema if "schema" in knows else None,
            algorithm=training.algorithm,
            lr=training.lr if lr else None,
            momentum=training.momentum if lr else None,
            weight_decay=training.weight_decay if lr else None,
            batch_size=training.batch_size if "batch-size" in knows else None,
            epochs=training.epochs if "epochs" in knows else None,
            defenses=tuple(_known(d, taken) for d in self.defenses) if adaptive and "defenses" in knows else None,
        )

    def to_toml(self) -> str:
        """The resolved scenario, every default written out."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


def _known(defense: Defense, taken: Participation) -> dict[str, Any]:
    with blamed(f"defense {defense.kind!r}", type(defense)):
        return defense.known(taken)


def read(name_or_path: str, overrides: Sequence[str] = ()) -> Scenario:
    """Read a shipped scenario by name or any by path, with ``dotted.key=value`` overrides.

    Raises RequestError that names the file, the key and the nearest right spelling.
    """
    document, path = library.document(name_or_path, overrides)
    return parse(document, str(path))


@lru_cache(maxsize=8)
def loads(text: str) -> Scenario:
    """Parse a scenario's TOML text: what travels in Flower's run configuration. Cached, as every message asks."""
    return parse(library.loads(text, "scenario"), "scenario")


def parse(document: Mapping[str, Any], where: str) -> Scenario:
    """Check a scenario's document. Raises RequestError, one line, naming `where` and the key."""
    try:
        model = _model(*_kinds(document))
    except RequestError as error:
        raise RequestError(f"{where}: {error}") from error
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise RequestError(f"{where}: {explain(error, model, document)}") from None
    except PluginError as error:
        raise RequestError(f"{where}: {error}") from error


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a scenario over all plugins that are installed and can be loaded, for editors."""
    return _model(
        plugins.loadable("datasets"), plugins.loadable("defenses"), plugins.loadable("attacks")
    ).model_json_schema()


@lru_cache(maxsize=32)
def _model(sources: tuple[str, ...], defenses: tuple[str, ...], attacks: tuple[str, ...]) -> type[Scenario]:
    """The scenario's model, its unions narrowed to these plugins."""
    fields: dict[str, Any] = {"data": (_union("datasets", sources), ...)}
    if defenses:
        fields["defenses"] = (tuple[_union("defenses", defenses), ...], ())  # type: ignore[misc]
    if attacks:
        fields["attacks"] = (tuple[_union("attacks", attacks), ...], ())  # type: ignore[misc]
    return create_model("Scenario", __base__=Scenario, __doc__=Scenario.__doc__, **fields)


def _union(group: plugins.Group, kinds: tuple[str, ...]) -> Any:
    classes: list[Any] = [plugins.load(group, kind) for kind in kinds]
    if len(classes) == 1:
        return classes[0]
    return Annotated[reduce(or_, classes), Field(discriminator="source" if group == "datasets" else "kind")]


def _kinds(document: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """The plugins that a document names: sources, defenses, attacks."""
    found: list[tuple[str, ...]] = []
    groups: tuple[tuple[plugins.Group, str, str], ...] = (
        ("datasets", "data", "source"),
        ("defenses", "defenses", "kind"),
        ("attacks", "attacks", "kind"),
    )
    for group, table, key in groups:
        entries = document.get(table, [])
        if group == "datasets":
            if not isinstance(entries, Mapping):
                raise RequestError("data: is missing, write a table [data] with a source")
            entries = [entries]
        elif not isinstance(entries, Sequence) or isinstance(entries, str):
            raise RequestError(f"{table}: must be a list of tables, write [[{table}]]")
        kinds: dict[str, None] = {}
        for index, entry in enumerate(entries):
            at = table if group == "datasets" else f"{table}.{index}"
            if not isinstance(entry, Mapping) or not isinstance(entry.get(key), str):
                raise RequestError(f"{at}.{key}: is missing, write one of {', '.join(plugins.available(group))}")
            if entry[key] not in plugins.available(group):
                known = plugins.available(group)
                raise RequestError(f"{at}.{key}: unknown {key} {entry[key]!r}{nearest(entry[key], known)}")
            kinds[entry[key]] = None
        found.append(tuple(sorted(kinds)))
    return found[0], found[1], found[2]
