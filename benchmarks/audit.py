"""Error rates of the audit: how often it accuses a sound mechanism, and how often it detects half the noise.

200 seeded runs of each.

Each run sends 200 canary clients' updates through the defense's own code for four rounds. A bound is wrong where it
exceeds the mechanism's true epsilon; 95 % confidence allows 5 % of them.
"""

import numpy as np
import torch

from fedinv import plugins
from fedinv.defense import Defense, Sending
from fedinv.privacy.claims import epsilon
from fedinv.privacy.lower_bounds import Scores, gaussian, one_run
from fedinv.results.intervals import clopper_pearson

RUNS, CANARIES, ROUNDS, ENTRIES = 200, 200, 4, 400


def scores(defense: Defense, seed: int) -> tuple[Scores, np.ndarray]:
    rng = np.random.default_rng([seed, 1])
    coins = rng.random(CANARIES) < 0.5
    found = np.zeros(CANARIES)
    for client in range(CANARIES):
        way = torch.from_numpy(rng.standard_normal(ENTRIES)).float()
        way /= way.norm()
        update = {"w": 1e3 * (way if coins[client] else -way)}
        for round_ in range(1, ROUNDS + 1):
            sending = Sending(client, round_, (client,), 1, seed, np.random.default_rng([seed, client, round_]))
            found[client] += float(defense.protect(update, sending)["w"] @ way)
    return found, coins


def main() -> None:
    torch.set_num_threads(1)
    kinds = {
        "clip-noise, noise 2": ("clip-noise", {"noise_multiplier": 2.0}),
        "clip-noise, noise 6": ("clip-noise", {"noise_multiplier": 6.0}),
        "half the noise of 6": ("broken-noise", {"noise_multiplier": 6.0, "noise_share": 0.5}),
    }
    print(f"{RUNS} runs of {CANARIES} canary clients, {ROUNDS} rounds, delta 1e-5")
    for name, (kind, settings) in kinds.items():
        defense = plugins.load("defenses", kind).model_validate({"kind": kind, **settings})
        (event,) = defense.privacy_events(Sending(0, 1, (0,), 1, 1, np.random.default_rng()).taken)
        claimed = epsilon([event] * ROUNDS, event.delta)
        bounds = np.array(
            [
                [one_run(*pair, event.delta).epsilon, gaussian(*pair, event.delta).epsilon]
                for pair in (scores(defense, s) for s in range(RUNS))
            ]
        )
        failed = int((bounds.max(1) > claimed).sum())
        low, high = clopper_pearson(failed, RUNS)
        free, assumed = bounds.mean(0)
        print(f"{name:22} claimed {claimed:5.2f}  FAIL in {failed} of {RUNS} [{low:.1%}, {high:.1%}]", end="")
        print(f"  bounds in the mean: assumption-free {free:.2f}, Gaussian {assumed:.2f}")
