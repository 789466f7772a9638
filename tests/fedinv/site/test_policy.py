"""A site's policy is read whole or not at all, and what is wrong is one line with the key and what to write."""

import pytest

from fedinv.errors import RequestError
from fedinv.site import policy


def test_an_empty_policy_is_strict(tmp_path):
    (tmp_path / "site.toml").write_text("")
    found = policy.read(tmp_path / "site.toml")
    assert found == policy.Policy()
    assert (found.arrays.allow, found.reply.messages, found.reply.error_texts) == (None, ("train", "evaluate"), False)
    assert set(found.metrics) == {"num-examples", "num_examples"}


def test_every_key_is_read(tmp_path):
    (tmp_path / "site.toml").write_text(
        """
        log = "events.jsonl"
        [reply]
        messages = ["train"]
        records = 2
        megabytes = 1
        wait_seconds = 5
        names = ["extra"]
        texts = ["ok"]
        error_texts = true
        [[arrays.allow]]
        name = "w"
        shape = [2, 3]
        dtype = "float32"
        [metrics]
        loss = "float"
        "num-examples" = { type = "int", least = 1, most = 500, send = 100 }
        [update]
        sends = "changes"
        clip = 1
        noise_multiplier = 2.0
        delta = 1e-5
        epsilon = 3.0
        [gate]
        network = "app.task:Net"
        app = "app"
        example = "app.task:example"
        limit = 0.01
        seconds = 2
        records = 32
        """
    )
    found = policy.read(tmp_path / "site.toml")
    assert found.arrays.allow == (policy.AllowedArray(name="w", shape=(2, 3), dtype="float32"),)
    assert found.metrics["loss"] == policy.AllowedMetric(type="float")
    assert found.metrics["num-examples"].send == 100
    assert (found.update.clip, found.gate.limit, found.reply.texts) == (1.0, 0.01, ("ok",))


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"arays": {}}, r"arays: unknown key \(did you mean 'arrays'\?\)"),
        ({"update": {"clp": 1.0}}, r"update\.clp: unknown key \(did you mean 'clip'\?\)"),
        ({"update": {"clip": "1"}}, r"update\.clip: should be a valid number, not '1'"),
        ({"update": {"clip": float("inf")}}, r"update\.clip: should be a finite number"),
        ({"update": {"noise_multiplier": 1.0}}, r"update: noise_multiplier needs clip.* write clip = 1\.0"),
        ({"update": {"clip": 1.0, "delta": 1e-5}}, r"update: delta states an epsilon, which only noise gives"),
        ({"update": {"clip": 1.0, "noise_multiplier": 1.0, "epsilon": 3.0}}, r"update: epsilon needs the delta"),
        ({"metrics": {"loss": "flaot"}}, r"metrics\.loss\.type: must be 'int' or 'float'.*did you mean 'float'"),
        ({"metrics": {"loss": 3}}, r"metrics\.loss: must be \"int\", \"float\" or a table, not 3: write \"float\""),
        ({"metrics": {"n": {"type": "int", "send": 1.5}}}, r"metrics\.n: send is 1\.5, no whole number: write 2"),
        ({"metrics": {"n": {"type": "int", "least": 3, "most": 2}}}, r"metrics\.n: least is 3 and most is 2"),
        ({"metrics": {"n": {}}}, r"metrics\.n\.type: is missing, write type = \"float\""),
        ({"gate": {}}, r"gate\.network: is missing, write network = \"app\.task:Net\""),
        ({"gate": {"network": "app.task"}}, r"gate\.network: 'app\.task' names no object, write module:name"),
        ({"arrays": {"allow": {"name": "w"}}}, r"arrays\.allow: must be a list of tables"),
        ({"arrays": {"allow": [{"name": "w", "shape": [1.5], "dtype": "float32"}]}}, r"arrays\.allow\.0\.shape\.0: "),
        ({"arrays": {"allow": [{"name": "w", "shape": [1], "dtype": "float23"}]}}, r"did you mean 'float32'\?"),
        ({"arrays": {"allow": [{"name": "w", "dtype": "float32"}]}}, r"allow\.0\.shape: is missing, write shape = "),
        ({"reply": {"messages": "train"}}, r"reply\.messages: must be a list, not 'train': write \['train'\]"),
        ({"reply": {"messages": ["tran"]}}, r"reply\.messages\.0: must be 'train', 'evaluate' or 'query', not 'tran'"),
        ({"reply": {"records": True}}, r"reply\.records: should be a valid integer, not True"),
    ],
)
def test_what_is_wrong_is_named_with_what_to_write(document, words):
    with pytest.raises(RequestError, match=words) as raised:
        policy.parse(document)
    assert "\n" not in str(raised.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(RequestError, match="nope.toml: cannot be read"):
        policy.read(tmp_path / "nope.toml")
    (tmp_path / "site.toml").write_text("x = [")
    with pytest.raises(RequestError, match="site.toml: not valid TOML"):
        policy.read(tmp_path / "site.toml")
