"""Transformers over token ids: what each position sees, and what crosses the wire."""

import pytest
import torch
from pydantic import ValidationError

from fedinv.task.models import build, load, shapes, state
from fedinv.task.networks.transformer import Decoder, Encoder

SHAPE = (6, 11)
NOTES = torch.tensor([[3.0, 4, 5, 6, 0, 0], [7, 8, 9, 10, 1, 2]])


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("kind", [Decoder, Encoder])
def test_padding_is_seen_by_nobody_and_every_word_is(kind, norm):
    network = build(kind(width=16, heads=2, norm=norm), SHAPE, 2, 0)
    shorter = build(kind(width=16, heads=2, norm=norm), SHAPE, 2, 0)(NOTES[:1, :4])
    assert torch.allclose(network(NOTES)[:1], shorter, atol=1e-6)
    for place in range(4):
        other = NOTES.clone()
        other[0, place] = 1
        assert not torch.allclose(network(other)[0], network(NOTES)[0], atol=1e-6)


def test_a_decoder_reads_a_text_up_to_each_word_alone():
    network = build(Decoder(width=16, heads=2), SHAPE, 2, 0)[0]
    ids = NOTES[1:].long()
    whole = network.blocks[0](network.embed(ids), network.hidden_from(ids))
    begun = network.blocks[0](network.embed(ids[:, :3]), network.hidden_from(ids[:, :3]))
    assert torch.allclose(whole[:, :3], begun, atol=1e-6)


@pytest.mark.parametrize("kind", [Decoder, Encoder])
def test_with_adapters_only_they_and_the_last_layer_are_sent(kind):
    model = kind(width=16, heads=2, lora_rank=4)
    first, second = (build(model, SHAPE, 2, seed) for seed in (0, 1))
    sent = state(first)
    assert {name.split(".")[-2] for name in sent} == {"down", "up", "head"}
    assert shapes(model, SHAPE, 2) == {name: tuple(tensor.shape) for name, tensor in sent.items()}
    # what is not sent is the same wherever the network is built
    again = load(model, SHAPE, 2, {name: tensor.clone() for name, tensor in sent.items()})
    assert torch.equal(again(NOTES), first(NOTES))
    assert torch.equal(second[0].tokens.weight, first[0].tokens.weight)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValidationError, match="3 heads do not divide a width of 16"):
        Decoder(width=16, heads=3)
    with pytest.raises(ValueError, match="'encoder' reads texts"):
        build(Encoder(), (7,), 2, 0)
