"""What a forge, an index and an editor read of the project: each file is what it must be, and says what is true."""

import importlib.util
import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

import fedinv

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def hook():
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


README = "[a](docs/a.md) ![p](docs/p.png) [h](#here) [f](https://flower.ai)"


def test_a_package_page_has_absolute_links_where_the_repository_is_known():
    home = "https://forge.test/fedinv"
    shown = hook().package_page(README, home)
    assert (
        shown == f"[a]({home}/blob/HEAD/docs/a.md) ![p]({home}/raw/HEAD/docs/p.png) [h](#here) [f](https://flower.ai)"
    )
    assert hook().urls(home)["Source"] == home


def test_a_package_page_has_no_broken_link_or_picture_where_it_is_not():
    assert hook().package_page(README, "") == "a  [h](#here) [f](https://flower.ai)"
    assert hook().urls("") == {}
    shown = hook().package_page(text("README.md"), "")
    assert not re.search(r"\]\((?!https://|#)", shown)


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load(text("CITATION.cff"))
    assert cited["version"] == fedinv.__version__ == PROJECT["version"]
    assert cited["license"] == PROJECT["license"]
    assert {"cff-version", "message", "title", "authors"} <= set(cited)
    assert [one["name"] for one in cited["authors"]] == [one["name"] for one in PROJECT["authors"]]


@pytest.mark.parametrize("path", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem)
def test_an_issue_template_is_a_form(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    if path.stem == "config":
        assert form["blank_issues_enabled"] is True
        return
    assert {"name", "description", "body"} <= set(form)
    for field in form["body"]:
        assert field["type"] in ("markdown", "textarea", "input")
        assert field["attributes"].get("label") or field["attributes"].get("value")
    ids = [field["id"] for field in form["body"] if "id" in field]
    assert len(ids) == len(set(ids)) >= 3


def test_a_commit_is_checked_by_what_make_check_runs():
    hooks = yaml.safe_load(text(".pre-commit-config.yaml"))["repos"][0]["hooks"]
    tools = {hook["entry"].split()[0] for hook in hooks}
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", text("Makefile"), re.M)[1]
    assert {f".venv/bin/{name}" for name in re.findall(r"\$\(BIN\)/([\w-]+)", recipe)} == tools
    assert all(hook["language"] == "system" for hook in hooks)  # nothing is fetched


def test_containers_install_what_the_project_pins():
    docker = text("Dockerfile")
    (torch,) = set(re.findall(r"torch==[\d.]+", docker))
    assert torch in text("constraints.txt").splitlines()
    assert torch in text("Makefile")
    assert "--constraint constraints.txt ." in docker
    assert "USER fedinv" in docker
    assert json.loads(text(".devcontainer/devcontainer.json"))["postCreateCommand"] == "make install"
    for image in (*re.findall(r"FROM python:(\d\.\d+)", docker), "3.11"):
        assert f"Programming Language :: Python :: {image}" in PROJECT["classifiers"]
