import pytest

from fedinv.errors import RequestError
from fedinv.storage.documents import loads, read


def test_a_file_that_begins_with_a_mark_as_windows_editors_write_is_read(tmp_path):
    path = tmp_path / "s.toml"
    path.write_bytes(b"\xef\xbb\xbf" + 'name = "é"\n'.encode())
    assert read(path) == {"name": "é"}


@pytest.mark.parametrize("written", [r"..\in\t.csv", r"C:\Users\me\t.csv", r"C:\xyz\t.csv", r"D:\data\t.csv"])
def test_a_windows_path_in_double_quotes_is_refused_with_how_to_write_it(written):
    with pytest.raises(RequestError, match=r"line 2.*write a path in single quotes, or with / for"):
        loads(f'name = "x"\ndata = {{ path = "{written}" }}\n', "s.toml")
    assert loads(f"path = '{written}'", "s.toml") == {"path": written}


def test_another_mistake_is_not_said_to_be_a_path():
    with pytest.raises(RequestError) as caught:
        loads('name = "x\n', "s.toml")
    assert "single quotes" not in str(caught.value)
