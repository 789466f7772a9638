import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import fedinv
from fedinv.errors import RequestError
from fedinv.recording import files


class Evil:
    """What a pickle can do."""

    def __reduce__(self):
        return os.system, ("touch was-here",)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


@pytest.fixture(autouse=True)
def there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_each_kind_of_file_gives_the_same_arrays(net):
    state = net.state_dict()
    save_file(state, "a.safetensors")
    np.savez("b.npz", **{name: tensor.numpy() for name, tensor in state.items()})
    np.savez_compressed("c.npz", *(tensor.numpy() for tensor in state.values()))
    torch.save(state, "d.pt")
    torch.save({"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}}, "e.pth")
    torch.save({"model_state_dict": dict(net.named_parameters()) | dict(net.named_buffers())}, "f.ckpt")
    torch.save({"model": {"module": state}}, "g.bin")
    torch.save(list(state.values()), "h.pt")
    for path in ("a.safetensors", "b.npz", "c.npz", "d.pt", "e.pth", "f.ckpt", "g.bin", "h.pt"):
        found = files.load(path)
        names = list(map(str, range(9))) if path[0] in "ch" else list(state)
        assert sorted(found) == sorted(names)
        assert list(found) == names or path[0] in "af"
        for name, tensor in zip(names, state.values(), strict=True):
            assert torch.equal(found[name], tensor), path
            assert found[name].dtype == tensor.dtype
            assert not found[name].requires_grad


def test_numbers_of_all_kinds_are_read():
    values = {"big": np.arange(3, dtype=">f4"), "one": np.float64(2), "f": np.asfortranarray(np.ones((2, 3), np.int16))}
    np.savez("x.npz", **values)
    found = files.load("x.npz")
    assert found["big"].tolist() == [0, 1, 2]
    assert found["one"].shape == ()
    assert found["f"].dtype == torch.int16
    save_file({"w": torch.ones(2, dtype=torch.bfloat16)}, "y.safetensors")
    assert files.load("y.safetensors")["w"].dtype == torch.bfloat16
    torch.save({"w": torch.eye(2).to_sparse()}, "z.pt")
    assert files.load("z.pt")["w"].tolist() == [[1, 0], [0, 1]]


def written(name, content):
    Path(name).write_bytes(content)


def evil():
    torch.save({"w": torch.ones(1), "x": Evil()}, "evil.pt")
    written("evil.pth", pickle.dumps(Evil()))
    np.savez("objects.npz", w=np.ones(2), x=np.array([Evil()], dtype=object))
    written("pickle.npz", pickle.dumps(Evil()))
    torch.save(nn.Linear(2, 2), "whole.pt")
    np.savez("text.npz", x=np.array(["a"]))
    np.savez("nothing.npz")
    torch.save({"epoch": 1}, "nothing.pt")
    torch.save(3, "three.pt")
    written("cut.pt", Path("whole.pt").read_bytes()[:100])
    np.savez("whole.npz", w=np.ones(50))
    written("cut.npz", Path("whole.npz").read_bytes()[:200])
    save_file({"w": torch.ones(50)}, "whole.safetensors")
    written("cut.safetensors", Path("whole.safetensors").read_bytes()[:-8])
    written("empty.safetensors", b"")
    written("model.h5", b"x")
    with zipfile.ZipFile("other.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    torch.save({"w": torch.ones(1).to(torch.complex128)}, "complex.pt")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("evil.pt", "refers to (posix|nt).system, and reading that could run code: save model.state_dict"),
        ("evil.pth", "(refers to posix.system|holds more than arrays), and reading that could run code"),
        ("objects.npz", "x holds Python objects, which could run code"),
        ("pickle.npz", "it holds Python objects, which could run code"),
        ("whole.pt", "refers to torch.nn.modules.linear.Linear, and reading that could run code"),
        ("text.npz", "x is no array of numbers"),
        ("nothing.npz", "holds no arrays"),
        ("nothing.pt", "holds no arrays"),
        ("three.pt", "holds int in place of a state_dict"),
        ("cut.pt", "is damaged, or not written by torch.save"),
        ("cut.npz", "is damaged, or no npz file"),
        ("cut.safetensors", "is damaged, or no safetensors file"),
        ("empty.safetensors", "is damaged, or no safetensors file"),
        ("model.h5", "files end in .safetensors, .npz, .pt or .pth"),
        ("other.npz", "readme.txt is no array of numbers"),
        ("complex.pt", "w is of type torch.complex128, which is not read"),
        ("missing.pt", "there is no such file"),
    ],
    ids=lambda value: value if value.isidentifier() else "",
)
def test_a_file_that_cannot_be_used_is_refused_by_name_and_nothing_of_it_runs(tmp_path, name, words):
    evil()
    with pytest.raises(RequestError, match=rf"\A{name}: ({words})") as refused:
        files.load(name)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "was-here").exists()


def test_a_round_is_imported_and_another_one_is_added(net, tmp_path):
    save_file(net.state_dict(), "sent.safetensors")
    for client in range(2):
        with torch.no_grad():
            net[0].weight += 1
        torch.save(net.state_dict(), f"back{client}.pt")
    found = fedinv.import_files("sent.safetensors", ["back0.pt", "back1.pt"], out="run", records=32)
    assert found.side == "files"
    assert [(one.round, one.node, one.claimed_records) for one in found.updates] == [(1, 0, 32), (1, 1, 32)]
    for client, one in enumerate(found.updates):
        moved = one.received["0.weight"] - one.sent["0.weight"]
        assert torch.allclose(moved, torch.full((4, 3), client + 1.0))
        assert one.sent["1.num_batches_tracked"].dtype == torch.int64
    assert len(list((tmp_path / "run/wire").glob("*.safetensors"))) == 3
    with pytest.raises(RequestError, match="holds round 1 already: name another by --round"):
        fedinv.import_files("sent.safetensors", ["back0.pt"], out="run")
    found = fedinv.import_files("back0.pt", ["back1.pt"], out="run", round=2)
    assert [(one.round, one.claimed_records) for one in found.updates] == [(1, 32), (1, 32), (2, None)]


