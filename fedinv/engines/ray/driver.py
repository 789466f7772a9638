"""The process in which Flower's simulation and Ray run, started by the engine `ray` and by nobody else.

It reads one order, a JSON line on stdin, and writes JSON lines on stdout: ``{"round": 3}`` after each client's
training, and at last ``{"done": true}`` or ``{"error": "RunError", "message": "..."}``.

It uses the link state, grid, workers and Ray actors of Flower's simulation (flwr 1.41, below `run_simulation`, which
offers none of these changes): a worker that dies is replaced and its client tried once more, one whose client does not
reply in time is replaced, and the simulation ends with the server, whatever a client still does.
"""

import json
import logging
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from queue import Queue
from typing import Any

import ray
import torch
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.compat.client.run_info_store import DeprecatedRunInfoStore, RunInfo
from flwr.proto.task_pb2 import Task  # pylint: disable=no-name-in-module
from flwr.server.superlink.fleet.vce import vce_api
from flwr.server.superlink.fleet.vce.backend.raybackend import RayBackend
from flwr.server.superlink.fleet.vce.metrics import VceMetrics
from flwr.server.superlink.linkstate import LinkStateFactory
from flwr.server.superlink.linkstate.in_memory_linkstate import RunRecord
from flwr.serverapp import ServerApp
from flwr.simulation.ray_transport.ray_actor import BasicActorPool, ClientAppActor
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME, NOOP_FEDERATION_ID
from flwr.supercore.date import now
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.grid import InMemoryGrid
from ray.exceptions import RayError

from fedinv import roles
from fedinv.engines.ray import connection
from fedinv.engines.ray.worker import client_app
from fedinv.engines.replies import failed
from fedinv.errors import RequestError, RunError
from fedinv.scenario.reading import loads
from fedinv.scenario.scenario import Scenario

_RUN_ID = _TASK_ID = 1
_TRIES = 2
"""Times that a message is run before its client counts as failed."""

Tell = Callable[..., None]
"""Function that sends its keyword arguments to the engine as a JSON object."""


class Actors(RayBackend):
    """Flower's pool of Ray actors, at most as many as clients train at once."""

    def __init__(self, resources: Mapping[str, float], most: int, seconds: Mapping[str, float], tell: Tell) -> None:
        """A pool of up to `most` actors with these resources each.

        `seconds` says, by the first part of a message's type, how long its reply may take.
        """
        super().__init__({"client_resources": dict(resources)})
        self._most, self._seconds, self._tell = most, seconds, tell

    def build(self, app_fn: Callable[[], ClientApp]) -> None:
        """Start the actors and keep those that come up in time. Raises RunError when none does."""
        self.app_fn = app_fn
        self.pool = pool = BasicActorPool(ClientAppActor, self.client_resources, self.actor_kwargs)
        pool.add_actors_to_pool(min(pool.actors_capacity, self._most))
        actors: list[Any] = list(pool.pool)
        started = {actor.__ray_ready__.remote(): actor for actor in actors}
        ready, late = ray.wait(list(started), num_returns=len(started), timeout=self._seconds["query"])
        for one in late:
            ray.kill(started[one])
        if not ready:
            raise RunError(
                f"Ray started no worker within {self._seconds['query']:g} s: all its CPUs or GPUs are taken, or its "
                f"machines are too slow"
            )
        ray.get(ready)
        pool.pool, pool.num_actors = [started[one] for one in ready], len(ready)

    def process_message(self, message: Message, context: Context) -> tuple[Message, Context]:
        """Run a client's message on a free actor and return the reply and the client's context.

        An actor that dies or does not reply in time is replaced; after a death the message is tried once more. A
        message without a reply gets an error as its reply.
        """
        pool: Any = self.pool
        actor, reply, why = pool.pool.pop(), None, ""
        ends = message.metadata.created_at + self._seconds[message.metadata.message_type.split(".")[0]]
        try:
            for _ in range(_TRIES):
                left = ends - now().timestamp()
                if reply is not None or left <= 0:
                    break
                try:
                    _, reply, context = ray.get(actor.run.remote(self.app_fn, message, "", context), timeout=left)
                except RayError as error:
                    cause = getattr(error, "cause", error)
                    why = f"{type(cause).__name__}: {cause}"
                    ray.kill(actor)
                    actor = pool.create_actor_fn()
        finally:
            pool.pool.append(actor)
        if reply is None:
            reply = failed(message, "no reply in time" if now().timestamp() > ends else why)
        if "arrays" in message.content.array_records:  # the one message of a round that trains
            self._tell(round=int(message.metadata.group_id))
        return reply, context


