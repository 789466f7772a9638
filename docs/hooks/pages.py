"""Pages that are made when the site is built: of plugins, of the scenario's keys, of Python, of the top folder's files.

The texts are those of `fedinv explain` and of the published JSON Schema, so that a page cannot say anything else than
the program. Links that lead out of docs/ are turned to the page that the site has, or become plain text.
"""

import json
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import fedinv
from fedinv import plugins
from fedinv.scenario.explanation import Explanation, Setting, explanation

ROOT = Path(__file__).parents[2]
TOP = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
"""Files of the top folder that are pages of the site, by their names."""
GROUPS: tuple[plugins.Group, ...] = ("attacks", "defenses", "deviations", "detectors", "datasets")
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s#]*)(#[^)\s]*)?\)")
"""Pattern of a Markdown link: text, file and anchor."""
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^[ ]*```.*?^[ ]*```[ ]*$", re.M | re.S)
PROTOCOLS = {
    "attack": ("fedinv.attack", "Writing an attack"),
    "defense": ("fedinv.defense", "Writing a defense"),
    "deviation": ("fedinv.deviation", "Writing a deviation"),
    "detector": ("fedinv.detector", "Writing a detector"),
    "dataset": ("fedinv.data.dataset", "Writing a data set"),
}
"""Modules that authors of plugins import, with the title of the page, by the page's name."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made, and name every page in the menu."""
    made = {**from_the_top(), **of_plugins(), **of_python(), "reference/scenario.md": of_scenario(schema())}
    for uri, text in made.items():
        files.append(File.generated(config, uri, content=text))
    pages = [file.src_uri for file in files if file.src_uri.endswith(".md") and not file.src_uri.startswith("hooks/")]
    if config.nav is not None:
        named = set(strings(config.nav))
        config.nav = expanded(config.nav, pages, named)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead every link to a page of the site."""
    source = source_of(page.file.src_uri)
    text = retargeted(markdown, source, page.file.src_uri)
    return with_links(text) if page.file.src_uri == "kinds.md" else text


def source_of(page: str) -> str:
    """The path in the repository of a page's file."""
    if page.startswith("lessons/"):
        return "lessons/README.md" if page == "lessons/index.md" else f"{page.removesuffix('.md')}.py"
    return {made: top for top, made in TOP.items()}.get(page, f"docs/{page}")


def page_of(source: str) -> str | None:
    """The page that a file of the repository is; None where it is none."""
    if re.fullmatch(r"lessons/(README\.md|\d\w*\.py)", source):
        return "lessons/index.md" if source.endswith("README.md") else f"{source.removesuffix('.py')}.md"
    return source.removeprefix("docs/") if source.startswith("docs/") else TOP.get(source)


def from_the_top() -> Mapping[str, str]:
    """The files of the top folder by the page that each one is."""
    return {page: (ROOT / name).read_text(encoding="utf-8") for name, page in TOP.items()}


def of_plugins() -> Mapping[str, str]:
    """A page for each attack, defense, deviation, detector and data set of fedinv itself."""
    return {
        f"{group}/{kind}.md": explained(explanation(kind))
        for group in GROUPS
        for kind in sorted(plugins.available(group))
    }


def explained(one: Explanation) -> str:
    """What `fedinv explain` prints, as Markdown."""
    parts = [f"# `{one.name}`", f"*{one.what}*"]
    parts += [paragraph(text) for text in one.text]
    if one.facts:
        rows = [f"| {fact.name} | {cell(fact.says)} |" for fact in one.facts]
        parts.append("\n".join(["| | |", "|---|---|", *rows]))
    if one.settings:
        parts.append("## Settings")
        parts += [setting(key) for key in one.settings]
    return "\n\n".join(parts) + "\n"


def setting(key: Setting) -> str:
    """One key: name, type and bounds, default and description."""
    default = f", `{key.default}` by default" if key.default is not None else ", to be given"
    return f"### `{key.name}`\n\n*{key.form}*{default}\n\n{plain(key.says)}"


def paragraph(text: str) -> str:
    """One paragraph of a docstring; what is indented stays as it is."""
    if text.startswith(" "):
        return f"```text\n{text}\n```"
    return plain(re.sub(r"::$", ":", text))


