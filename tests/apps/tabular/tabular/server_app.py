from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from tabular.task import IncomeClassifier

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    strategy = FedAvg(min_train_nodes=2, min_evaluate_nodes=2, min_available_nodes=2)
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(IncomeClassifier().state_dict()),
        num_rounds=int(context.run_config["num-server-rounds"]),
    )
    print("trained", len(result.arrays), "arrays")
