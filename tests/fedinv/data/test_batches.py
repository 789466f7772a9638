import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedinv.data.batches import local_batches, used_records
from fedinv.federation.agreement import round_clients
from fedinv.federation.training import Training


def training(algorithm="fedavg", epochs=3, batch_size=4):
    return Training(algorithm, epochs, batch_size, 0.1, 0.0, 0.0)


@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 3), st.integers(0, 9))
def test_fedavg_uses_every_record_once_an_epoch(records, batch_size, epochs, client):
    batches = local_batches(training("fedavg", epochs, batch_size), records, "shuffle", 1, client, 1)
    assert np.array_equal(np.sort(np.concatenate(batches)), np.sort(np.tile(np.arange(records), epochs)))
    assert max(map(len, batches)) == min(batch_size, records)


def test_fedsgd_takes_one_batch_and_each_client_and_round_another():
    one = local_batches(training("fedsgd"), 100, "shuffle", 1, 0, 1)
    assert [len(b) for b in one] == [4]
    assert np.array_equal(one[0], local_batches(training("fedsgd"), 100, "shuffle", 1, 0, 1)[0])
    for other in [(2, 0, 1), (1, 1, 1), (1, 0, 2)]:
        assert not np.array_equal(one[0], local_batches(training("fedsgd"), 100, "shuffle", *other)[0])


def test_poisson_batches_have_the_rate_that_is_accounted():
    batches = local_batches(training(epochs=400), 20, "poisson", 5, 0, 1)
    assert np.mean([len(b) for b in batches]) == pytest.approx(4, abs=0.2)
    assert len({len(b) for b in batches}) > 3


def test_used_records_of_empty_batches_is_empty():
    assert used_records((np.empty(0, np.int64),)).tolist() == []


@given(st.integers(1, 30), st.data())
def test_a_rounds_clients_are_distinct_and_reproducible(clients, data):
    per_round = data.draw(st.integers(1, clients))
    chosen = round_clients(clients, per_round, 3, 1)
    assert len(set(chosen)) == per_round
    assert set(chosen) <= set(range(clients))
    assert chosen == round_clients(clients, per_round, 3, 1)
