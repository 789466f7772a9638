"""How long the price in privacy takes and how much memory, for noise from 0.001 to 100 and up to a billion steps."""

import resource
import time
from dataclasses import replace

from fedinv.privacy.accountants import composed, noise_for
from fedinv.privacy.events import PrivacyEvent

NOISES = (0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0, 100.0)
STEPS = ((0.1, 1), (0.1, 100), (0.5, 1_000), (0.01, 100_000), (0.001, 10_000_000), (0.3, 1_000_000_000))
"""Sampling rate and number of steps."""
BUDGETS = (0.5, 8.0, 1_000.0, 5_000.0)


def main() -> None:
    """Print epsilon, accountant and CPU seconds of each; delta 1e-5, add-or-remove-one, Poisson sampling."""
    slowest = 0.0
    for noise in NOISES:
        for rate, steps in STEPS:
            begun = time.process_time()
            found = composed((_event(noise, rate, steps),), 1e-5)
            took = time.process_time() - begun
            slowest = max(slowest, took)
            print(f"noise {noise:<6g} rate {rate:<6g} steps {steps:<11,} epsilon {found.epsilon:<12.6g}", end=" ")
            print(f"{found.accountant:<8} {took:.2f} s")
    for budget in BUDGETS:
        begun = time.process_time()
        noise = noise_for(replace(_event(1.0, 0.1, 300), delta=1e-5), budget)
        slowest = max(slowest, took := time.process_time() - begun)
        print(f"epsilon {budget:<8g} over 300 steps at rate 0.1: noise {noise:.4g}  {took:.2f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"slowest {slowest:.1f} CPU s, peak of the whole process {peak:.0f} MiB")


def _event(noise: float, rate: float, steps: int) -> PrivacyEvent:
    return PrivacyEvent(noise, rate, steps, 0.0, "example", "add-or-remove-one", "")
