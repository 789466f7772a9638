"""What one token's position tells of the rest of its text."""

from functools import cache

import pytest
import torch

from clients.training.plain_training import plain_training
from fedinv.data.sources.clinical_notes import ClinicalNotes
from fedinv.federation.training import Job, Training
from fedinv.task.models import build, state
from fedinv.task.networks.transformer import Encoder
from server.inversion.local_training import known_network
from server.inversion.tokens.contexts import Contexts, Standing
from server.inversion.tokens.spans import Noise, spans

LENGTH = 12


@cache
def _made(norm="pre", count=3):
    """The contexts of the notes' own tokens, each possible at every position, and the notes as rows of candidates."""
    table = ClinicalNotes(source="clinical-notes", records=60, length=LENGTH).load(7)
    schema, inputs = table.schema, table.schema.encode(table.columns)[:count]
    model = Encoder(width=64, heads=2, norm=norm)
    network = build(model, schema.shape, schema.outputs, 1)
    sent = {name: tensor.clone() for name, tensor in state(network).items()}
    labels = torch.arange(count) % 2
    update = plain_training(
        Job(network, inputs, labels, (torch.arange(count).numpy(),), Training("fedsgd", 1, count, 0.05), None)
    )
    inside, mixed = (spans(update, sent, [f"0.blocks.0.{layer}"], Noise()) for layer in ("wide", "mixed"))
    tokens, rows = inputs.long().unique(return_inverse=True)
    with torch.no_grad():
        at_start = known_network(model, sent, schema).double()[0]
        return Contexts.of(at_start, tokens, torch.ones(len(tokens), LENGTH).double(), inside, mixed), rows


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_tokens_among_those_of_their_text_lie_in_the_span_and_others_do_not(norm):
    contexts, rows = _made(norm)
    with torch.no_grad():
        away = contexts.away(torch.nn.functional.one_hot(rows[0], len(contexts.tokens)).T.double())
    true = away.gather(0, rows[:1])
    assert float(true.max()) < 1e-4
    assert float(away.scatter(0, rows[:1], torch.inf).min()) > 10 * float(true.max())


def test_the_token_that_stands_at_a_position_fulfills_its_equations_and_others_do_not():
    contexts, rows = _made()
    place = 5
    with torch.no_grad():
        each = [contexts.believe([Standing(place, row)]).each for row in range(len(contexts.tokens))]
    true = set(rows[:, place].tolist())
    assert max(each[row] for row in true) < 1.5
    assert min(one for row, one in enumerate(each) if row not in true) > 2 * max(each[row] for row in true)


def test_tokens_that_stand_in_one_text_tell_its_other_ones_and_deny_a_wrong_one():
    contexts, rows = _made()
    standing = [Standing(place, int(rows[1, place])) for place in range(1, LENGTH)]
    with torch.no_grad():
        belief = contexts.believe(standing)
        wrong = next(row for row in range(len(contexts.tokens)) if row not in rows[:, 1])
        other = contexts.believe([Standing(1, wrong), *standing[1:]])
    assert torch.allclose(belief.shares.sum(0), torch.ones(LENGTH).double(), atol=1e-6)
    assert belief.shares.argmax(0).tolist() == rows[1].tolist()
    assert other.misfit > 2 * belief.misfit
