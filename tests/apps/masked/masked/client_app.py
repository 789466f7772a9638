from flwr.app import Context
from flwr.client import NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp

from masked.task import load_data, network, train


class FlowerClient(NumPyClient):
    def __init__(self, x, y, config):
        self.x, self.y, self.config = x, y, config

    def fit(self, parameters, config):
        net = network(parameters)
        train(net, self.x, self.y, float(self.config["lr"]), int(self.config["local-epochs"]))
        return [tensor.numpy() for tensor in net.state_dict().values()], len(self.x), {}

    def evaluate(self, parameters, config):
        return 0.0, len(self.x), {}


def client_fn(context: Context):
    own = int(context.node_config["partition-id"])
    x, y = load_data(own, int(context.run_config["rows"]) + own % 2, int(context.run_config["seed"]))
    return FlowerClient(x, y, context.run_config).to_client()


app = ClientApp(client_fn=client_fn, mods=[secaggplus_mod])