def plain(text: str) -> str:
    """A phrase of a docstring in which only backticks mean anything, with the guides that it names as links."""
    pieces = re.split(r"(`[^`]*`)", text.replace("``", "`"))
    escaped = [piece if piece.startswith("`") else re.sub(r"([\\*_<\[])", r"\\\1", piece) for piece in pieces]
    return re.sub(r"docs/([\w-]+\.md)", r"[docs/\1](../\1)", "".join(escaped))


def cell(text: str) -> str:
    """A phrase for a table's cell."""
    return plain(text).replace("|", "\\|")


def schema() -> Mapping[str, Any]:
    """The published JSON Schema of scenarios."""
    return json.loads((ROOT / "scenarios/scenario.schema.json").read_text(encoding="utf-8"))


def of_scenario(schema: Mapping[str, Any]) -> str:
    """The reference of all keys of a scenario: one section a table, one row a key."""
    parts = [
        "# Keys of a scenario",
        "Made from `scenarios/scenario.schema.json`, by which editors complete a scenario. "
        "`fedinv explain KEY` prints any of them, such as `fedinv explain training.lr`.",
        table(schema, schema, ""),
    ]
    for name, form in schema["properties"].items():
        parts += tables(schema, form, name, 2)
    return "\n\n".join(parts) + "\n"


def tables(schema: Mapping[str, Any], form: Mapping[str, Any], name: str, depth: int) -> Iterator[str]:
    """Sections of the tables that a key may hold, and of those within; tables of plugins have pages of their own."""
    group = {"attacks": "attacks", "defenses": "defenses", "vetting": "detectors", "server.deviations": "deviations"}
    held = list(dict.fromkeys(references(form)))
    if not held:
        return
    repeated = form.get("type") == "array"
    yield f"{'#' * depth} `{f'[[{name}]]' if repeated else f'[{name}]'}`"
    if name in group or name == "data":
        where = group.get(name, "datasets")
        yield plain(form.get("description", ""))
        yield "\n".join(f"- [`{kind}`](../{where}/{kind}.md)" for kind in sorted(kinds(form)))
        if name != "data":
            return
        shared = set.intersection(*(set(schema["$defs"][one]["properties"]) for one in held)) - {"source"}
        inner = {key: schema["$defs"][held[0]]["properties"][key] for key in sorted(shared)}
        yield "Keys of every source:"
        yield table(schema, {"properties": inner, "required": []}, name)
        for key, within in inner.items():
            yield from tables(schema, within, f"{name}.{key}", depth + 1)
        return
    for one in held:
        content = schema["$defs"][one]
        kind = content["properties"].get("kind", {}).get("const")
        if kind:
            yield f'{"#" * (depth + 1)} `{name}` of `kind = "{kind}"`'
        yield from (paragraph(text) for text in content.get("description", "").split("\n\n"))
        yield table(schema, content, name)
        for key, within in content["properties"].items():
            yield from tables(schema, within, f"{name}.{key}", depth + 1 + bool(kind))


def table(schema: Mapping[str, Any], content: Mapping[str, Any], name: str) -> str:
    """The keys of a table with type, default and description."""
    rows = ["| key | type | default | |", "|---|---|---|---|"]
    for key, form in content["properties"].items():
        given = json.dumps(form["default"]) if "default" in form and not isinstance(form["default"], dict) else ""
        default = "required" if key in content.get("required", ()) else f"`{given}`" if given else ""
        rows.append(f"| `{key}` | {kind_of(form)} | {default} | {cell(form.get('description', ''))} |")
    return "\n".join(rows)


WORDS = {"string": "text", "number": "number", "integer": "whole number", "boolean": "true or false", "object": "table"}
BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def kind_of(form: Mapping[str, Any]) -> str:
    """Type and bounds of a key, in words."""
    if "enum" in form:
        return ", ".join(f"`{one}`" for one in form["enum"])
    if "const" in form:
        return f"`{form['const']}`"
    if "anyOf" in form:
        return " or ".join(dict.fromkeys(kind_of(one) for one in form["anyOf"] if one.get("type") != "null"))
    if form.get("type") == "array":
        items = form.get("items", {})
        return f"list of {kind_of(items)}" if items and not list(references(items)) else "list of tables"
    if list(references(form)):
        return "table"
    bounds = [f"{word} {form[key]:g}" for key, word in BOUNDS.items() if key in form]
    return ", ".join([WORDS.get(str(form.get("type")), "any"), *bounds])


