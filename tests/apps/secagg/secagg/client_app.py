from flwr.app import Context
from flwr.client import NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp

from secagg.task import load_data, train


class FlowerClient(NumPyClient):
    def __init__(self, x, y, lr):
        self.x, self.y, self.lr = x, y, lr

    def fit(self, parameters, config):
        found, loss = train(parameters, self.x, self.y, self.lr)
        return found, len(self.x), {"loss": loss}

    def evaluate(self, parameters, config):
        _, loss = train(parameters, self.x, self.y, self.lr)
        return loss, len(self.x), {"again": loss}


def client_fn(context: Context):
    x, y = load_data(int(context.node_config["partition-id"]))
    return FlowerClient(x, y, float(context.run_config["lr"])).to_client()


app = ClientApp(client_fn=client_fn, mods=[secaggplus_mod])
