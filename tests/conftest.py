import pytest
import torch
from hypothesis import settings

settings.register_profile("fedinv", deadline=None, derandomize=True)  # a busy machine is no failure
settings.load_profile("fedinv")

TINY = """
name = "tiny"
seed = 3
[data]
source = "hospital"
records = 200
[model]
kind = "mlp"
hidden = [32, 16]
[federation]
clients = 4
rounds = 3
[training]
algorithm = "fedavg"
epochs = 2
batch_size = 4
records_per_client = 6
lr = 0.05
[attacker]
watch = { rounds = [1, 2], clients = 2 }
"""


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def tiny() -> str:
    """A scenario's text that trains in a moment; tests append what they need."""
    return TINY


@pytest.fixture(scope="session")
def shared_tiny() -> str:
    """The same for what several tests share."""
    return TINY