def references(form: Any) -> Iterator[str]:
    """Names of the definitions that a form refers to."""
    if isinstance(form, Mapping):
        for key, value in form.items():
            if key == "$ref":
                yield value.rpartition("/")[2]
            elif key != "default":
                yield from references(value)
    elif isinstance(form, list):
        for one in form:
            yield from references(one)


def kinds(form: Mapping[str, Any]) -> Sequence[str]:
    """Kinds of plugins that a form tells apart."""
    told_apart = form.get("discriminator") or form.get("items", {}).get("discriminator") or {"mapping": {}}
    return list(told_apart["mapping"])


def of_python() -> Mapping[str, str]:
    """Pages of what `import fedinv` offers, and of what authors of plugins import."""
    functions = [name for name in fedinv.__all__ if name.islower()]
    classes = [name for name in fedinv.__all__ if not name.islower()]
    elsewhere = vars(fedinv)["_ELSEWHERE"]
    pages = {
        "reference/python/functions.md": "# Functions of `fedinv`\n\n"
        + "\n\n".join(f"::: fedinv.api.{name}" for name in functions),
        "reference/python/types.md": "# Types of `fedinv`\n\n"
        + "\n\n".join(f"::: fedinv.{elsewhere[name]}.{name}" for name in classes),
    }
    for name, (module, title) in PROTOCOLS.items():
        shown = "    options:\n      show_root_heading: false\n      show_root_toc_entry: false\n      heading_level: 2"
        pages[f"reference/python/{name}.md"] = f"# {title}\n\n::: {module}\n{shown}\n"
    return pages


def strings(nav: Any) -> Iterator[str]:
    """Every page that a menu names."""
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, Mapping):
        for value in nav.values():
            yield from strings(value)
    else:
        for one in nav:
            yield from strings(one)


def expanded(nav: Any, pages: Sequence[str], named: set[str]) -> Any:
    """A menu in which each pattern is replaced by the pages that fit it; "*" fits those that nothing else names."""
    if isinstance(nav, Mapping):
        return {title: expanded(value, pages, named) for title, value in nav.items()}
    if isinstance(nav, str):
        return matching(nav, pages, named) if nav.endswith("*") else nav
    found: list[Any] = []
    for one in nav:
        new = expanded(one, pages, named)
        found += new if isinstance(one, str) and isinstance(new, list) else [new]
    return found


def matching(pattern: str, pages: Sequence[str], named: set[str]) -> list[str]:
    """Pages in the folder of a pattern, in order of their names."""
    folder = pattern[:-1]
    if folder:
        return [page for page in sorted(pages) if page.startswith(folder)]
    generated = {*(f"{group}/" for group in GROUPS), "reference/"}
    return [page for page in sorted(pages) if page not in named and not page.startswith(tuple(generated))]


def retargeted(markdown: str, source: str, page: str) -> str:
    """Text whose links go where the site has the file; `source` is its path in the repository, `page` on it."""
    pieces = re.split(f"({FENCE.pattern})", markdown, flags=re.M | re.S)
    return "".join(piece if index % 2 else _led(piece, source, page) for index, piece in enumerate(pieces))


def _led(text: str, source: str, page: str) -> str:
    def link(found: re.Match[str]) -> str:
        said, path, anchor = found.group(1), found.group(2), found.group(3) or ""
        if not path or re.match(r"[a-z]+:", path):
            return found.group()
        to = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if source == f"docs/{page}" and to.startswith("docs/"):
            return found.group()
        target = page_of(to)
        if target is not None:
            return f"[{said}]({posixpath.relpath(target, posixpath.dirname(page) or '.')}{anchor})"
        return said if "`" in said or said == to else f"{said} (`{to}`)"

    def image(found: re.Match[str]) -> str:
        to = posixpath.normpath(posixpath.join(posixpath.dirname(source), found.group(2)))
        return f"![{found.group(1)}]({posixpath.relpath(to.removeprefix('docs/'), posixpath.dirname(page) or '.')})"

    return LINK.sub(link, IMAGE.sub(image, text))


def with_links(text: str) -> str:
    """The list of all kinds, in which each kind of a table's first column leads to its page."""
    where = {kind: group for group in GROUPS for kind in plugins.available(group)}

    def first(found: re.Match[str]) -> str:
        return re.sub(
            r"`([\w-]+)`",
            lambda kind: f"[`{kind[1]}`]({where[kind[1]]}/{kind[1]}.md)" if kind[1] in where else kind[0],
            found.group(),
        )

    return re.sub(r"^\| [^|]*\|", first, text, flags=re.M)
