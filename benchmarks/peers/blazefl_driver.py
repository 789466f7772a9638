"""Runs the workload on blazefl's own FedAvg with its sequential trainer."""

import blazefl.contrib.fedavg as fedavg
from torch.utils.data import DataLoader, TensorDataset
from workload import BATCH, LR, arguments, data, model, now, report

asked = arguments()
inputs, labels = data(asked.clients)
fedavg.tqdm = lambda items, **_: items


class Held:
    """The clients' records, in blazefl's interface."""

    def get_dataset(self, type_, cid):
        """The records of one client."""
        return TensorDataset(inputs[cid or 0], labels[cid or 0])

    def set_dataset(self, type_, cid, dataset):
        """Do nothing: the records never change."""

    def get_dataloader(self, type_, cid, batch_size=None, generator=None):
        """The records of one client, in shuffled batches."""
        return DataLoader(self.get_dataset(type_, cid), batch_size or BATCH, shuffle=True, generator=generator)


class Choice:
    """The workload's network, in blazefl's interface."""

    def select_model(self, model_name):
        """The same network for every name."""
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
