"""Labels of records of an FT-Transformer, and how often each is in the batch, by the last block's hidden layer."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedinv.task.networks.ft_transformer import Block

from ..row_space.spans import Span

WHOLE = 0.1
"""Largest distance from an integer of the number of times that a record is in the batch."""
OUTSIDE = 1e-3
"""Largest share of the length of a record's slopes that may lie outside the update's column space."""


def labels_of(network: nn.Sequential, records: Tensor, span: Span, step: float) -> tuple[Tensor, Tensor]:
    """Labels, int64 (k,), and counts, int64 (k,), 0 where a record (k, inputs) is not behind the update.

    `span` is that of the last block's hidden layer, `step` the learning rate over the batch's size. Only [CLS] is read
    behind that layer: a record of label y, m times in the batch, adds -step m s_y [h, 1]^T, of rank one, and
    subtracting that lowers the update's rank by one (Wedderburn 1934; see `Span.part`).
    """
    block, head = network[-2], network[-1]
    assert isinstance(block, Block)
    with torch.no_grad():
        tokens = network[:-2](records)
        tokens = (tokens + block.attended(block.before_attention(tokens)))[:, :1]
        inputs = block.before_hidden(tokens)
    units = block.hidden(inputs).detach().requires_grad_()
    with torch.enable_grad():
        open_, gate = units.chunk(2, -1)
        logits = head(tokens + block.out(open_ * functional.relu(gate)))
        each = [torch.autograd.grad(logits[:, c].sum(), units, retain_graph=True)[0] for c in range(logits.shape[1])]
    jacobian, chances = torch.stack([one[:, 0] for one in each], 1), logits.detach().softmax(1)
    counts, off = [], []
    for truth in torch.eye(logits.shape[1], dtype=records.dtype):
        slopes = ((chances - truth)[:, None] @ jacobian)[:, 0]
        times = -span.part(inputs[:, 0], slopes) / step
        whole = times.round()
        good = ((times - whole).abs() < WHOLE) & (whole >= 1) & (span.outside(slopes) < OUTSIDE)
        counts.append(torch.where(good, whole, 0.0))
        off.append(torch.where(good, (times - whole).abs(), torch.inf))
    labels = torch.stack(off, 1).argmin(1)
    return labels, torch.stack(counts, 1).gather(1, labels[:, None])[:, 0].long()
