import pytest
import torch

from fedinv.task.columns import Categorical, Continuous, Image
from fedinv.task.models import build
from fedinv.task.networks.ft_transformer import FtTransformer
from fedinv.task.schema import Schema

SCHEMA = Schema(
    columns=(
        Continuous(name="age", mean=0, std=1, low=-3, high=3, mode=0),
        Categorical(name="kind", values=("a", "b", "c"), frequencies=(0.5, 0.3, 0.2)),
    ),
    label="ill",
    classes=("no", "yes"),
)
FITTED = FtTransformer(width=16, heads=4).fitted(SCHEMA)


def test_a_token_is_a_number_times_its_weights_or_a_row_of_its_table():
    tokens = build(FITTED, SCHEMA.shape, 2, 0)[0]
    (found,) = tokens(torch.tensor([[0.5, 0.0, 1.0, 0.0]]))
    assert torch.allclose(found[0], tokens.cls)
    assert torch.allclose(found[1], 0.5 * tokens.weight[0] + tokens.bias[0])
    assert torch.allclose(found[2], tokens.weight[2] + tokens.bias[1])


def test_attention_is_torchs():
    network = build(FITTED, SCHEMA.shape, 2, 0)
    block, x = network[2], torch.randn(3, 5, 16)
    theirs = torch.nn.MultiheadAttention(16, 4, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([block.query.weight, block.key.weight, block.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([block.query.bias, block.key.bias, block.value.bias]))
        theirs.out_proj.load_state_dict(block.mix.state_dict())
    assert torch.allclose(block.attended(x), theirs(x, x, x)[0], atol=1e-6)


def test_only_present_categories_have_a_gradient():
    network = build(FITTED, SCHEMA.shape, 2, 0)
    network(torch.tensor([[0.5, 0.0, 1.0, 0.0]])).square().sum().backward()
    assert (network[0].weight.grad != 0).any(1).tolist() == [True, False, True, False]


def test_it_must_be_fitted_to_a_table():
    with pytest.raises(ValueError, match="must be fitted to a schema"):
        build(FtTransformer(), SCHEMA.shape, 2, 0)
    with pytest.raises(ValueError, match="fitted to other records"):
        build(FITTED, (7,), 2, 0)
    image = Image(name="x", channels=1, down=8, across=8, mean=0, std=1, low=0, high=1)
    with pytest.raises(ValueError, match="these records are images"):
        FtTransformer().fitted(Schema(columns=(image,), label="y", classes=("a", "b")))
    with pytest.raises(ValueError, match="no multiple of the 3 heads"):
        FtTransformer(width=16, heads=3)
