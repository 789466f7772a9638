"""fedinv: what would the server of a federation learn about whom, and what does each defense buy at what cost?

Everything that is meant for use from Python is here, and is imported when it is first asked for::

    import fedinv

    run = fedinv.run("hospital")           # train, attack, judge: a Run, which a notebook shows
    run.attack("row-space")                # attack what crossed the wire once more
    fedinv.compare("hospital", defenses=["top-k", "dp-sgd:epsilon=8"])
    fedinv.record("./app", nodes=4)        # run a Flower app of your own and record what crosses its wire
    fedinv.invert(update, sent=weights, model={"kind": "mlp", "hidden": [64]}, records=8)   # an update of your own
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fedinv.version import __version__ as __version__

if TYPE_CHECKING:
    from fedinv.api import (
        assess,
        attack_recording,
        audit,
        available,
        compare,
        defend,
        duel,
        gate,
        import_files,
        invert,
        leak_map,
        load,
        open_recording,
        open_run,
        probe,
        record,
        recorded_copy,
        replicate,
        run,
        tap,
        tap_mod,
        vet,
    )
    from fedinv.attack import Claim
    from fedinv.errors import RequestError, RunError
    from fedinv.outcomes import Assessment, Audit, Comparison, Duel, Run
    from fedinv.recording.folder import Recording
    from fedinv.scenario.scenario import Scenario

__all__ = [
    "Assessment",
    "Audit",
    "Claim",
    "Comparison",
    "Duel",
    "Recording",
    "RequestError",
    "Run",
    "RunError",
    "Scenario",
    "assess",
    "attack_recording",
    "audit",
    "available",
    "compare",
    "defend",
    "duel",
    "gate",
    "import_files",
    "invert",
    "leak_map",
    "load",
    "open_recording",
    "open_run",
    "probe",
    "record",
    "recorded_copy",
    "replicate",
    "run",
    "tap",
    "tap_mod",
    "vet",
]

_ELSEWHERE = {
    "Assessment": "outcomes",
    "Audit": "outcomes",
    "Claim": "attack",
    "Comparison": "outcomes",
    "Duel": "outcomes",
    "Recording": "recording.folder",
    "RequestError": "errors",
    "Run": "outcomes",
    "RunError": "errors",
    "Scenario": "scenario.scenario",
}
"""The module of each public name that is not a function of fedinv/api.py."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used. Raises AttributeError naming the nearest one for any other name."""
    if name in __all__:
        return getattr(import_module(f"fedinv.{_ELSEWHERE.get(name, 'api')}"), name)
    if name.startswith("_"):
        raise AttributeError(f"module 'fedinv' has no attribute {name!r}")
    from fedinv.errors import nearest

    raise AttributeError(f"module 'fedinv' has no attribute {name!r}{nearest(name, __all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