def test_a_list_gets_the_names_that_were_sent(net):
    torch.save(net.state_dict(), "sent.pt")
    np.savez("back.npz", *(tensor.numpy() for tensor in net.state_dict().values()))
    (update,) = fedinv.import_files("sent.pt", ["back.npz"], out="run").updates
    assert list(update.received) == list(update.sent) == list(net.state_dict())


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (
            {"a": (2,), "c": (1,)},
            "back.npz: lacks b of sent.npz, and has c, which sent.npz lacks: is it of another model?",
        ),
        ({"c": (2,)}, "back.npz: lacks a, b of sent.npz, and has c, which sent.npz lacks: is it"),
        (
            {"a": (2,), "b": (1,), **{f"x{i}": (1,) for i in range(5)}},
            "has x0, x1, x2 and 2 more, which sent.npz lacks",
        ),
        ({"a": (2,), "b": (1, 1)}, r"back.npz: b has shape \(1, 1\), and \(1,\) in sent.npz"),
    ],
)
def test_arrays_that_are_not_those_sent_are_named_before_anything_is_written(tmp_path, arrays, words):
    np.savez("sent.npz", a=np.zeros(2), b=np.zeros(1))
    np.savez("good.npz", a=np.zeros(2), b=np.zeros(1))
    np.savez("back.npz", **{name: np.zeros(shape) for name, shape in arrays.items()})
    with pytest.raises(RequestError, match=words):
        fedinv.import_files("sent.npz", ["good.npz", "back.npz"], out="run")
    assert not (tmp_path / "run").exists()


SENT = {"body.weight": (3, 2), "body.bias": (3,), "head.weight": (2, 3), "head.bias": (2,)}


def saved(path, shapes):
    """A file with arrays of these shapes, by name or, of a list, without names."""
    if isinstance(shapes, dict):
        np.savez(path, **{name: np.ones(shape) for name, shape in shapes.items()})
    else:
        np.savez(path, *(np.ones(shape) for shape in shapes))


@pytest.mark.parametrize(
    ("back", "names", "came"),
    [
        ({"head.bias": (2,), "head.weight": (2, 3)}, None, ["head.weight", "head.bias"]),
        ({"module.head.weight": (2, 3), "module.head.bias": (2,)}, None, ["head.weight", "head.bias"]),
        ({"body.weight": (3, 2), "head.bias": (2,)}, None, ["body.weight", "head.bias"]),
        ([(2, 3), (2,)], None, ["head.weight", "head.bias"]),
        ([(2,), (3, 2)], ["head.bias", "body.weight"], ["body.weight", "head.bias"]),
        ({"x": (2,)}, ["head.bias"], ["head.bias"]),
    ],
)
def test_a_part_of_the_arrays_gets_the_names_that_were_sent(back, names, came):
    saved("sent.npz", SENT)
    saved("back.npz", back)
    (update,) = fedinv.import_files("sent.npz", ["back.npz"], out="run", names=names).updates
    assert list(update.received) == came
    assert list(update.sent) == list(SENT)


@pytest.mark.parametrize(
    ("back", "names", "words"),
    [
        (
            [(2,), (2, 3)],
            None,
            r"a list of 2 .* shapes \(2,\), \(2, 3\) are no arrays in a row .* --names head.weight,head",
        ),
        ([(3, 3)], ["head.weight"], r"back.npz: 0 has shape \(3, 3\), and \(2, 3\) in sent.npz"),
        ([(2, 3)], ["head.weigth"], "--names: head.weigth is no array of sent.npz .did you mean 'head.weight'"),
        ([(2, 3), (2,)], ["head.weight"], "--names: are 1, and back.npz has 2 arrays"),
        ({"weight": (2, 3)}, None, "has weight, which sent.npz lacks"),
    ],
)
def test_a_part_that_does_not_fit_is_refused_with_the_names_that_differ(back, names, words):
    saved("sent.npz", SENT)
    saved("back.npz", back)
    with pytest.raises(RequestError, match=words):
        fedinv.import_files("sent.npz", ["back.npz"], out="run", names=names)


def test_a_list_that_fits_in_two_places_is_refused():
    saved("sent.npz", {"a": (2,), "b": (2,), "c": (2,)})
    saved("back.npz", [(2,)])
    with pytest.raises(RequestError, match="fit in 3 places of sent.npz"):
        fedinv.import_files("sent.npz", ["back.npz"], out="run")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"records": 0}, "--records: must be a whole number from 1"),
        ({"round": 0}, "--round: must be 1 or more"),
        ({"received": []}, "name the files that clients sent back"),
        ({"out": "full"}, "is not empty and holds no recording"),
    ],
)
def test_mistakes_are_refused_in_a_line(tmp_path, arguments, words):
    np.savez("sent.npz", a=np.zeros(2))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").touch()
    with pytest.raises(RequestError, match=words):
        fedinv.import_files(**{"sent": "sent.npz", "received": ["sent.npz"], "out": "run", **arguments})
