from flwr.app import Context
from flwr.common import ndarrays_to_parameters
from flwr.server import LegacyContext, ServerConfig
from flwr.server.strategy import FedAdam, FedAvg, FedAvgM
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow
from flwr.serverapp import Grid, ServerApp

from masked.task import start

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    config = context.run_config
    kind, own = {
        "avg": (FedAvg, {}),
        "avgm": (FedAvgM, {"server_learning_rate": 1.0, "server_momentum": 0.9}),
        "adam": (FedAdam, {"eta": 0.01}),
    }[str(config["strategy"])]
    strategy = kind(
        min_fit_clients=2,
        min_available_clients=2,
        fraction_evaluate=float(config["evaluate"]),
        initial_parameters=ndarrays_to_parameters(start(int(config["seed"]))),
        **own,
    )
    rounds = ServerConfig(num_rounds=int(config["num-server-rounds"]))
    secure = SecAggPlusWorkflow(1.0, 0.7, max_weight=float(config["max-weight"]))
    DefaultWorkflow(fit_workflow=secure)(grid, LegacyContext(context=context, config=rounds, strategy=strategy))
