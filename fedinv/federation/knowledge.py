"""What a scenario lets its attacker know before the first update: the same to the server, and to attacks afterwards."""

from fedinv.attack import Knowledge
from fedinv.federation.agreement import Attacker, Federation, TrainingTable
from fedinv.task.models import AnyModel
from fedinv.task.schema import Schema


def public_knowledge(
    model: AnyModel, training: TrainingTable, federation: Federation, attacker: Attacker, schema: Schema, round_: int
) -> Knowledge:
    """Knowledge of network, training and schema in a round, counted from 1; of no defense, and no record."""
    knows, rounds = set(attacker.knows), federation.rounds
    lr, lrs = "lr" in knows, tuple(training.round_lr(one, rounds) for one in range(1, rounds + 1))
    return Knowledge(
        model=model.fitted(schema) if "architecture" in knows else None,
        loss=schema.loss if "loss" in knows else None,
        schema=schema if "schema" in knows else None,
        algorithm=training.algorithm,
        lr=training.round_lr(round_, rounds) if lr else None,
        momentum=training.momentum if lr else None,
        weight_decay=training.weight_decay if lr else None,
        optimizer=training.optimizer if lr else None,
        proximal=training.proximal if lr else None,
        schedule=training.local_schedule if lr else None,
        round_lrs=lrs if lr and len(set(lrs)) > 1 else None,
        class_weights=(training.weights or None) if "loss" in knows else None,
        batch_size=training.batch_size if "batch-size" in knows else None,
        epochs=training.epochs if "epochs" in knows else None,
    )
