"""The updates of an app of one's own as they are attacked, and what is known of the app beside its recording."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from fedinv.attack import Exchange
from fedinv.errors import RequestError
from fedinv.recording import folder as recordings
from fedinv.recording.secure_sums import SecureSum, secure_sums
from fedinv.results.terms import Whose
from fedinv.runs.own_apps.leak_map import Probed, probe, update_of
from fedinv.task.foreign.alignment import align
from fedinv.task.foreign.layers import made_up
from fedinv.task.foreign.training.training import UNKNOWN, Repeatable, Training, fit
from fedinv.task.schema import Schema


@dataclass(frozen=True)
class Target:
    """A recorded update as it is attacked."""

    exchange: Exchange
    """What was sent and how it changed, by the names on the wire; `records` is what the client reports, else 1."""
    client: Whose
    """Number of the client, or its node id; "sum" for several behind secure aggregation."""
    claimed: int | None
    """Number of records that the client, or all of a sum, report."""
    secure: SecureSum | None = None
    """The sum that it is of; None for a client's own update."""

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of records of each client that is part of it, as reported, else 1."""
        return (self.exchange.records,) if self.secure is None else self.secure.counts

    @property
    def noise(self) -> float:
        """Standard deviation of what the rounding of a secure aggregation added to each entry."""
        return 0.0 if self.secure is None else self.secure.rounding


@dataclass(frozen=True)
class Given:
    """What is known of the app beside its recording."""

    network: nn.Module
    """The network, at any weights."""
    example: Tensor | None = None
    """A batch of its inputs; made up where there is none."""
    seconds: float = 30.0
    """Computing time that the attacks on one update may take together; each has its share of what is left of it."""
    limit: float | None = None
    """Share of an update's records, 0 to 1, above which the attacks on it end; None where they read all they can."""
    schema: Schema | None = None
    """What every record must fit, in the columns of the network's inputs; None where it is withheld."""
    training: Training = UNKNOWN
    """How clients train, as far as it is known."""

    @property
    def batch(self) -> Tensor:
        """The example, or a made-up one. Raises RequestError where none fits the network."""
        return made_up(self.network) if self.example is None else self.example


def how_trained(given: Given) -> Repeatable | None:
    """How clients train, fitted to the network; None where nothing is known of it and the usual loss does not fit.

    Raises RequestError where what is known does not fit the network.
    """
    try:
        return fit(given.training, given.network, given.batch)
    except RequestError:
        if given.training == UNKNOWN:
            return None
        raise


def probed_target(network: nn.Module, example: Tensor | None, target: Target, how: Repeatable | None) -> Probed:
    """A recorded update matched to the network, without what known weight decay alone made of it. Raises as `probe`."""
    return probe(network, _without_decay(target, network, how), example, target.noise)


def _without_decay(target: Target, network: nn.Module, how: Repeatable | None) -> Exchange:
    """The exchange without the change that known weight decay alone makes of weights: it is no record's."""
    exchange, counts = target.exchange, target.counts
    shrunk = 0.0 if how is None else sum(count * how.shrunk(count) for count in counts) / sum(counts)
    if not shrunk:
        return exchange
    own = {
        wire for name, wire in align(exchange.sent, network).names.items() if name in dict(network.named_parameters())
    }
    pulled = {n: t - shrunk * exchange.sent[n].float() if n in own else t for n, t in exchange.received.items()}
    return replace(exchange, received=pulled)


def targets(recording: recordings.Recording) -> tuple[list[Target], list[str]]:
    """The updates of a recording, and a line for each that cannot be attacked."""
    found, skipped = [], list(recording.skipped)
    for one in recording.updates:
        client = one.partition if isinstance(one.partition, int) else one.node
        try:
            found.append(target_of(dict(one.sent), dict(one.received), one.claimed_records, one.round, client))
        except RequestError as error:
            skipped.append(f"round {one.round}, client {client}: {error}")
    sums, lines = secure_sums(recording)
    found += [_of_sum(one) for one in sums]
    return found, [*skipped, *lines]


def target_of(
    sent: Mapping[str, Tensor], back: Mapping[str, Tensor], claimed: int | None, round_: int = 1, client: Whose = 0
) -> Target:
    """The update behind arrays that were sent and those that came back, by name; `claimed` is the records reported.

    Raises RequestError for arrays of other names or shapes, and for values that are not finite.
    """
    update = update_of(sent, back)
    for name, tensor in update.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise RequestError(f"values that are not finite came back, in {name!r}")
    return Target(Exchange(max(1, round_), sent, update, max(1, claimed or 1)), client, claimed)


def _of_sum(one: SecureSum) -> Target:
    """The mean of the clients' updates that the server learns of one round."""
    update = {name: _moved(one.mean[name], tensor) for name, tensor in one.sent.items()}
    return Target(Exchange(max(1, one.round), one.sent, update, one.records), "sum", one.records, one)


def _moved(mean: Tensor, sent: Tensor) -> Tensor:
    moved = mean.double() - sent.double()
    return moved.float() if sent.is_floating_point() else moved.round().to(sent.dtype)
