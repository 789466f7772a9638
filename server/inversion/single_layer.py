"""What can be read off the update of a single linear layer of any network, by its spans."""

from fedinv.task.foreign.update import LayerUpdate
from fedinv.task.networks.tabular import TABLES

INPUTS = {
    "record": "whole records",
    "affine of the record": "records up to an affine map",
    "features": "what earlier layers made of records",
}
"""What the inputs of a layer are, by what feeds it."""


def no_spans(update: LayerUpdate) -> str:
    """The reason why the spans of a layer's update say nothing of its inputs one by one; empty where they do."""
    layer = update.layer
    if update.origin is not None and layer.name.startswith(TABLES):
        return "it is a table of embeddings: its rows are looked up once the inputs of the layer behind it are known"
    if layer.kind.startswith("Conv"):
        return f"{layer.places} patches of each record go into {update.shape[0]} kernels"
    if layer.kind != "Linear":
        return f"it is no linear layer but of the kind {layer.kind}"
    if layer.fed not in INPUTS:
        return "what feeds it is not known"
    if not update.moved:
        return "nothing in its update stands above rounding"
    if update.rescaled:
        return "all entries are of about one size, as Adam or signs leave them: no span is that of its inputs"
    if update.full:
        return f"its update has the full rank {update.rank}: more records than it tells apart, noise or weight decay"
    return ""


def inputs(update: LayerUpdate) -> str:
    """What is read with a layer's inputs: whole records, or what earlier layers made of them."""
    told, origin = INPUTS[update.layer.fed], update.origin
    if origin is not None and origin.model.encodes and update.layer.fed == "affine of the record":
        told = "whole records, as the server knows how they are encoded"
    if not update.biased:
        told += ", each up to its length, as there is no bias"
    if update.layer.places > 1:
        told += f", {update.layer.places} for each record"
    return f"{told}, normalized over the batch" if update.layer.mixed else told
