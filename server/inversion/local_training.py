"""What the attacker's knowledge says of a client's local training: its steps, their length, and the weight decay."""

import math

from fedinv.attack import Knowledge


def step_length(knows: Knowledge, records: int) -> float | None:
    """Learning rate summed over a client's local steps; None where too little is known.

    With momentum m step t of T counts (1 - m^(T - t)) / (1 - m) times, as its gradient lives on.
    """
    if knows.lr is None:
        return None
    if knows.algorithm == "fedsgd":
        return knows.lr
    if knows.epochs is None or knows.batch_size is None:
        return None
    steps = knows.epochs * math.ceil(records / knows.batch_size)
    m = knows.momentum or 0.0
    return knows.lr * sum((1 - m ** (steps - t)) / (1 - m) for t in range(steps))


def local_steps(knows: Knowledge, records: int) -> int | None:
    """How many steps a client with these records took; None where too little is known."""
    if knows.algorithm == "fedsgd":
        return 1
    if knows.epochs is None or knows.batch_size is None:
        return None
    return knows.epochs * math.ceil(records / knows.batch_size)


def decay(knows: Knowledge, records: int) -> float:
    """What known weight decay alone would do to a weight of 1: training is linear in it."""
    if not knows.weight_decay or knows.lr is None:
        return 0.0
    steps = 1
    if knows.algorithm != "fedsgd":
        if knows.epochs is None or knows.batch_size is None:
            return 0.0
        steps = knows.epochs * math.ceil(records / knows.batch_size)
    weight, velocity = 1.0, 0.0
    for _ in range(steps):
        velocity = (knows.momentum or 0.0) * velocity + knows.weight_decay * weight
        weight -= knows.lr * velocity
    return weight - 1.0


def single_step(knows: Knowledge, records: int) -> bool:
    """Whether the client took a single step on all of its records."""
    return knows.algorithm == "fedsgd" or (knows.epochs == 1 and (knows.batch_size or 0) >= records)
