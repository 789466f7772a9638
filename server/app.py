"""The ServerApp: finds its clients, runs the rounds, stores its observations, and resumes after a stop.

Run configuration: `scenario` (TOML text, a shipped name or a path) and `out` (the run's folder).
"""

import json
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tomli_w
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from fedinv.errors import RunError
from fedinv.federation import wire
from fedinv.federation.agreement import Agreement
from fedinv.storage import documents, files
from fedinv.storage.run_folder import RunFolder
from fedinv.task.models import build, state
from fedinv.task.schema import Schema

from . import aggregation
from .messaging import ask
from .strategy import LeftOut, WiretapFedAvg

app = ServerApp()

REGISTRATION_SECONDS = 300.0
"""Seconds to wait for clients' answers, beside ten for each of them."""


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train the federation to its last round, from the last checkpoint in `out` where there is one.

    Raises RunError when clients are missing or disagree, or when no update could be used in any round.
    """
    document = _document(str(context.run_config["scenario"]))
    agreement = Agreement.model_validate(document)
    out = context.run_config.get("out") or Path("runs") / f"{agreement.name}-flower"
    folder = RunFolder(Path(str(out)).resolve())
    if not folder.scenario.is_file():
        files.write(folder.scenario, tomli_w.dumps(document))
    nodes, schema = _register(grid, agreement.federation.clients)
    files.write(folder.schema, schema.model_dump_json(indent=2) + "\n")
    strategy = WiretapFedAvg(agreement=agreement, nodes=nodes, folder=folder.observations)
    done, seconds, arrays = _resume(folder, strategy)
    if arrays is None:
        network = build(agreement.model, schema.shape, schema.outputs, agreement.seed)
        arrays = wire.pack(state(network))
    for round_ in range(done + 1, agreement.federation.rounds + 1):
        begun = time.monotonic()
        messages = strategy.configure_train(round_, arrays, ConfigRecord(), grid)
        gathered = aggregation.gather(grid, list(messages), agreement.federation.round_seconds, agreement)
        aggregated, _ = strategy.aggregate_train(round_, gathered.replies, gathered.summed)
        arrays = aggregated or arrays
        seconds += time.monotonic() - begun
        _checkpoint(folder, round_, strategy, arrays, seconds)
    if strategy.used == 0:
        told = Counter(one.reason for one in strategy.left_out).most_common(1)
        reason = f"a client {told[0][0]}" if told else "nobody replied"
        raise RunError(f"no client's update could be used in any round: {reason}")
    asked = {client for round_ in range(1, agreement.federation.rounds + 1) for client in strategy.cohort(round_)}
    files.write_json(folder.ledger, {"clients": _ledgers(grid, {client: nodes[client] for client in asked})})


def _document(scenario: str) -> dict[str, Any]:
    return documents.loads(scenario, "scenario") if "\n" in scenario else documents.document(scenario)[0]


def _register(grid: Grid, clients: int) -> tuple[dict[int, int], Schema]:
    """Wait for all clients; return the node id of each client, and the schema that all of them use.

    Nodes of further partitions are ignored: a deployment may have more than a scenario needs. Raises RunError for a
    client that cannot take part or does not appear in time, and for clients that disagree.
    """
    deadline = time.monotonic() + patience(clients)
    nodes: dict[int, int] = {}
    schemas: set[str] = set()
    met: set[int] = set()
    while len(nodes) < clients:
        new = [node for node in grid.get_node_ids() if node not in met]
        met |= set(new)
        for reply in _ask(grid, "query.register", new):
            if reply.has_error():
                raise RunError(f"a client cannot take part: {(reply.error.reason or '').strip().splitlines()[0]}")
            node = wire.record(reply.content, "node", ConfigRecord)
            partition = int(node["partition-id"])  # type: ignore[arg-type]
            if partition in nodes:
                raise RunError(f"two nodes say that they are client {partition}: give each a partition-id of its own")
            if partition < clients:
                nodes[partition] = reply.metadata.src_node_id
                schemas.add(str(node["schema"]))
        if len(nodes) < clients:
            if time.monotonic() > deadline:
                missing = [client for client in range(clients) if client not in nodes]
                raise RunError(f"only {len(nodes)} of {clients} clients appeared: client {missing[0]} is missing")
            time.sleep(0.2)
    if len(schemas) > 1:
        raise RunError("the clients do not agree on the schema of their records")
    return nodes, Schema.model_validate_json(schemas.pop())


def _ledgers(grid: Grid, nodes: dict[int, int]) -> dict[str, list[dict[str, Any]]]:
    """The privacy events charged to these clients, by client; one that does not answer is missing."""
    clients = {node: client for client, node in nodes.items()}
    found = {
        clients[reply.metadata.src_node_id]: json.loads(
            str(wire.record(reply.content, "ledger", ConfigRecord)["events"])
        )
        for reply in _ask(grid, "query.ledger", list(nodes.values()))
        if not reply.has_error()
    }
    return {str(client): found[client] for client in sorted(found)}


def _ask(grid: Grid, what: str, nodes: list[int]) -> list[Message]:
    messages = [Message(RecordDict(), node, what, group_id=what) for node in nodes]
    return ask(grid, messages, patience(len(nodes)))


def patience(clients: int) -> float:
    """Seconds that so many clients may take to answer a question.

    Each may have to start a process first, which many on few or busy cores do one after another.
    """
    return REGISTRATION_SECONDS + 10.0 * clients


def _checkpoint(folder: RunFolder, round_: int, strategy: WiretapFedAvg, arrays: ArrayRecord, seconds: float) -> None:
    """Write a checkpoint: the model, then the file that points to it, so that a stop in between loses one round."""
    files.write_tensors(folder.model(round_), wire.unpack(arrays))
    progress = {
        "round": round_,
        "bytes_up": strategy.bytes_up,
        "used": strategy.used,
        "seconds": seconds,
        "left_out": [asdict(one) for one in strategy.left_out],
    }
    files.write_json(folder.progress, progress)
    folder.model(round_ - 1).unlink(missing_ok=True)


def _resume(folder: RunFolder, strategy: WiretapFedAvg) -> tuple[int, float, ArrayRecord | None]:
    """Number of finished rounds, their seconds, and the global model after them, None without a checkpoint.

    The strategy gets its counts back.
    """
    if not folder.progress.is_file():
        return 0, 0.0, None
    progress = files.read_json(folder.progress)
    strategy.bytes_up, strategy.used = progress["bytes_up"], progress["used"]
    strategy.left_out = [LeftOut(**one) for one in progress["left_out"]]
    weights, _ = files.read_tensors(folder.model(progress["round"]))
    return progress["round"], progress["seconds"], wire.pack(weights)
