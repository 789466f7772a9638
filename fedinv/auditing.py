"""Audits a claim: canaries in the scenario's own training, and what could be told of them from what it let out."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binom
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from fedinv.attack import Observation
from fedinv.attacking import Steps
from fedinv.data.batches import local_batches
from fedinv.data.canaries import Planted, direction, plant, toss
from fedinv.defense import Defense
from fedinv.engines import inline
from fedinv.errors import RequestError, RunError
from fedinv.judge.truth import everyone
from fedinv.privacy import claims
from fedinv.privacy.lower_bounds import Bound, Scores, gaussian, one_run
from fedinv.results.audit import Audit, Verdict
from fedinv.scenario.reading import parse
from fedinv.scenario.scenario import Scenario
from fedinv.storage import files, observations
from fedinv.task.loss import loss
from fedinv.task.models import load

Coins = NDArray[np.bool_]
ASSUMPTION_FREE, GAUSSIAN = "one run, assumption-free", "one run, Gaussian"


def audit(scenario: Scenario, folder: Path, steps: Steps) -> Audit:
    """Train with canaries in a folder of its own, and hold what can be told of them against the claim.

    Raises RequestError where nothing is claimed.
    """
    defense, unit = _claimant(scenario)
    audited = _audited(scenario, unit)
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    progress, expected = steps("training with canaries"), audited.federation.rounds * audited.federation.participants
    if not (folder / "ledger.json").is_file():
        files.write(folder / "scenario.toml", audited.to_toml())
        done = iter(range(1, expected + 1))
        inline.train(audited, folder, lambda _: progress(next(done, expected) / expected))
    progress(1.0)
    ledger = claims.claim(files.read_json(folder / "ledger.json")["clients"], [d.kind for d in audited.defenses])
    scoring = steps("scoring canaries")
    scores = _client_scores(audited, folder, defense) if unit == "client" else _record_scores(audited, folder)
    linear, likely, present = scores
    delta = float(getattr(defense, "delta", 1e-5))
    bounds = {ASSUMPTION_FREE: one_run(likely, present, delta), GAUSSIAN: gaussian(linear, present, delta)}
    scoring(1.0)
    claimed = scenario.audit.claimed_epsilon if scenario.audit.claimed_epsilon is not None else ledger.epsilon
    if claimed is None:
        raise RequestError(f"nothing to audit: {ledger.note}")
    return _verdict(scenario, unit, claimed, ledger.epsilon, delta, len(present), bounds)


def _verdict(
    scenario: Scenario,
    unit: Literal["example", "client"],
    claimed: float,
    ledger: float | None,
    delta: float,
    canaries: int,
    bounds: Mapping[str, Bound],
) -> Audit:
    method, worst = max(bounds.items(), key=lambda item: item[1].epsilon)
    verdict: Verdict = "FAIL" if worst.epsilon > claimed else "not contradicted"
    told = f"{worst.right} of {worst.guesses} guesses right"
    says = (
        f"FAIL: epsilon is at least {worst.epsilon:.2f} ({method}: {told}), and {claimed:.2f} per {unit} is claimed"
        if verdict == "FAIL"
        else f"not contradicted: epsilon is at least {worst.epsilon:.2f} ({method}: {told}), and {claimed:.2f} per "
        f"{unit} is claimed; that is no proof that the claim holds"
    )
    return Audit(
        scenario=scenario.name,
        unit=unit,
        claimed=claimed,
        quoted=scenario.audit.claimed_epsilon is not None,
        ledger=ledger,
        delta=delta,
        canaries=canaries,
        lower_bounds={name: bound.epsilon for name, bound in bounds.items()},
        right={name: (bound.right, bound.guesses) for name, bound in bounds.items()},
        verdict=verdict,
        says=says,
    )


def _claimant(scenario: Scenario) -> tuple[Defense, Literal["example", "client"]]:
    taken = scenario.participation(max(1, scenario.training.batch_size))
    for defense in scenario.defenses:
        events = defense.privacy_events(taken)
        if events:
            return defense, events[0].unit
    kinds = ", ".join(defense.kind for defense in scenario.defenses) or "no defense is on"
    raise RequestError(f"nothing to audit: no defense of {scenario.name} claims differential privacy ({kinds})")


def _audited(scenario: Scenario, unit: Literal["example", "client"]) -> Scenario:
    """The scenario with canaries; of whole clients as many as are wanted, at a small model: their updates are made."""
    document = scenario.model_dump(mode="json", exclude_none=True)
    document |= {"attacks": [], "audit": {"plant": "records" if unit == "example" else "clients"}}
    if unit == "client":
        document["federation"] |= {"clients": scenario.audit.clients}
        document["federation"].pop("clients_per_round", None)
        document["training"] |= {"algorithm": "fedsgd", "batch_size": 1, "records_per_client": 1}
        if scenario.model.kind == "mlp":
            document["model"] |= {"hidden": [32]}
    rounds = list(range(1, scenario.federation.rounds + 1))
    clients = document["federation"].get("clients_per_round")
    document["attacker"] |= {"watch": {"rounds": rounds, "clients": clients or document["federation"]["clients"]}}
    return parse(document, f"audit of {scenario.name}")


def _client_scores(scenario: Scenario, folder: Path, defense: Defense) -> tuple[Scores, Scores, Coins]:
    """How far each canary client's direction was taken, over all rounds; (m,), the same twice, and the coins."""
    clients = range(scenario.federation.clients)
    present = np.array([toss(scenario.seed, client) for client in clients])
    like = observations.read_sent(folder / "observations", 1)
    ways = torch.stack([_flat(direction(like, scenario.seed, client)) for client in clients]).double()
    total = torch.zeros(len(ways), dtype=torch.float64)
    if defense.by_server or any(one.secure_aggregation for one in scenario.defenses):
        gram = ways @ ways.T
        for mean in _means(scenario, folder, defense):
            total += torch.linalg.solve(gram, ways @ mean) * len(ways)
    else:
        for seen in observations.read(folder / "observations"):
            if len(seen.clients) == 1:
                total[seen.clients[0]] += ways[seen.clients[0]] @ _flat(seen.last.received).double()
    scores = total.numpy()
    return scores, scores, present


