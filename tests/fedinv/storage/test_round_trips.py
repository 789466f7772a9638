"""Whatever is stored is read back equal, field by field, over every type that a run or a study stores."""

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from fedinv.attack import Answer, Claim
from fedinv.federation import ring
from fedinv.judge import record_table
from fedinv.privacy import ledger
from fedinv.privacy.events import PrivacyEvent
from fedinv.results.assessment import Assessment
from fedinv.results.audit import Audit
from fedinv.results.comparison import Comparison
from fedinv.results.run import Results
from fedinv.scenario.reading import loads, read
from fedinv.storage import claims, documents, files, observations
from fedinv.task.columns import Categorical, Continuous, Image
from fedinv.task.schema import Schema

NUMBERS = st.floats(-1e15, 1e15)
TEXT = st.text(max_size=20)


def values(annotation: Any, metadata: tuple = ()) -> st.SearchStrategy:
    """What a field of this type may hold, bounds included."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return values(arguments[0], (*metadata, *arguments[1:]))
    if origin in (Union, types.UnionType):
        return st.one_of([values(one, metadata) for one in arguments])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is list:
        return st.lists(values(arguments[0]), max_size=2)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return st.lists(values(arguments[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values, arguments))
    if origin is dict:
        return st.dictionaries(TEXT, values(arguments[1]), max_size=2)
    if annotation is type(None):
        return st.none()
    if annotation is Any:
        return st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), NUMBERS, TEXT)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return models(annotation)
    bounds = [bound for one in metadata for bound in (one, *getattr(one, "metadata", ()))]
    low = next((one.ge for one in bounds if hasattr(one, "ge")), None)
    high = next((one.le for one in bounds if hasattr(one, "le")), None)
    plain = {str: TEXT, bool: st.booleans(), int: st.integers(low or 0, high or 10**9)}
    if annotation in plain:
        return plain[annotation]
    return st.floats(-1e15 if low is None else low, 1e15 if high is None else high)


def models(model: type[BaseModel]) -> st.SearchStrategy:
    """Any value of a pydantic model."""
    fields = {name: values(field.annotation, tuple(field.metadata)) for name, field in model.model_fields.items()}
    return st.fixed_dictionaries(fields).map(lambda found: model(**found))


@pytest.mark.parametrize("model", [Results, Comparison, Assessment, Audit])
def test_outcomes(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("outcomes") / "found.json"

    @settings(max_examples=25)
    @given(models(model))
    def there_and_back(found):
        files.write_json(path, found.model_dump(mode="json"))
        assert model.model_validate(files.read_json(path)) == found

    there_and_back()


@st.composite
def tensors(draw, shape=None, kind=None):
    shape = shape if shape is not None else draw(st.lists(st.integers(0, 4), max_size=3).map(tuple))
    kind = kind or draw(st.sampled_from([torch.float32, torch.float64, torch.int64, torch.bool, torch.float16]))
    seed = draw(st.integers(0, 2**32 - 1))
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 100
    return numbers.to(kind)


def same(one, other):
    """Equal in type, shape and every entry, NaN being equal to NaN."""
    return (
        one.dtype == other.dtype
        and one.shape == other.shape
        and torch.equal(torch.nan_to_num(one), torch.nan_to_num(other))
    )


@given(data=st.data())
def test_tensors_keep_their_names_order_types_and_facts(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("tensors") / "t.safetensors"
    names = data.draw(st.lists(TEXT.filter(lambda name: name not in ("", "__metadata__")), unique=True, max_size=4))
    held = {name: data.draw(tensors()) for name in names}
    facts = data.draw(st.dictionaries(TEXT, st.one_of(st.none(), st.integers(), NUMBERS, TEXT, st.lists(TEXT))))
    files.write_tensors(path, held, facts)
    back, told = files.read_tensors(path)
    assert list(back) == names
    assert told == facts
    assert all(same(back[name], held[name]) for name in names)


@st.composite
def any_claim(draw):
    count, width, columns = draw(st.integers(0, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 3))
    optional = {
        "labels": draw(st.one_of(st.none(), tensors((count,), torch.int64), tensors((count,), torch.float32))),
        "fields": draw(st.one_of(st.none(), tensors((count, columns), torch.float32))),
        "checked": draw(st.one_of(st.none(), tensors((count,), torch.bool))),
        "mismatch": draw(st.one_of(st.none(), NUMBERS)),
        "notes": tuple(draw(st.lists(TEXT, max_size=3))),
        "unfinished": tuple(draw(st.lists(TEXT, max_size=2))),
    }
    return Claim(draw(tensors((count, width), torch.float32)), draw(tensors((count,), torch.float32)), **optional)


@given(
    said=st.one_of(any_claim(), st.builds(Answer, tensors((2, 3), torch.float32), st.lists(TEXT).map(tuple))),
    seconds=st.floats(0, 1e6),
)
def test_claims_and_answers(said, seconds, tmp_path_factory):
    path = tmp_path_factory.mktemp("claims") / "c.safetensors"
    claims.write(path, said, seconds)
    back, took = claims.read(path)
    assert (type(back), took) == (type(said), seconds)
    for name, value in vars(said).items():
        kept = getattr(back, name)
        assert same(kept, value) if isinstance(value, torch.Tensor) else kept == value, name


@given(
    data=st.data(), clients=st.lists(st.integers(0, 9999), min_size=1, max_size=3, unique=True), masked=st.booleans()
)
def test_observations(data, clients, masked, tmp_path_factory):
    folder = tmp_path_factory.mktemp("observations")
    sent = {"0.weight": data.draw(tensors((2, 3), torch.float32)), "0.bias": data.draw(tensors((2,), torch.float32))}
    update = {name: data.draw(tensors(tensor.shape, torch.float32)) for name, tensor in sent.items()}
    records = data.draw(st.integers(1, 100))
    observations.write_sent(folder, 1, sent)
    observations.write_update(folder, 1, clients, records, ring.to_ring(update, records) if masked else update)
    (seen,) = observations.read(folder)
    assert seen.clients == tuple(clients)
    (exchange,) = seen.exchanges
    assert (exchange.round, exchange.records) == (1, records)
    assert list(exchange.sent) == list(sent)
    assert all(same(exchange.sent[name], sent[name]) for name in sent)
    for name in update:
        assert torch.allclose(exchange.received[name], update[name], atol=1e-11 if masked else 0, rtol=1e-6 * masked)
    assert observations.read_sent(folder, 1).keys() == sent.keys()


@given(
    st.lists(
        st.builds(
            PrivacyEvent,
            noise_multiplier=st.floats(0.1, 10),
            sampling_rate=st.floats(0.01, 1),
            steps=st.integers(1, 1000),
            delta=st.floats(1e-9, 1e-3),
            unit=st.sampled_from(["example", "client"]),
            neighbors=st.sampled_from(["add-or-remove-one", "replace-one"]),
            mechanism=TEXT,
        ),
        max_size=3,
    )
)
def test_ledgers(events):
    assert ledger.read(ledger.write(tuple(events))) == tuple(events)


@given(
    columns=st.lists(
        st.one_of(
            st.builds(
                Continuous,
                name=TEXT,
                mean=NUMBERS,
                std=st.floats(1e-3, 1e3),
                low=NUMBERS,
                high=NUMBERS,
                mode=NUMBERS,
                integer=st.booleans(),
                unit=TEXT,
                sensitive=st.booleans(),
            ),
            st.lists(TEXT, min_size=1, max_size=3, unique=True).flatmap(
                lambda kinds: st.builds(
                    Categorical,
                    name=TEXT,
                    values=st.just(tuple(kinds)),
                    frequencies=st.just((1 / len(kinds),) * len(kinds)),
                )
            ),
        ),
        min_size=1,
        max_size=3,
    ),
    classes=st.lists(TEXT, min_size=2, max_size=3, unique=True),
)
def test_schemas(columns, classes):
    schema = Schema(columns=tuple(columns), label="y", classes=tuple(classes))
    assert Schema.model_validate_json(schema.model_dump_json(indent=2)) == schema


def test_a_schema_of_images():
    image = Image(name="face", channels=3, down=8, across=9, mean=0.4, std=0.2, low=0, high=1)
    schema = Schema(columns=(image,), label="y", classes=("a", "b"))
    assert Schema.model_validate_json(schema.model_dump_json()) == schema


@pytest.mark.parametrize("name", sorted(documents.shipped()))
def test_scenarios(name):
    scenario = read(name)
    assert loads(scenario.to_toml()) == scenario


def test_records():
    table = pa.table(
        {
            "attack": ["exact", "exact"],
            "person": [1, 2],
            "claimed": [True, False],
            "confidence": [0.5, None],
            "true:age": [40.0, -1.5],
            "claimed:sex": ["f", None],
            "true:face": [[0.5, 1.0], [0.0, 0.25]],
        }
    )
    back = pq.read_table(pa.BufferReader(record_table.to_parquet([table])))
    assert back.column_names == table.column_names
    assert back.to_pylist() == table.to_pylist()