def check(machines: Iterable[Mapping[str, float]], cpus: float, gpus: float) -> None:
    """Raise RequestError unless one of the machines, by Ray's resource names, has the CPUs and GPUs of a client."""
    there = [(machine.get("CPU", 0), machine.get("GPU", 0)) for machine in machines]
    if any(has_cpus >= cpus and has_gpus >= gpus for has_cpus, has_gpus in there):
        return
    most_cpus, most_gpus = (max((has[i] for has in there), default=0) for i in (0, 1))
    if cpus > most_cpus:
        raise RequestError(f"--client-cpus {cpus}: no machine has that many, the largest has {most_cpus:g}")
    if gpus > most_gpus:
        raise RequestError(f"--client-gpus {gpus:g}: no machine has that many, the largest has {most_gpus:g}")
    raise RequestError(f"--client-cpus {cpus} --client-gpus {gpus:g}: no machine has both, ask for less of one")


def simulate(scenario: Scenario, out: str, options: Mapping[str, Any], tell: Tell) -> None:
    """Run the federation on the Ray cluster that this process is connected to, writing to the folder `out`.

    Raises RequestError for resources that no machine has, RunError when no worker starts or no client can be used.
    """
    machines: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    check((one["Resources"] for one in machines if one["Alive"]), options["client_cpus"], options["client_gpus"])
    server = roles.load("server", "app")
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = _RUN_ID, SUPERLINK_NODE_ID, _TASK_ID
    federation, config = scenario.federation, {"scenario": scenario.to_toml(), "out": out}
    resources = {"num_cpus": options["client_cpus"], "num_gpus": options["client_gpus"]}
    seconds = {"train": federation.round_seconds, "query": server.patience(federation.clients)}
    actors = Actors(resources, federation.participants, seconds, tell)
    actors.build(client_app)

    run = Run.create_empty(_RUN_ID)
    run.primary_task_id, run.federation_id = _TASK_ID, NOOP_FEDERATION_ID
    links = LinkStateFactory(FLWR_IN_MEMORY_DB_NAME, NoOpFederationManager(), ObjectStoreFactory())
    state: Any = links.state()
    state.run_ids[_RUN_ID] = RunRecord(run=run)
    state.task_store[_TASK_ID] = Task(task_id=_TASK_ID, run_id=_RUN_ID)
    partitions = vce_api._register_nodes(federation.clients, links)
    nodes = {node: _node(node, partition, len(partitions), config) for node, partition in partitions.items()}

    stop, asked, answered = threading.Event(), Queue[Message](), Queue[Message]()
    work = (asked, answered, nodes, actors, stop, VceMetrics())
    _start(vce_api.add_messages_to_queue, state, asked, partitions, stop)
    _start(vce_api.put_message_into_state, state, answered, stop)
    for _ in range(actors.num_workers):
        _start(vce_api.worker, *work)
    grid = InMemoryGrid(links)
    grid.set_run(run)
    app: ServerApp = server.app
    app(grid, Context(_RUN_ID, SUPERLINK_NODE_ID, {}, RecordDict(), dict(config)))


def _node(node: int, partition: int, partitions: int, config: Mapping[str, Any]) -> DeprecatedRunInfoStore:
    """Flower's record of a node: its partition, and its state from message to message."""
    place: dict[str, Any] = {"partition-id": partition, "num-partitions": partitions}
    store = DeprecatedRunInfoStore(node, place)
    context = Context(_RUN_ID, node, place, RecordDict(), dict(config))
    store.run_infos[_RUN_ID] = RunInfo(context, dict(config))
    return store


def _start(function: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()


def _end_with_the_engine() -> None:
    """Wait until the engine closes stdin, however it ended, then kill this process's group, Ray included."""
    sys.stdin.read()
    shutil.rmtree(Path.cwd(), ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Carry out the order on stdin, report on stdout, and exit."""
    pipe = os.dup(1)
    os.dup2(2, 1)  # prints of Ray and Flower must not mix with the reports

    def tell(**told: Any) -> None:
        os.write(pipe, json.dumps(told).encode() + b"\n")

    order = json.loads(sys.stdin.readline())
    _start(_end_with_the_engine)
    logging.getLogger("flwr").setLevel(logging.CRITICAL)
    torch.set_num_threads(1)
    try:
        address = order["options"]["ray_address"]
        connection.start(str(Path.cwd())) if address is None else connection.join(address)
        simulate(loads(order["scenario"]), order["out"], order["options"], tell)
        tell(done=True)
    except (RequestError, RunError) as error:
        tell(error=type(error).__name__, message=str(error))
    except Exception as error:
        traceback.print_exc()
        tell(error="RunError", message=f"Flower's simulation on Ray failed ({type(error).__name__}: {error})")
    signal.alarm(10)  # where Ray does not end by itself
    ray.shutdown()
    os._exit(0)  # without waiting for a client that hangs
