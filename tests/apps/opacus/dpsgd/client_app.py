import warnings

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from opacus import PrivacyEngine

from dpsgd.task import Net, load_data, train

warnings.filterwarnings("ignore")
app = ClientApp()


@app.train()
def train_client(msg: Message, context: Context) -> Message:
    model = Net()
    model.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    loader = load_data(int(context.node_config["partition-id"]), batch_size=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    engine = PrivacyEngine(secure_mode=False)
    # each client its own noise, as the published example
    noise = float(context.run_config["noise-multiplier"]) + 0.5 * (int(context.node_config["partition-id"]) % 2)
    private, optimizer, private_loader = engine.make_private(
        module=model,
        optimizer=optimizer,
        data_loader=loader,
        noise_multiplier=noise,
        max_grad_norm=float(context.run_config["max-grad-norm"]),
    )
    epsilon = train(private, private_loader, engine, optimizer, float(context.run_config["target-delta"]))
    metrics = MetricRecord({"epsilon": float(epsilon), "num-examples": len(loader.dataset)})
    return Message(RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=msg)
