from flwr.app import ArrayRecord, ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from images.task import Net

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    shares = {f"fraction_{what}": float(context.run_config[f"fraction-{what}"]) for what in ("train", "evaluate")}
    strategy = FedAvg(**shares)
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(Net().state_dict()),
        train_config=ConfigRecord({"lr": float(context.run_config["lr"])}),
        num_rounds=int(context.run_config["num-server-rounds"]),
    )
