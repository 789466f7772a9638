"""Gradient matching as its papers describe it, by name: data, no code."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from .objective import Distance
from .relaxation import Form
from .steps import Rule, Schedule

Name = Literal["fedinv", "dlg", "idlg", "inverting-gradients", "see-through", "tableak"]


@dataclass(frozen=True)
class Preset:
    """Every choice of a search. `inf` work or seconds: as long as the iterations take."""

    distance: Distance
    rule: Rule
    lr: float
    """The first step's length in free numbers."""
    schedule: Schedule
    iterations: int
    restarts: int
    form: Form
    """How free numbers become inputs."""
    standardize: bool = False
    """Compare gradients as a network of standardized inputs would have had them; where noise is known of, never."""
    balance: float = 0.0
    """Each parameter's gradient is divided by this power of its length before gradients of a network that is no chain
    of linear layers are compared: at 1 all count alike, as they should where units saturate and gradients fade towards
    the first layers."""
    start: Literal["schema", "normal"] = "normal"
    """Where restarts begin: records drawn from the schema's marginals, or standard normal numbers."""
    labels: Literal["counts", "searched"] = "counts"
    """Read off the last layer's bias, or searched along with the records."""
    hypotheses: int = 1
    """How many label counts are tried where the first is not certain."""
    pooling: Literal["best", "equal", "weighted"] = "best"
    """The best restart's records; all restarts' pooled; pooled by their misfit, or the best's where they fit better."""
    confidence: Literal["agreement", "entropy"] = "agreement"
    total_variation: float = 0.0
    squares: float = 0.0
    statistics: float = 0.0
    group: float = 0.0
    """Weights of the priors, beside a misfit between 0 and 2 (cosine) or relative to the update's square."""
    enough: float = 0.0
    """Misfit at which a restart has arrived and all stop."""
    patience: int = 0
    """Steps without a gain after which a search that no longer gains ends; 0: never."""
    polish: int = 0
    """Evaluations of L-BFGS on the claimed records' numbers, their categories fixed, where one step was observed."""
    simulate: int = 0
    """Iterations on the best restart with the local training simulated step by step, where there were several steps and
    the network is a chain of linear layers; 0: never, one gradient halfway stands for all of them."""
    join: bool = False
    """Simulate the latest rounds together where the records found in the last one explain them too."""
    work: float = float("inf")
    """Billions of floating-point operations."""
    seconds: float = 3600.0


PRESETS: dict[Name, Preset] = {
    # ours, on tables
    "fedinv": Preset(
        distance="cosine",
        rule="signed-adam",
        lr=0.35,
        schedule="cosine",
        iterations=300,
        restarts=16,
        form="relaxed",
        standardize=True,
        start="schema",
        hypotheses=5,
        pooling="weighted",
        enough=1e-4,
        polish=100,
        simulate=300,
        work=45.0,
        seconds=60.0,
    ),
    # Zhu, Liu, Han 2019, Deep leakage from gradients, algorithm 1
    "dlg": Preset(
        distance="squared",
        rule="l-bfgs",
        lr=1.0,
        schedule="constant",
        iterations=1_200,
        restarts=1,
        form="free",
        labels="searched",
        enough=1e-10,
    ),
    # Zhao, Mopuri, Bilen 2020, iDLG: the label from the last layer, then as DLG
    "idlg": Preset(
        distance="squared",
        rule="l-bfgs",
        lr=1.0,
        schedule="constant",
        iterations=1_200,
        restarts=1,
        form="free",
        enough=1e-10,
    ),
    # Geiping, Bauermeister, Droege, Moeller 2020, Inverting gradients, section 4 and equation 4
    "inverting-gradients": Preset(
        distance="cosine",
        rule="signed-adam",
        lr=0.1,
        schedule="steps",
        iterations=24_000,
        restarts=1,
        form="box",
        total_variation=1e-3,
    ),
    # Yin, Mallya, Vahdat, Alvarez, Kautz, Molchanov 2021, See through gradients, equations 5 to 11
    "see-through": Preset(
        distance="squared",
        rule="adam",
        lr=0.1,
        schedule="cosine",
        iterations=20_000,
        restarts=8,
        form="box",
        total_variation=1e-3,
        squares=1e-5,
        statistics=0.01,
        group=0.01,
    ),
    # Vero, Balunovic, Dimitrov, Vechev 2023, TabLeak, section 4
    "tableak": Preset(
        distance="cosine",
        rule="signed-adam",
        lr=0.06,
        schedule="constant",
        iterations=1_500,
        restarts=30,
        form="relaxed",
        standardize=True,
        start="schema",
        pooling="equal",
        confidence="entropy",
        patience=100,
    ),
}

FEDINV_IMAGES = Preset(
    distance="cosine",
    rule="signed-adam",
    lr=0.1,
    schedule="cosine",
    iterations=1_500,
    restarts=1,
    form="box",
    hypotheses=3,
    total_variation=1e-3,
    work=2_000.0,
    seconds=120.0,
)
"""What `fedinv` means where the records are images."""
FEDINV_FADING = replace(
    FEDINV_IMAGES,
    rule="l-bfgs",
    lr=1.0,
    schedule="constant",
    iterations=800,
    balance=1.0,
    total_variation=4e-4,
)
"""And where, besides, the network's units saturate: curvature is worth more than signs there."""


def settled(name: Name, changes: Mapping[str, Any], images: bool = False, fading: bool = False) -> Preset:
    """The preset of this name for tables or images, before units that saturate or not, with some fields changed."""
    chosen = (FEDINV_FADING if fading else FEDINV_IMAGES) if name == "fedinv" and images else PRESETS[name]
    return replace(chosen, **changes)