def _means(scenario: Scenario, folder: Path, defense: Defense) -> Iterator[Tensor]:
    """What came out of each round: the sum's mean, or the models' difference where the server adds the noise."""
    if not defense.by_server:
        for seen in observations.read(folder / "observations"):
            if len(seen.clients) > 1:
                yield _flat(seen.last.received).double()
        return
    rounds = scenario.federation.rounds
    models = [observations.read_sent(folder / "observations", r) for r in range(1, rounds + 1)]
    models.append(files.read_tensors(folder / "checkpoint" / f"model-{rounds:04}.safetensors")[0])
    for before, after in pairwise(models):
        yield _flat(after).double() - _flat(before).double()


def _record_scores(scenario: Scenario, folder: Path) -> tuple[Scores, Scores, Coins]:
    """Of each canary record: its part in its client's updates against noise, the likelihood that it is in, its coin.

    Where a malicious server makes its numbers overflow, both are the rounds in which they did.
    """
    people = everyone(scenario)
    by_client: dict[int, list[Observation]] = {}
    for seen in observations.read(folder / "observations"):
        if len(seen.clients) == 1:
            by_client.setdefault(seen.clients[0], []).append(seen)
    broken = files.read_json(folder / "checkpoint" / "progress.json")["left_out"]
    linear, likely, coins = list[Scores](), list[Scores](), list[Coins]()
    for client in range(scenario.federation.clients):
        inputs, labels = people.records(client)
        if scenario.server.overflow:
            sent = observations.read_sent(folder / "observations", 1)
            planted = plant(inputs, labels, _network(scenario, sent), scenario.seed, client, True)
            silent = sum(one["client"] == client and "non-finite" in one["reason"] for one in broken)
            linear.append(np.array([float(silent)]))
            likely.append(linear[-1])
            coins.append(planted.present)
            continue
        weighted, weights, chances = np.zeros(1), np.zeros(1), np.zeros(1)
        met = by_client.get(client, [])
        for seen in met:
            planted = plant(inputs, labels, _network(scenario, seen.last.sent), scenario.seed, client)
            parts, variances = _parts(scenario, planted, seen)
            weighted, weights = weighted + parts / variances, weights + 1 / variances
            chances = chances + _likelihood(scenario, len(inputs), parts, variances)
        if met:
            linear.append(weighted / np.sqrt(weights))
            likely.append(chances)
            coins.append(planted.present)
    if not linear:
        raise RunError("no update could be used, so that no canary could be scored")
    return np.concatenate(linear), np.concatenate(likely), np.concatenate(coins)


