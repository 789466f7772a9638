"""A network of the user's own, made by a factory of a project."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from fedinv.errors import RequestError, plain
from fedinv.task.foreign.factory import load_network
from fedinv.task.foreign.layers import BatchNorm, layers, made_up, random_parts
from fedinv.task.foreign.part import Part, last_part
from fedinv.task.networks.architecture import Architecture, Shape
from fedinv.task.seeding import seeded


class Module(Architecture):
    """A network of your own: a class or a function of a project, which is imported and run: name code that you trust.

    It reads records (n, inputs), of images (n, channels, height, width) or rows of pixels, and gives logits (n,
    outputs). Clients train it one by one, all of its parameters. Attacks that need a perceptron are run where the whole
    network is one, linear layers with biases and one kind of activation between them; elsewhere they say why not.
    """

    kind: Literal["module"] = "module"
    """Selects this network, and with it the keys that the table may have."""
    factory: str = Field(pattern=r"^[\w.]+:[\w.]+$")
    """Factory of the network, as "app.task:Net": a class or a function without arguments, which is imported and run."""
    project: str = Field(default=".", validate_default=True)
    """Folder that the factory is imported from, by each process of a run: a relative path starts at the scenario's
    folder; the current folder where it is left out."""

    @field_validator("project")
    @classmethod
    def _absolute(cls, value: str) -> str:
        return str(Path(value).expanduser().absolute())

    @property
    def no_own_gradients(self) -> str | None:
        """Batch normalization makes each record's output depend on the others of its batch."""
        try:
            network = self._made()
        except ValueError:
            return None  # said where the network is built
        mixing = [name for name, one in network.named_modules() if isinstance(one, BatchNorm)]
        return (
            f"{mixing[0]} of {self.factory} mixes the records of a batch: use no batch normalization"
            if mixing
            else None
        )

    @property
    def as_perceptron(self) -> Architecture:
        """The perceptron that the whole network is; the module itself where it is none."""
        found = _perceptron(self)
        return self if isinstance(found, str) else found.model

    @property
    def no_perceptron(self) -> str | None:
        """Reason why the network is no perceptron, as a clause; None where it is one."""
        found = _perceptron(self)
        return found if isinstance(found, str) else None

    @property
    def sizes(self) -> tuple[Shape, int]:
        """Shape of the made-up records that the network accepts, and its outputs for one of them."""
        network = self._made()
        try:
            example = made_up(network)
        except RequestError:
            raise ValueError(
                f"model.factory: {self.factory} accepts no made-up records: give the schema, which has their shape"
            ) from None
        shape = tuple(example.shape[1:])
        return shape, self._outputs(network.eval(), shape)[1].shape[-1]

    @property
    def sources(self) -> tuple[Path, ...]:
        """The Python files of the factory's package, and those that lie beside it in the project's folder."""
        project = Path(self.project)
        package = project / self.factory.partition(":")[0].partition(".")[0]
        return tuple(sorted({*project.glob("*.py"), *package.rglob("*.py")}))

    def renamed(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights by the names of `as_perceptron`; as they are where the network is none."""
        found = _perceptron(self)
        if isinstance(found, str) or not weights:
            return dict(weights)
        own = {name.partition(".")[2]: tensor for name, tensor in weights.items()}  # without the place in `layers`
        wanted = [name for layer in found.layers for name in (layer.weight, layer.bias) if name in own]
        made = [f"{2 * place}.{kind}" for place in range(len(found.layers)) for kind in ("weight", "bias")]
        return {new: own[str(name)] for name, new in zip(wanted, made, strict=True)}

    def layers(self, shape: Shape, outputs: int) -> list[nn.Module]:
        """The network's layers in order. Raises ValueError where it does not read records of this shape."""
        with torch.device("cpu"):  # a network may hold tensors that are no parameters, which cannot be without numbers
            network = self._made()
            self._check_parameters(network)
            network.eval()
            read, found = self._outputs(network, shape)
            if tuple(found.shape) != (2, outputs):
                raise ValueError(
                    f"model.factory: {self.factory} gives the shape {tuple(found.shape)} for two records, and the data "
                    f"need (2, {outputs}), {'one number' if outputs == 1 else 'one logit a class'} for each"
                )
            self._check_use(network, found)
            network.train()
        return [network] if len(read) == 1 else [nn.Unflatten(1, read), network]

    def _made(self) -> nn.Module:
        """A new network, its weights drawn from torch's generator. Raises ValueError where the factory makes none."""
        try:
            return load_network(self.factory, Path(self.project), "model.factory", seed=None)
        except RequestError as error:
            raise ValueError(str(error)) from None

    def _check_parameters(self, network: nn.Module) -> None:
        """Raise ValueError for parameters that clients here cannot train, naming the first."""
        every = dict(network.named_parameters(remove_duplicate=False))
        shared = every.keys() - dict(network.named_parameters()).keys()
        frozen = [name for name, one in every.items() if not one.requires_grad]
        other = [name for name, one in every.items() if one.dtype != torch.float32]
        for wrong, why in (
            (sorted(shared), "is another parameter as well, and clients here train each on its own"),
            (frozen, "is frozen (requires_grad), and clients here train every parameter: make it a buffer"),
            (other, "is not of torch.float32"),
        ):
            if wrong:
                raise ValueError(f"model.factory: {self.factory}: the parameter {wrong[0]} {why}")
        if not every:
            raise ValueError(f"model.factory: {self.factory} has no parameters to train")

    def _outputs(self, network: nn.Module, shape: Shape) -> tuple[Shape, Tensor]:
        """The shape in which the network reads a record, an image as one or as a row, and what two records give."""
        fault = ""
        for read in dict.fromkeys((shape, (int(torch.Size(shape).numel()),))):
            try:
                found = network(torch.zeros(2, *read))
            except Exception as error:  # a network of somebody else's may raise anything
                fault = fault or f"{type(error).__name__}: {plain(str(error), 200)}"
                continue
            if not isinstance(found, Tensor):
                raise ValueError(
                    f"model.factory: {self.factory} gives a {type(found).__name__}, not a tensor of logits"
                )
            return read, found
        raise ValueError(f"model.factory: {self.factory} does not read records of the shape {shape} ({fault})")

    def _check_use(self, network: nn.Module, found: Tensor) -> None:
        """Raise ValueError for parameters that the outputs do not depend on, naming the first."""
        named = dict(network.named_parameters())
        if not found.requires_grad:
            raise ValueError(f"model.factory: the outputs of {self.factory} do not depend on its parameters")
        for name, one in zip(
            named, torch.autograd.grad(found.sum(), list(named.values()), allow_unused=True), strict=True
        ):
            if one is None:
                raise ValueError(f"model.factory: {self.factory}: its outputs do not depend on the parameter {name}")


@lru_cache(maxsize=8)
def _perceptron(module: Module) -> Part | str:
    """The chain of linear layers that the whole network is, fed by the record; why it is none otherwise."""
    try:
        with seeded(0):
            network = module._made()
            example = made_up(network)
            found = layers(network, example)
    except (ValueError, RequestError):
        return "it cannot be run on made-up records"
    if random := random_parts(network):
        return f"its training depends on chance: {random[0]}"
    part = last_part(found, {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()})
    chained = () if part is None else part.layers
    outside = sorted((one for one in found if one not in chained), key=lambda one: one.kind == "Linear")
    if outside:
        which = f"its {outside[0].kind} {outside[0].name}".rstrip()
        return f"{which} is no linear layer with a bias that leads to the next, or to the outputs, by one activation"
    if part is None or part.fed != "record":
        return f"its first linear layer {found[0].name} is not fed by the record itself"
    ours = nn.Sequential(*part.model.layers(tuple(example[0].flatten().shape), part.logits))
    order = [name for layer in part.layers for name in (layer.weight, layer.bias)]
    own = network.state_dict()
    ours.load_state_dict({new: own[str(name)] for name, new in zip(order, ours.state_dict(), strict=True)})
    with torch.no_grad():
        alike = torch.allclose(network(example), ours(example.flatten(1)), atol=1e-5)
    return part if alike else "it does more than its linear layers and the activations between them"
