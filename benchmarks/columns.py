"""Records that come back behind an FT-Transformer, beside the guess.

Seeds 101 to 110, which nothing was tuned on; hospital, 63 inputs in 25 columns, one step of FedSGD. Then behind dp-sgd,
whose epsilon of 8 is spent on a single round, so that its noise is the smallest it can be; and the guess of those runs.
"""

import sys
import tempfile
import time

import numpy as np
import torch

import fedinv
from benchmarks.attacking import build
from benchmarks.victims import victim
from fedinv.results.intervals import share_interval

SEEDS = range(101, 111)
MODEL = "model={kind='ft-transformer'%s}"


def main() -> None:
    """Batches of 8 to 32 at two blocks and one; with --quick those of 8 at two blocks alone."""
    torch.set_num_threads(1)
    cases = [(8, ""), (8, ",blocks=1"), (16, ""), (32, "")]
    for size, keys in cases[: 1 if "--quick" in sys.argv else None]:
        exact, clients, verified, wrong, seconds = [], [], 0, 0, []
        for seed in SEEDS:
            settings = ["training.algorithm=fedsgd", "training.records_per_client=64", f"training.batch_size={size}"]
            one = victim("hospital", [MODEL % keys, *settings, f"seed={seed}"])
            begun = time.process_time()
            claim = one.attacked(build("column-tokens"))
            seconds.append(time.process_time() - begun)
            found = one.judged(claim)
            exact.append(found.exact.astype(float))
            clients.append(np.full(len(found.exact), seed))
            verified += int(claim.verified.sum())
            wrong += len(claim.records) - int(found.exact.sum())
        each = np.concatenate(exact)
        low, high = share_interval(each, np.concatenate(clients))
        print(
            f"{size} records{keys.replace(',', ', ')}: exact {int(each.sum())} of {len(each)} = {each.mean():.1%} "
            f"[{low:.1%}, {high:.1%}], verified {verified}, claimed and not exact {wrong}, "
            f"CPU {np.mean(seconds):.1f} s (longest {max(seconds):.1f})",
            flush=True,
        )
    for seed in SEEDS[: 2 if "--quick" in sys.argv else None]:
        scenario = fedinv.load(
            "hospital",
            seed=seed,
            model={"kind": "ft-transformer"},
            training={"algorithm": "fedsgd", "batch_size": 8, "lr": 0.05},
            federation={"clients": 5, "rounds": 1},
            attacker={"watch": {"rounds": [1], "clients": 2}},
            defenses=["dp-sgd:epsilon=8"],
            attacks=["column-tokens"],
        )
        with tempfile.TemporaryDirectory() as folder:
            results = fedinv.run(scenario, out=f"{folder}/run", progress=False).results
        for one in results.attacks:
            fields = one.field_accuracy
            print(
                f"dp-sgd, epsilon {results.privacy.epsilon:.2f}, seed {seed}, {one.variant}: {one.claimed} claimed, "
                f"exact {one.exact.value:.3f}, fields {fields.value:.3f} (guess {fields.prior:.3f}) of {one.records}",
                flush=True,
            )
