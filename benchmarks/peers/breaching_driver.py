"""Runs breaching's inverting-gradients attack on a case in a .npz file: needs torch, numpy and breaching, no fedinv.

``python breaching_driver.py CASE.npz RESULT.npz``. The case holds the network's layers as JSON, weights w0.. and their
gradients g0.., labels, the records' shape, mean and standard deviation of the pixels (nan for a table), iterations and
the weight of the total variation. The result holds the records and the CPU seconds of the search.
"""

import json
import sys
import time
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

LAYERS = {
    "linear": nn.Linear,
    "conv": nn.Conv2d,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "pool": nn.MaxPool2d,
    "flatten": nn.Flatten,
}


def network(layers: list[list]) -> nn.Sequential:
    """Build a network from rows of a layer's name and its arguments."""
    return nn.Sequential(*(LAYERS[name](*arguments) for name, *arguments in layers))


def main(case_path: str, result_path: str) -> None:
    import breaching

    torch.set_num_threads(1)
    torch.manual_seed(0)
    with np.load(case_path) as file:
        case = dict(file)
    model = network(json.loads(str(case["layers"])))
    count = len(list(model.parameters()))
    weights, gradients = ([torch.from_numpy(case[f"{kind}{i}"]) for i in range(count)] for kind in "wg")
    image = not np.isnan(case["mean"]).any()
    settings = [
        f"optim.max_iterations={int(case['iterations'])}",
        f"optim.boxed={image}",
        f"regularization.total_variation.scale={float(case['variation'])}",
    ]
    config = breaching.get_attack_config("invertinggradients", settings)
    labels = torch.from_numpy(case["labels"])
    shared = {"num_data_points": len(labels), "labels": labels, "local_hyperparams": None}
    meta = SimpleNamespace(shape=case["shape"].tolist(), modality="vision")
    if image:
        meta.mean, meta.std = case["mean"].tolist(), case["std"].tolist()
    setup = {"dtype": torch.float, "device": torch.device("cpu")}
    attacker = breaching.attacks.prepare_attack(model, nn.CrossEntropyLoss(), config, setup)
    payload = [{"parameters": weights, "buffers": None, "metadata": meta}]
    begun = time.process_time()
    found, _ = attacker.reconstruct(payload, [{"gradients": gradients, "buffers": None, "metadata": shared}], {})
    seconds = time.process_time() - begun
    np.savez(result_path, records=found["data"].detach().numpy(), seconds=seconds)


if __name__ == "__main__":
    main(*sys.argv[1:])
