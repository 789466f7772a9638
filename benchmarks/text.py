"""Clinical notes read off one update: `python -m benchmarks text`, on ten seeds that nothing was tuned on."""

import time
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from clients.training.plain_training import plain_training
from fedinv.attack import Exchange, Knowledge, Observation
from fedinv.data.sources.clinical_notes import ClinicalNotes
from fedinv.federation.training import Job, Training
from fedinv.judge.matching import match
from fedinv.results.intervals import share_interval
from fedinv.task.models import build, state
from fedinv.task.networks.transformer import Decoder, Encoder
from server.attacks.span_tokens import SpanTokens

SEEDS = range(101, 111)
LR = 0.1
ADAPTED: Final = ("query", "value", "wide")
"""Layers with adapters, unless it says other ones."""


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    name: str
    """The row's first cell."""
    model: Decoder | Encoder
    """The network."""
    batch: int
    """Notes of 32 tokens in the update."""
    top: float = 1.0
    """Share of the update's entries that is sent, the largest ones."""
    epochs: int = 1
    """Local steps, each on all notes."""


CASES = (
    Case("decoder", Decoder(), 1),
    Case("decoder", Decoder(), 4),
    Case("decoder", Decoder(), 8),
    Case("decoder", Decoder(), 16),
    Case("decoder, width 768", Decoder(width=768), 16),
    Case("decoder, 5 local steps", Decoder(), 1, epochs=5),
    Case("encoder", Encoder(), 1),
    Case("encoder", Encoder(), 2),
    Case("encoder", Encoder(), 3),
    Case("encoder", Encoder(), 4),
    Case("encoder", Encoder(), 5),
    Case("encoder", Encoder(), 6),
    Case("decoder, LoRA rank 8", Decoder(lora_rank=8, adapted=ADAPTED), 1),
    Case("decoder, LoRA rank 32", Decoder(lora_rank=32, adapted=ADAPTED), 1),
    Case("decoder, LoRA rank 64", Decoder(lora_rank=64, adapted=ADAPTED), 1),
    Case("decoder, LoRA rank 256", Decoder(lora_rank=256, adapted=ADAPTED), 4),
    Case("decoder, LoRA rank 256 at query and value alone", Decoder(lora_rank=256), 4),
    Case("decoder, top 10 % of the entries", Decoder(), 1, 0.1),
)


def main() -> None:
    """Print a row for each case: exact notes, words right beside the positional guess, seconds of the CPU."""
    torch.set_num_threads(1)
    for case in CASES:
        found = [_one(case, seed) for seed in SEEDS]
        exact, words, guess, seconds = (np.concatenate([one[i] for one in found]) for i in range(4))
        low, high = share_interval(exact, np.repeat(np.arange(len(found)), case.batch))
        print(
            f"{case.name}, batch {case.batch}: exact {int(exact.sum())} of {len(exact)} [{low:.0%}-{high:.0%}], "
            f"words {words.mean():.1%}, guess {guess.mean():.1%}, CPU s {seconds.mean():.1f}",
            flush=True,
        )


def _one(case: Case, seed: int) -> tuple[np.ndarray, ...]:
    table = ClinicalNotes(source="clinical-notes", records=200).load(seed)
    schema, rng = table.schema, np.random.default_rng(seed)
    rows = rng.permutation(200)[: case.batch]
    notes = schema.encode(table.columns)[rows]
    network = build(case.model, schema.shape, schema.outputs, seed)
    sent = {name: tensor.clone() for name, tensor in state(network).items()}
    training = Training("fedsgd" if case.epochs == 1 else "fedavg", case.epochs, case.batch, LR)
    labels = schema.encode_labels(table.labels)[rows]
    update = plain_training(Job(network, notes, labels, (np.arange(case.batch),) * case.epochs, training, rng))
    if case.top < 1:
        size = torch.cat([tensor.abs().flatten() for tensor in update.values()])
        edge = float(size.kthvalue(round((1 - case.top) * len(size))).values)
        update = {name: tensor * (tensor.abs() > edge) for name, tensor in update.items()}
    knows = Knowledge(
        model=case.model,
        loss="cross-entropy",
        schema=schema,
        algorithm=training.algorithm,
        lr=LR,
        epochs=case.epochs,
        batch_size=case.batch,
    )
    start = time.process_time()
    seen = Observation((0,), (Exchange(1, sent, update, case.batch),))
    claim = SpanTokens().run(seen, knows, np.random.default_rng(seed), lambda _: None)
    seconds = time.process_time() - start
    truth = schema.decode(notes)
    found, blind = match(claim.records, truth, schema, 0.0), match(schema.guess(case.batch), truth, schema, 0.0)
    guess = blind.right.mean(1)
    words = np.where(found.claimed, found.right.mean(1), guess)
    return found.exact.astype(float), words, guess, np.array([seconds])
