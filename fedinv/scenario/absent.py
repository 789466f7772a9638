"""What others have and fedinv has not: asked for in a scenario, it is refused with a line that says so.

Without it the nearest spelling would be offered, which for these is another thing.
"""

import re

_OWN = "to attack a training of your own, give its update to fedinv.invert"
_SERVER = (
    "the server takes the mean of the clients' updates, weighted by their records, by federation.strategy (fedavg, "
    f"fedavgm, fedadam or fedyogi), and nothing else is there; {_OWN}"
)
_CLIENT = (
    "clients train by training.optimizer (sgd, adam, adamw or rmsprop), at training.lr along training.schedule, with "
    f"training.momentum, training.weight_decay and training.proximal, and nothing else is there; {_OWN}"
)
_SETTING = "it is a key of the optimizer's table: write training.optimizer = { kind = ..., key = value }"
_SHARED = (
    "it is a key of [training], whatever the optimizer: write training.lr, training.momentum, training.weight_decay"
)
_SCHEDULE = (
    'write training.schedule, over the rounds, or training.local_schedule, over local steps: "step", "cosine", '
    '"linear", or a table such as { kind = "step", every = 10, by = 0.5 }'
)
_PROXIMAL = "write training.proximal, FedProx's mu"
_WEIGHTS = "write training.class_weights, one a class, or training.class_counts, public counts to balance them by"
_NETWORK = "networks are those of model.kind with its keys (fedinv explain model), and nothing else is there"
_LOSS = (
    "the loss is cross-entropy for classes, one output each, with training.class_weights, and squared error for a "
    "number, and nothing else is there"
)
_DEFENSE = "training is plain but for [[defenses]]: see fedinv list defenses"
_COHORT = "each round takes federation.clients_per_round clients, drawn anew, and nothing else is there"
_TABLE = (
    "records come from a table or images that are there or made by the scenario's source, and nothing else is there"
)

