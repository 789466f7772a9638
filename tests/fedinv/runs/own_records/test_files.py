"""Records that somebody gives: files and functions, and one line for those that cannot be used, without a cell."""

import numpy as np
import pytest
import torch

from fedinv.errors import RequestError
from fedinv.runs.own_records.files import Layout, read

TABLE, IMAGES = Layout((3,)), Layout((1, 2, 2))
SECRET = "4711"


def written(tmp_path, text, name="mine.csv"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_columns_are_the_inputs_in_order_and_the_label_is_last(tmp_path, mark):
    rows = ["a,b,c,ill", "1,2,3,0", "4,5.5,6,1"]
    found = read(written(tmp_path, "\n".join(rows).replace(",", mark)), TABLE, "--records")
    assert found.inputs.tolist() == [[1, 2, 3], [4, 5.5, 6]]
    assert found.labels.tolist() == [0, 1]
    assert found.update is None


def test_a_table_without_label_and_one_that_names_the_update(tmp_path):
    found = read(written(tmp_path, "a,b,c\n1,2,3\n"), TABLE, "--records")
    assert (found.inputs.tolist(), found.labels) == ([[1, 2, 3]], None)
    found = read(written(tmp_path, "update,a,b,c,y\n0,1,2,3,1\n4,1,2,3,0\n"), TABLE, "--records")
    assert (found.update.tolist(), found.labels.tolist()) == ([0, 4], [1, 0])


def test_flat_rows_are_folded_into_the_network_s_shape(tmp_path):
    found = read(written(tmp_path, "a,b,c,d\n1,2,3,4\n"), IMAGES, "--records")
    assert found.inputs.tolist() == [[[[1, 2], [3, 4]]]]
    assert read(np.arange(8.0).reshape(2, 4), IMAGES, "--records").inputs.shape == (2, 1, 2, 2)


def test_arrays_of_an_npz_by_their_names(tmp_path):
    np.savez(tmp_path / "a.npz", records=np.ones((2, 3)), labels=np.array([0, 1]), update=np.array([1, 1]))
    found = read(tmp_path / "a.npz", TABLE, "--records")
    assert (found.labels.tolist(), found.update.tolist(), found.inputs.dtype) == ([0, 1], [1, 1], torch.float32)
    np.savez(tmp_path / "b.npz", np.ones((2, 3)))
    assert len(read(tmp_path / "b.npz", TABLE, "--records")) == 2


def test_a_function_of_the_project_gives_records(tmp_path, recorded):
    layout = Layout((1, 8, 8))
    found = read("someones.task:mine", layout, "--records", recorded.project)
    assert (found.inputs.shape, found.labels.tolist()) == ((2, 1, 8, 8), [0, 0])
    assert read("someones.task:of_updates", layout, "--truth", recorded.project).update.tolist() == [0, 1]
    for name, said in (
        ("text", "gives a str, not a tensor of records"),
        ("broken", "failed: ValueError"),
        ("nobody", "someones.task has no 'nobody'"),
    ):
        with pytest.raises(RequestError, match=f"--others: .*{said}"):
            read(f"someones.task:{name}", layout, "--others", recorded.project)
    with pytest.raises(RequestError, match="--others: nowhere cannot be imported: there is no module 'nowhere'"):
        read("nowhere:mine", layout, "--others", recorded.project)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("a,b,c\n", "has a header but no rows"),
        (f"a,b\n{SECRET},2\n", "has 2 columns, and the network has 3 inputs"),
        (f"a,b,c,d,e\n{SECRET},2,3,4,5\n", "has 5 columns, and the network has 3 inputs"),
        (f"a,b,c\n1,x{SECRET},3\n1,2,3\n", r"column 'b' holds 1 cells that are no numbers \(the first is in row 2\)"),
        (
            f"a,b,c\n1,2,{SECRET}\n,2,3\n",
            "column 'a' has no value in row 3: write there what the app feeds to its network",
        ),
        (f"a,b,c\n1,NA,{SECRET}\n1,2,3\n1,,3\n", "column 'b' has no value in row 2, nor in 1 other row: write there"),
        (f"a,b,c\n{SECRET},inf,3\n", "column 'b' has no value in row 2"),
        (f"\na,b,c\n1,2,{SECRET}\n\n\n1,,3\n", "column 'b' has no value in row 6"),  # as an editor shows it
        (f"a,b,c\r\n1,2,{SECRET}\r\n\r\n1,x,3\r\n", "the first is in row 4"),
        (f"a,b,c\n\n1,2,3\n\n{SECRET},2\n", "row 5 .* has 2 cells instead of 3"),
        (f"a,b,c\n1,2\n{SECRET},2,3\n", "row 2 .* has 2 cells instead of 3"),
        (f"{SECRET}.5,2.5,3.5\n1,2,3\n", "its first row holds values, not names"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_line_without_a_cell(tmp_path, text, said):
    with pytest.raises(RequestError, match=said) as caught:
        read(written(tmp_path, text), TABLE, "--records")
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_used_are_one_line(tmp_path):
    np.savez(tmp_path / "shape.npz", records=np.ones((2, 5)))
    np.savez(tmp_path / "names.npz", x=np.ones((2, 3)), y=np.ones(2))
    np.savez(tmp_path / "labels.npz", records=np.ones((2, 3)), labels=np.ones(3))
    np.savez(tmp_path / "nan.npz", records=np.full((2, 3), np.nan))
    np.savez(tmp_path / "none.npz", records=np.ones((0, 3)))
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04 no archive")
    for source, said in (
        (tmp_path / "shape.npz", r"records have the shape \(5,\), and the network takes \(3,\)"),
        (tmp_path / "names.npz", "names no array 'records'"),
        (tmp_path / "labels.npz", "labels must be one number for each of 2 records"),
        (tmp_path / "nan.npz", "numbers that are not finite"),
        (tmp_path / "none.npz", "holds no records"),
        (tmp_path / "damaged.npz", "is damaged, or no npz file"),
        (tmp_path / "missing.csv", "--records: there is no file"),
        (tmp_path, "--records: .* is a folder"),
        (np.ones((2, 4)), r"--records: records have the shape \(4,\)"),
    ):
        with pytest.raises(RequestError, match=said):
            read(source, TABLE, "--records")
