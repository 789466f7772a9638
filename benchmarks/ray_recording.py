"""Runs an app on Flower's simulation with Ray and records it: APP OUT NODES, with the app's folder on PYTHONPATH."""

import sys
from pathlib import Path

from flwr.simulation import run_simulation

from fedinv.recording import app as apps
from fedinv.recording.wrapped import RecordedClientApp, RecordedServerApp

if __name__ == "__main__":
    declared, out, nodes = apps.read(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    with apps.loaded(declared) as (server, client):
        server_app = RecordedServerApp(server, out / "server", declared.config)
        client_app = RecordedClientApp(client, out / "clients", declared.config)
        resources = {"num_cpus": 1, "num_gpus": 0.0}
        run_simulation(server_app, client_app, nodes, backend_config={"client_resources": resources})
