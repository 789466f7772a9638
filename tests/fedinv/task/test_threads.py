import numpy as np
import torch

import fedinv
from fedinv.task.threads import one_thread


def test_within_it_there_is_one_thread_and_afterwards_as_many_as_before():
    torch.set_num_threads(2)
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_attacks_on_updates_of_ones_own_compute_with_one_thread(tmp_path):
    network, counts = torch.nn.Sequential(torch.nn.Linear(6, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2)), set()
    sent = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    torch.nn.functional.cross_entropy(network(torch.randn(2, 6)), torch.tensor([0, 1])).backward()
    back = {name: sent[name] - 0.1 * weight.grad for name, weight in network.named_parameters()}
    for name, arrays in {"sent": sent, "back": back}.items():
        np.savez(tmp_path / f"{name}.npz", **{one: tensor.detach().numpy() for one, tensor in arrays.items()})
    fedinv.import_files(tmp_path / "sent.npz", [tmp_path / "back.npz"], out=tmp_path / "mine", records=2)
    torch.set_num_threads(2)
    fedinv.attack_recording(
        tmp_path / "mine", network, seconds=5, progress=lambda share: counts.add(torch.get_num_threads())
    )
    change = {name: (back[name] - sent[name]).detach() for name in sent}
    model = {"kind": "mlp", "hidden": [32]}
    fedinv.invert(change, sent=sent, model=model, records=2, progress=lambda share: counts.add(torch.get_num_threads()))
    assert counts == {1}
    assert torch.get_num_threads() == 2