def _parts(scenario: Scenario, planted: Planted, seen: Observation) -> tuple[Scores, Scores]:
    """How often each canary was used in one update, estimated by least squares, and the estimates' variances."""
    training, client, held = scenario.training.settings, seen.clients[0], len(planted.labels)
    taken = scenario.participation(held)
    defense = next(d for d in scenario.defenses if d.per_record).known(taken)
    clip, noise = float(defense["clip"]), float(defense["noise_multiplier"])
    batches = local_batches(training, held, scenario.sampling, scenario.seed, client, seen.last.round)
    used = np.bincount(np.concatenate(batches), minlength=held).astype(np.float64)
    gradients = _clipped(_network(scenario, seen.last.sent), planted, clip).double()
    total = -_flat(seen.last.received).double() * (taken.batch_size / training.lr)
    # everyone's part but the canaries' is known to the auditor
    known = torch.from_numpy(np.where(np.isin(np.arange(held), planted.canaries), 0.0, used))
    ways = gradients[planted.canaries]
    least = 1e-4 * clip**2 * torch.eye(len(ways), dtype=torch.float64)
    inverse = torch.linalg.inv(ways @ ways.T + least)
    parts = inverse @ (ways @ (total - known @ gradients))
    variances = len(batches) * max(noise * clip, 1e-6) ** 2 * inverse.diagonal()
    return parts.numpy(), variances.numpy()


def _likelihood(scenario: Scenario, records: int, parts: Scores, variances: Scores) -> Scores:
    """Log likelihood ratio that a canary was drawn with the scenario's chances, against never."""
    taken = scenario.participation(records)
    times = np.arange(taken.steps + 1)
    chances = binom.logpmf(times, taken.steps, taken.batch_size / taken.records)
    gain = (parts[:, None] * times - times**2 / 2) / variances[:, None]
    ratios: Scores = np.logaddexp.reduce(chances + gain, axis=1)
    return ratios


def _network(scenario: Scenario, weights: Mapping[str, Tensor]) -> nn.Sequential:
    schema = everyone(scenario).table.schema
    return load(
        scenario.model, schema.shape, schema.outputs, {name: tensor.clone() for name, tensor in weights.items()}
    )


def _clipped(network: nn.Sequential, planted: Planted, clip: float) -> Tensor:
    """Each record's clipped gradient at the network's weights, float32 (n, parameters)."""
    parameters = {name: tensor.detach() for name, tensor in network.named_parameters()}

    def one(values: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return loss(functional_call(network, values, (x[None],)), y[None])

    slopes = vmap(grad(one), in_dims=(None, 0, 0))(parameters, planted.inputs, planted.labels)
    flat = torch.cat([slope.flatten(1) for slope in slopes.values()], 1)
    cut: Tensor = flat * (clip / flat.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp_max(1)
    return cut


def _flat(tensors: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors.values()])


def note(found: Audit, folder: Path) -> None:
    """Write the bounds into a finished run's results, and its page again."""
    from fedinv.report import render
    from fedinv.results.run import Results

    results = Results.model_validate(files.read_json(folder / "results.json"))
    measured = results.privacy.model_copy(update={"lower_bounds": found.lower_bounds})
    files.write_json(folder / "results.json", results.model_copy(update={"privacy": measured}).model_dump(mode="json"))
    render(folder)


def show(found: Audit) -> None:
    """Print the verdict and a line for each epsilon."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    color = "red" if found.verdict == "FAIL" else "default"
    console.print(f"\n[bold {color}]{found.says}[/]\n", highlight=False)
    table = Table("epsilon", f"per {found.unit}, delta {found.delta:g}", "of", box=None)
    table.add_row(f"{found.claimed:.3f}", "claimed" + (" by the scenario" if found.quoted else " by the ledger"), "")
    if found.quoted and found.ledger is not None:
        table.add_row(f"{found.ledger:.3f}", "by the ledger, over all rounds", "")
    for name, bound in found.lower_bounds.items():
        right, guesses = found.right[name]
        table.add_row(f">= {bound:.3f}", name, f"{right} of {guesses} right, {found.canaries} canaries")
    console.print(table)
