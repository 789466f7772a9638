"""The settings of gradient matching by paper."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from .objective import Distance
from .relaxation import Form
from .steps import Rule, Schedule

Name = Literal["fedinv", "dlg", "idlg", "inverting-gradients", "see-through", "tableak"]
"""Names of presets: this project's, and the papers'."""


@dataclass(frozen=True)
class Preset:
    """All settings of a search."""

    distance: Distance
    """Distance between gradients that is minimized."""
    rule: Rule
    """Optimizer of the search."""
    lr: float
    """Length of the first step in free numbers."""
    schedule: Schedule
    """Decay of the step length."""
    iterations: int
    """Steps of each restart."""
    restarts: int
    """Starting points that are searched side by side."""
    form: Form
    """How free numbers become inputs."""
    standardize: bool = False
    """Whether gradients are compared as if the network's inputs were standardized; never done where noise is known."""
    balance: float = 0.0
    """Power of its norm, 0 to 1, by which each parameter's gradient is divided before the comparison, in networks that
    are no chain of linear layers. At 1 all parameters have the same weight, as they should where units saturate and
    gradients vanish towards the first layers."""
    start: Literal["schema", "normal"] = "normal"
    """Where restarts begin: records drawn from the schema's marginals, or standard normal numbers."""
    labels: Literal["counts", "searched"] = "counts"
    """How labels are found: counted from the last layer's bias, or searched along with the records."""
    hypotheses: int = 1
    """Label counts that are tried where the likeliest is uncertain."""
    pooling: Literal["best", "equal", "weighted"] = "best"
    """Which restarts the claim is made of: the best, all with equal weights, or all weighted by their misfit unless the
    best fits clearly better than the pooled records."""
    confidence: Literal["agreement", "entropy"] = "agreement"
    """How each field's confidence is computed: by the restarts' agreement with the claim, or by their entropy."""
    total_variation: float = 0.0
    """Weight of an image's total variation, beside a misfit from 0 to 2 (cosine) or relative to the update's square."""
    squares: float = 0.0
    """Weight of the inputs' mean square, beside the misfit."""
    statistics: float = 0.0
    """Weight of the distance to the statistics of batch normalization, beside the misfit."""
    group: float = 0.0
    """Weight of each restart's mean squared distance from the mean of all, beside the misfit."""
    enough: float = 0.0
    """Misfit below which a restart has arrived, and the search stops."""
    patience: int = 0
    """Steps within which the misfits must shrink by about 5 % or the search stops; 0: it never stops for that."""
    polish: int = 0
    """Evaluations of L-BFGS on the claimed records' numbers with their categories fixed, for a single step only."""
    simulate: int = 0
    """Iterations on the best restart with several local steps simulated one by one, in chains of linear layers; 0: one
    gradient halfway stands for all steps."""
    join: bool = False
    """Whether the latest rounds are simulated together where the records found in the last one explain them too."""
    work: float = float("inf")
    """Billions of floating-point operations that limit restarts and iterations; infinite: no limit."""
    seconds: float = 3600.0
    """Wall-clock seconds after which the search stops."""


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
"""The preset "fedinv" for images."""
FEDINV_FADING = replace(
    FEDINV_IMAGES,
    rule="l-bfgs",
    lr=1.0,
    schedule="constant",
    iterations=800,
    balance=1.0,
    total_variation=4e-4,
)
"""The preset "fedinv" for images and networks whose units saturate, where L-BFGS does better than signed Adam."""
FEDINV_SIGNS = replace(
    PRESETS["fedinv"],
    lr=0.2,
    iterations=1_000,
    restarts=4,
    standardize=False,
    pooling="best",
    polish=0,
    simulate=0,
)
"""The preset "fedinv" for tables whose update was sent as signs."""


def settled(
    name: Name, changes: Mapping[str, Any], images: bool = False, fading: bool = False, signs: bool = False
) -> Preset:
    """The preset of this name with the fields in `changes` replaced.

    `images`: the records are images; `fading`: the network's units saturate; `signs`: nothing but signs was sent. They
    matter to "fedinv" only.
    """
    chosen = PRESETS[name]
    if name == "fedinv" and images:
        chosen = FEDINV_FADING if fading else FEDINV_IMAGES
    elif name == "fedinv" and signs:
        chosen = FEDINV_SIGNS
    return replace(chosen, **changes)
