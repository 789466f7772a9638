from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from tabular.task import IncomeClassifier, evaluate, load_data, train

app = ClientApp()


@app.train()
def train_client(msg: Message, context: Context) -> Message:
    model = IncomeClassifier()
    model.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    loader, _ = load_data(int(context.node_config["partition-id"]), int(context.run_config["rows"]))
    train(model, loader)
    # as the published example does: the number of batches
    metrics = MetricRecord({"num-examples": len(loader)})
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
    return Message(content=content, reply_to=msg)


@app.evaluate()
def evaluate_client(msg: Message, context: Context) -> Message:
    model = IncomeClassifier()
    model.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    _, loader = load_data(int(context.node_config["partition-id"]), int(context.run_config["rows"]))
    loss, accuracy = evaluate(model, loader)
    metrics = MetricRecord({"loss": loss, "accuracy": accuracy, "num-examples": len(loader)})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=msg)
