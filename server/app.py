"""The ServerApp: finds its clients, runs the rounds, stores its observations, and resumes after a stop.

Run configuration: `scenario` (TOML text, a shipped name or a path) and `out` (the run's folder).
"""

import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import tomli_w
from flwr.app import ArrayRecord, ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp

from fedinv.attack import Knowledge, Question, Sample
from fedinv.errors import EndedError
from fedinv.federation import wire
from fedinv.federation.agreement import Agreement
from fedinv.federation.knowledge import public_knowledge
from fedinv.privacy import ledger as ledgers
from fedinv.storage import documents, files, lock
from fedinv.storage.checkpoints import Charges, read_progress, write_charges, write_vetting
from fedinv.storage.run_folder import RunFolder
from fedinv.task.models import build, state

from . import aggregation, registration, vetting
from .aggregation import Gathered
from .strategy import LeftOut, WiretapFedAvg

app = ServerApp()

patience = registration.patience
"""Seconds that so many clients may take to answer a question; for engines that end a client's work by themselves."""


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train the federation to its last round, from the last checkpoint in `out` where there is one.

    Raises RequestError while another server trains in the folder, RunError when clients are missing or disagree,
    EndedError when no update could be used in any round.
    """
    document = _document(str(context.run_config["scenario"]))
    agreement = Agreement.model_validate(document)
    out = context.run_config.get("out") or Path("runs") / f"{agreement.name}-flower"
    folder = RunFolder(Path(str(out)).resolve())
    with lock.locked(folder.root, name=lock.TRAINING):
        _train(grid, agreement, document, folder)


def _train(grid: Grid, agreement: Agreement, document: dict[str, Any], folder: RunFolder) -> None:
    """Train into the folder, which is this process's alone."""
    if not folder.scenario.is_file():
        files.write(folder.scenario, tomli_w.dumps(document))
    there = registration.register(grid, agreement.federation.clients)
    schema, nodes = there.schema, there.nodes
    files.write(folder.schema, schema.model_dump_json(indent=2) + "\n")
    granted, people = _sample(folder.auxiliary), _sample(folder.asked)

    def knows(round_: int) -> Knowledge:
        public = public_knowledge(
            agreement.model, agreement.training, agreement.federation, agreement.attacker, schema, round_
        )
        return replace(public, auxiliary=granted, question=None if people is None else Question(people=people))

    strategy = WiretapFedAvg(
        agreement=agreement, nodes=nodes, folder=folder.observations, absent=there.absent, knows=knows
    )
    done, seconds, arrays = _resume(folder, strategy)
    if arrays is None:
        network = build(agreement.model.fitted(schema), schema.shape, schema.outputs, agreement.seed)
        arrays = wire.pack(state(network))
    for round_ in range(done + 1, agreement.federation.rounds + 1):
        begun = time.monotonic()
        messages = list(strategy.configure_train(round_, arrays, ConfigRecord(), grid))
        wait = agreement.federation.round_seconds
        gathered = aggregation.gather(grid, messages, wait, agreement) if messages else Gathered([])
        aggregated, _ = strategy.aggregate_train(round_, gathered.replies, gathered.summed)
        arrays = aggregated or arrays
        seconds += time.monotonic() - begun
        _checkpoint(folder, round_, strategy, arrays, seconds)
    if strategy.used == 0:
        told = Counter(one.reason for one in strategy.left_out).most_common(1)
        reason = f"a client {told[0][0]}" if told else "nobody replied"
        raise EndedError(
            f"no client's update could be used in any round: {reason}; change the scenario, and run it in another "
            "folder"
        )
    asked = {client for round_ in range(1, agreement.federation.rounds + 1) for client in strategy.cohort(round_)}
    charged = _ledgers(grid, {client: nodes[client] for client in asked if client in nodes})
    if agreement.vetting:
        asking = {client: nodes[client] for client in sorted(asked) if client in nodes}
        write_vetting(folder.vetting, vetting.collected(grid, asking, agreement.vetting))
    write_charges(folder.ledger, charged)


def _sample(path: Path) -> Sample | None:
    """The records in a file of the run's folder that a malicious server has, where it is there."""
    if not path.is_file():
        return None
    tensors, _ = files.read_tensors(path)
    return Sample(tensors["records"], tensors["labels"])


def _document(scenario: str) -> dict[str, Any]:
    return documents.loads(scenario, "scenario") if "\n" in scenario else documents.document(scenario)[0]


def _ledgers(grid: Grid, nodes: dict[int, int]) -> Charges:
    """The privacy events charged to these clients; one that does not answer, or not with events, is silent."""
    clients = {node: client for client, node in nodes.items()}
    found: dict[int, ledgers.Ledger] = {}
    for reply in registration.asked(grid, "query.ledger", list(nodes.values())):
        with suppress(Exception):  # a client may send anything
            text = str(wire.record(reply.content, "ledger", ConfigRecord)["events"])
            found[clients[reply.metadata.src_node_id]] = ledgers.read(text)
    return Charges(
        clients={str(client): found[client] for client in sorted(found)}, silent=tuple(sorted(set(nodes) - set(found)))
    )


def _checkpoint(folder: RunFolder, round_: int, strategy: WiretapFedAvg, arrays: ArrayRecord, seconds: float) -> None:
    """Write a checkpoint: the model, then the file that points to it, so that a stop in between loses one round."""
    files.write_tensors(folder.model(round_), wire.unpack(arrays))
    if strategy.memory:
        files.write_tensors(folder.server_memory(round_), strategy.memory)
    progress = {
        "round": round_,
        "bytes_up": strategy.bytes_up,
        "used": strategy.used,
        "seconds": seconds,
        "left_out": [asdict(one) for one in strategy.left_out],
        "server_memory": bool(strategy.memory),
    }
    files.write_json(folder.progress, progress)
    folder.model(round_ - 1).unlink(missing_ok=True)
    folder.server_memory(round_ - 1).unlink(missing_ok=True)


def _resume(folder: RunFolder, strategy: WiretapFedAvg) -> tuple[int, float, ArrayRecord | None]:
    """Number of finished rounds, their seconds, and the global model after them, None without a checkpoint.

    The strategy gets its counts back. Raises RunError naming a file that is damaged.
    """
    progress = read_progress(folder, strategy.agreement.federation.rounds)
    if progress is None:
        return 0, 0.0, None
    strategy.bytes_up, strategy.used = progress.bytes_up, progress.used
    strategy.left_out = [LeftOut(one.round, one.client, one.reason) for one in progress.left_out]
    weights, _ = files.read_tensors(folder.model(progress.round))
    if progress.server_memory:
        strategy.memory, _ = files.read_tensors(folder.server_memory(progress.round))
    return progress.round, progress.seconds, wire.pack(weights)
