"""What a run or a study was made from: digests of its scenario, its records and the code, kept in its folder.

Results are used again (attacked once more, resumed, compared) only where all of them are those of now: a data file with
its rows in another order gives every client other people, and each claim would be judged against the wrong person.
"""

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedinv import roles
from fedinv.blame import file_of
from fedinv.data.population import Population
from fedinv.errors import RequestError
from fedinv.judge.truth import population_of
from fedinv.plugins import GROUPS, packages
from fedinv.runs.wall import ATTACK_CODE
from fedinv.scenario.scenario import Scenario
from fedinv.storage import files
from fedinv.storage.run_folder import RunFolder
from fedinv.strict import Strict
from fedinv.version import __version__

_PACKAGE = Path(__file__).resolve().parents[1]


class Provenance(Strict):
    """Digests (SHA-256) of all that a run depends on; equal ones give equal results."""

    version: str
    """Version of fedinv."""
    scenario: str
    """Digest of the scenario's keys, without its name, its attacks and the place of a data file."""
    records: str
    """Digest of the records as they were loaded, with their data dictionary, and of which client holds which."""
    code: str
    """Digest of the sources of fedinv, of clients/ and of server/ without attack code, of the plugins used, and of the
    project that a network of the user's own comes from."""
    attacks: str
    """Digest of the sources of attack code, and of the packages of the attacks that are plugins."""


def of(scenario: Scenario, attacks: Sequence[object] | None = None) -> Provenance:
    """What a run of this scenario would now be made from; `attacks` are run in place of the scenario's own.

    Cheap (some 20 ms, once a process) beside loading the records, which are kept in memory: sources are read once.

    Raises RequestError when the scenario's data cannot be used.
    """
    content = scenario.model_dump(mode="json", exclude={"name", "attacks"})
    for place in ("path", "dictionary"):  # what they hold is part of the records' digest
        content["data"].pop(place, None)
    used = (scenario.data, *scenario.defenses, *scenario.vetting, *scenario.server.deviations)
    return Provenance(
        version=__version__,
        scenario=_digest([json.dumps(content, sort_keys=True).encode()]),
        records=records(population_of(scenario)),
        code=_with_own(_code(tuple(type(one) for one in used)), scenario.model.sources),
        attacks=_attack_code(tuple(type(one) for one in (scenario.attacks if attacks is None else attacks))),
    )


def write(folder: Path, made: Provenance) -> None:
    """Note down in a folder what its content is made from. Raises RunError naming the file."""
    files.write_json(RunFolder(folder).provenance, made.model_dump())


def difference(folder: Path, now: Provenance, *, attacks: bool = False) -> str | None:
    """What a folder's content was made from that is not so now, as a phrase; None where all is the same.

    Attack code is compared with `attacks` alone: claims are kept by the code that made them, see `attack_runner`.
    Raises RunError for a file that is damaged.
    """
    path = RunFolder(folder).provenance
    if not path.is_file():
        return "something that it does not say (it is of a former version of fedinv, or incomplete)"
    made = files.read_model(Provenance, path)
    if made.scenario != now.scenario:
        return "another scenario"
    if made.version != now.version:
        return f"version {made.version} of fedinv, and this is {now.version}"
    if made.code != now.code or (attacks and made.attacks != now.attacks):
        return "other code, which was changed since"
    if made.records != now.records:
        return "other records: the data changed since"
    return None


def refuse_other(folder: Path, now: Provenance, *, attacks: bool = False) -> None:
    """Raise RequestError where a folder's content was made from something else, see `difference`."""
    found = difference(folder, now, attacks=attacks)
    if found is not None:
        raise RequestError(f"{folder}: was made from {found}; name another folder, or delete this one and run again")


def begin(folder: Path, now: Provenance) -> None:
    """Note down what a study is made from in its folder, before it begins or goes on there.

    Raises RequestError where the folder holds a study, or a run, that was made from something else.
    """
    place = RunFolder(folder)
    if place.provenance.is_file() or place.scenario.is_file():
        refuse_other(folder, now, attacks=True)
    else:
        write(folder, now)


def records(people: Population) -> str:
    """Digest of a population: each column's values, labels, identities, data dictionary and each client's share."""
    table = people.table
    columns = {**table.columns, **{f"identity:{name}": v for name, v in (table.identities or {}).items()}}
    parts = [table.schema.model_dump_json().encode(), _bytes(table.labels), _bytes(people.holdout)]
    parts += [part for name in sorted(columns) for part in (name.encode(), _bytes(columns[name]))]
    if people.draw is None:
        parts += [_bytes(share) for share in people.shares]
    return _digest(parts)


@lru_cache(maxsize=64)
def attack_code(attack: type) -> str:
    """Digest of the code that an attack's claims depend on: what attacks share, and its own file or package."""
    server, own = roles.folder("server"), file_of(attack)
    shared = [_sources(server / name) for name in ATTACK_CODE if name != "attacks"]
    built_in = own is not None and own.resolve().is_relative_to(server)
    return _digest([*shared, own.read_bytes() if built_in and own is not None else _plugins((attack,))])


@lru_cache(maxsize=16)
def _attack_code(attacks: tuple[type, ...]) -> str:
    """Digest of all attack code, and of the packages of these attacks."""
    server = roles.folder("server")
    return _digest([*(_sources(server / name) for name in ATTACK_CODE), _plugins(attacks)])


@lru_cache(maxsize=16)
def _code(plugins: tuple[type, ...]) -> str:
    """Digest of all code but that of attacks, and of the packages of these plugins."""
    server = roles.folder("server")
    ours = [_sources(_PACKAGE, ("_roles",)), _sources(roles.folder("clients")), _sources(server, ATTACK_CODE)]
    return _digest([*ours, _plugins(plugins)])


def _with_own(code: str, sources: Sequence[Path]) -> str:
    """The digest of all code with these files of the user's own, by their names; the same without any."""
    parts = [part for path in sources for part in (path.name.encode(), path.read_bytes())]
    return _digest([code.encode(), *parts]) if parts else code


def _plugins(classes: Iterable[type]) -> bytes:
    """Digest of the code of those classes that are plugins of other packages: the folder or file that defines each."""
    found: dict[str, bytes] = {}
    for one in classes:
        file = file_of(one)
        if file is None or one.__module__.partition(".")[0] not in packages(*GROUPS):
            continue
        alone = "." not in one.__module__ and file.name != "__init__.py"  # a module among others of site-packages
        found[one.__module__] = file.read_bytes() if alone else _sources(file.parent)
    return _digest([found[name] for name in sorted(found)]).encode()


@lru_cache(maxsize=32)
def _sources(folder: Path, without: tuple[str, ...] = ()) -> bytes:
    """Digest of all Python files below a folder, by their paths in it, without those in these folders of it."""
    found = [path for path in sorted(folder.rglob("*.py")) if path.relative_to(folder).parts[0] not in without]
    parts = [part for path in found for part in (str(path.relative_to(folder)).encode(), path.read_bytes())]
    return _digest(parts).encode()


def _digest(parts: Iterable[bytes]) -> str:
    """Digest of byte strings, each with its length before it, so that no two lists of them give the same bytes."""
    found = sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.hexdigest()


def _bytes(values: NDArray[np.generic]) -> bytes:
    """An array's type, shape and content; of objects, each one's text."""
    head = f"{values.dtype.str}{values.shape}".encode()
    if values.dtype == object:
        return head + "\0".join(map(repr, values.reshape(-1).tolist())).encode(errors="surrogatepass")
    return head + np.ascontiguousarray(values).tobytes()
