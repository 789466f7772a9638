"""blazefl's FedAvg as it comes with it and its sequential trainer."""

import blazefl.contrib.fedavg as fedavg
from torch.utils.data import DataLoader, TensorDataset
from workload import BATCH, LR, arguments, data, model, now, report

asked = arguments()
inputs, labels = data(asked.clients)
fedavg.tqdm = lambda items, **_: items


class Held:
    """Each client's records."""

    def get_dataset(self, type_, cid):
        """Those of one client."""
        return TensorDataset(inputs[cid or 0], labels[cid or 0])

    def set_dataset(self, type_, cid, dataset):
        """Nothing is put back."""

    def get_dataloader(self, type_, cid, batch_size=None, generator=None):
        """In batches."""
        return DataLoader(self.get_dataset(type_, cid), batch_size or BATCH, shuffle=True, generator=generator)


class Choice:
    """The one network."""

    def select_model(self, model_name):
        """Whatever it is called."""
        return model()


server = fedavg.FedAvgBaseServerHandler(Choice(), "mlp", Held(), asked.rounds, asked.clients, 1.0, "cpu", BATCH, 0)
trainer = fedavg.FedAvgBaseClientTrainer(Choice(), "mlp", Held(), "cpu", asked.clients, 1, BATCH, LR, 0)
began, ends = now(), []
while not server.if_stop():
    trainer.local_process(server.downlink_package(), server.sample_clients())
    for package in trainer.uplink_package():
        server.load(package)
    ends.append(now())
report(asked.clients, began, ends)