ABSENT = (
    (
        r"training\.algorithm=fed_?(adagrad|opt|nova|dyn|bn|per|rep|ditto|trimmed\w*|median)",
        _SERVER,
    ),
    (
        r"training\.algorithm=fed_?(adam|yogi|avg_?m)",
        'it is what the server does: write federation.strategy = "fedavgm", "fedadam" or "fedyogi", and '
        'training.algorithm = "fedavg"',
    ),
    (r"training\.algorithm=fed_?prox", f'{_PROXIMAL}, and training.algorithm = "fedavg"'),
    (r"training\.algorithm=(scaffold|moon|ditto|feddf|q_?fed\w*|krum|multi_?krum|bulyan|median|fltrust|mifa)", _SERVER),
    (
        r"training\.algorithm=(adamw?|rmsprop)",
        'it is an optimizer: write training.optimizer, and training.algorithm = "fedavg" or "fedsgd"',
    ),
    (r"training\.algorithm=(adam\w+|adagrad|lamb|lion|l?bfgs)", _CLIENT),
    (
        r"training\.algorithm=(split\w*|swarm\w*|gossip|vertical\w*|peer\w*|decentrali\w*|asynchronous|fedasync|fedbuff)",
        _SERVER,
    ),
    (
        r"training\.optimi[sz]er(\.kind)?=(sgd\w+|[nar]+adam|adamax|adagrad|adadelta|adafactor|l?bfgs|lamb|lars|lion|"
        r"yogi|rprop|asgd|muon|sophia\w*|sparse\w*|madgrad|adabelief|novograd)",
        _CLIENT,
    ),
    (r"training\.optimi[sz]er\.(\w+\.)?(lr|learning_rate|momentum|weight_decay)", _SHARED),
    (r"training\.(local_)?schedule(\.kind)?=.+", _SCHEDULE),
    (r"training\.(lr|learning_rate)_?(schedul\w*|decay\w*|policy|warm\w*|step\w*|gamma)", _SCHEDULE),
    (r"training\.(schedul\w+|decay|warm_?up\w*|gamma|milestones|cosine\w*|step_size|one_?cycle\w*)", _SCHEDULE),
    (r"training\.(nesterov|betas?|amsgrad|eps|epsilon|alpha)", _SETTING),
    (r"training\.(beta_?[12]|adam\w*|dampening|fused)", _CLIENT),
    (r"federation\.strategy(\.kind)?=fed_?prox", _PROXIMAL),
    (r"training\.(mu|prox|prox\w*mu|fed_?prox\w*)", _PROXIMAL),
    (r"training\.(scaffold\w*|control_variates?)", _SERVER),
    (r"training\.(server_\w+|global_lr|eta|tau)", _SERVER),
    (r"training\.(class_?weight|pos_weights?|weights|weighted\w*|balanced?)", _WEIGHTS),
    (r"training\.(sample_?weights?|over_?sampl\w*|focal\w*)", _LOSS),
    (r"training\.(loss\w*|criterion|label_?smoothing|objective)", _LOSS),
    (
        r"training\.((grad\w*_)?clip\w*|max_grad_norm|max_norm|noise\w*|dp|private\w*|augment\w*|mix_?up|drop_?out\w*)",
        _DEFENSE,
    ),
    (
        r"training\.(early_?stop\w*|patience|precision|amp|mixed_precision|bf16|fp16|accumulat\w*|grad_accum\w*)",
        _CLIENT,
    ),
    (
        r"model\.(kind|name|type)=[\w.:/-]*(net|former|bert|gpt|vit|lstm|gru|rnn|mobile|"
        r"xgb\w*|boost\w*|forest|tree|svm|gan|auto_?encoder|vae|own|custom|torch|module|linear|regression|tab\w*)[\w.:/-]*",
        _NETWORK,
    ),
    (
        r"model\.(\w*norm\w*|normali[sz]ation|drop_?out\w*|residual\w*|skip\w*|attention\w*|embed\w*|pooling|init\w*)",
        _NETWORK,
    ),
    (
        r"model\.(path|file|module|class\w*|factory|code|script|import|weights|checkpoint|pre_?trained|state_dict)",
        _NETWORK,
    ),
    (
        r"federation\.(strategy(\.kind)?=(fed_?(adagrad|opt|nova|dyn|median|trim\w*|bn|xgb\w*)|scaffold|\w*krum|bulyan|\w*median|\w*trim\w*|q_?fed\w*)|aggregat\w*|server_\w+|optimi[sz]er|lr|momentum|weight\w*|krum|trim\w*|robust\w*)",
        _SERVER,
    ),
    (r"federation\.(fraction\w*|sampl\w*|min_\w+|participation|participants|selection|proportion\w*)", _COHORT),
    (
        r"federation\.(topology|async\w*|staleness|buffer\w*|hierarch\w*|vertical\w*|split\w*|decentrali\w*|peer\w*)",
        _SERVER,
    ),
    (
        r"federation\.(drop_?outs|drop_?out_?\w+|drop_?rate|stragglers?|offline\w*|unavailab\w*|fail\w*)",
        "write federation.dropout, the share of a round's clients that drop out of it",
    ),
    (r"data\.(synthetic|sdv|hub|url|hugging\w*|dataset|name|split|torchvision|augment\w*|transform\w*)", _TABLE),
)
"""What may be asked for, as patterns of KEY or KEY=VALUE in small letters, and what is said of it."""
_PATTERNS = tuple((re.compile(pattern), said) for pattern, said in ABSENT)


def absent(key: str, value: object = None) -> str | None:
    """What to say of a key, or of its value, that is unknown as fedinv has no such thing; None for all others."""
    asked = key.lower().replace("-", "_")
    if value is not None:
        asked += "=" + str(value).lower().replace("-", "_")
    return next((said for pattern, said in _PATTERNS if pattern.fullmatch(asked)), None)
