import io
import re

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord

from fedinv.errors import RunError
from fedinv.recording import content

VALUES = {
    "float32": np.arange(6, dtype=np.float32).reshape(2, 3),
    "float16": np.ones(3, np.float16),
    "float64": np.zeros((), np.float64),
    "int64": np.array([-1, 2]),
    "uint8": np.array([], np.uint8).reshape(0, 4),
    "bool": np.array([True, False]),
    "complex64": np.array([1j], np.complex64),
    "uint32": np.array([2**32 - 1], np.uint32),
}


def kept(tmp_path, arrays):
    parts = content.of_record(ArrayRecord(arrays))
    key = content.digest(parts)
    content.write(tmp_path, key, parts)
    return key, content.read(tmp_path, key)


def test_arrays_are_read_back_in_their_order_with_their_types(tmp_path):
    names = ["b", "a", *VALUES]
    arrays = {name: Array(VALUES.get(name, np.ones(1, np.float32))) for name in names}
    key, found = kept(tmp_path, arrays)
    assert list(found) == names
    for name, values in VALUES.items():
        assert str(found[name].dtype) == f"torch.{name}"
        assert found[name].numpy().tobytes() == values.tobytes()
        assert tuple(found[name].shape) == values.shape
    assert re.fullmatch(r"[0-9a-f]{64}", key)
    assert content.digest(content.of_tensors(found)) == key


def test_the_digest_is_of_names_types_shapes_and_numbers_and_of_no_serialization():
    base = np.arange(6, dtype=np.float32).reshape(2, 3)

    def digest(name, array):
        return content.digest(content.of_record(ArrayRecord({name: array})))

    one = digest("w", Array(base))
    assert digest("w", Array(np.asfortranarray(base))) == one
    assert digest("w", Array(base.astype(">f4"))) == one
    assert content.digest(content.of_tensors({"w": torch.from_numpy(base)})) == one
    second = io.BytesIO()
    np.lib.format.write_array(second, base, version=(2, 0))
    assert digest("w", Array("float32", (2, 3), "numpy.ndarray", second.getvalue())) == one
    # Flower's older strategies leave type and shape out
    assert digest("w", Array("", (), "numpy.ndarray", Array(base).data)) == one
    others = [("v", base), ("w", base.reshape(3, 2)), ("w", base.astype(np.float64)), ("w", base + 1)]
    others.append(("w", base.view(np.int32)))
    assert len({one, *(digest(name, Array(values)) for name, values in others)}) == 6


@pytest.mark.parametrize(
    "array",
    [
        Array("float32", (2,), "a.codec", b"squeezed"),
        Array("float32", (2,), "numpy.ndarray", b"no header at all"),
        Array("float32", (2,), "numpy.ndarray", b""),
        Array("object", (1,), "numpy.ndarray", b"\x93NUMPY\x01\x00\x06\x00{'a':\n"),
        Array(np.array(["text"])),
        Array(np.ones(2, np.longdouble)),
        Array(np.ones(4, np.float32)[:2].copy()),
    ],
)
def test_whatever_is_no_array_of_numbers_is_kept_as_its_bytes(tmp_path, array):
    (part,) = content.of_record({"x": array})
    _, found = kept(tmp_path, {"x": array})
    if part.form:
        assert found["x"].dtype == torch.uint8
        assert found["x"].numpy().tobytes() == array.data
    else:
        assert found["x"].tolist() == [1, 1]


def test_bfloat16_is_kept(tmp_path):
    tensors = {"w": torch.tensor([1.5, -2], dtype=torch.bfloat16)}
    parts = content.of_tensors(tensors)
    content.write(tmp_path, content.digest(parts), parts)
    found = content.read(tmp_path, content.digest(parts))
    assert found["w"].dtype == torch.bfloat16
    assert torch.equal(found["w"], tensors["w"])


def test_a_file_that_holds_something_else_is_named(tmp_path):
    key, _ = kept(tmp_path, {"w": Array(np.zeros(3, np.float32))})
    path = content.path_of(tmp_path, key)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"\x01")
    with pytest.raises(RunError, match=rf"{key}.safetensors: is damaged: it does not hold"):
        content.read(tmp_path, key)
    path.write_bytes(whole[:-4])
    with pytest.raises(RunError, match=f"{key}.safetensors: is damaged"):
        content.read(tmp_path, key)
    # one cut short is written again
    parts = content.of_record(ArrayRecord({"w": Array(np.zeros(3, np.float32))}))
    path.write_bytes(whole[:8])
    content.write(tmp_path, key, parts)
    assert content.read(tmp_path, key)["w"].tolist() == [0, 0, 0]
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
