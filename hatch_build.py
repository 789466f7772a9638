"""What a package index shows: the README without what only a repository can show, or with links that lead to one.

A package page resolves no relative link and no relative image. FEDINV_HOME, the address of a GitHub repository, makes
them absolute when the wheel is built, and gives the package its project URLs; without it there is no address to write,
and pictures are left out rather than shown broken.
"""

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|mailto:|#)([^)\s]+)\)")
"""Pattern of a relative link or image: exclamation mark, text and path."""


class CustomMetadataHook(MetadataHookInterface):
    """Gives a built package its README and its URLs."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set `readme` and `urls` of the project's table."""
        home = os.environ.get("FEDINV_HOME", "").rstrip("/")
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": package_page(text, home)}
        metadata["urls"] = urls(home)


def package_page(readme: str, home: str) -> str:
    """README for a package index; `home` is the repository's address, or empty."""

    def led(found: re.Match[str]) -> str:
        image, text, path = found.groups()
        if home:
            return f"{image}[{text}]({home}/{'raw' if image else 'blob'}/HEAD/{path})"
        return "" if image else text

    return LINK.sub(led, readme)


def urls(home: str) -> dict[str, str]:
    """Project URLs of a repository; none where its address is not known."""
    if not home:
        return {}
    blob = f"{home}/blob/HEAD"
    return {
        "Source": home,
        "Documentation": f"{blob}/docs/concepts.md",
        "Changelog": f"{blob}/CHANGELOG.md",
        "Issues": f"{home}/issues",
    }
