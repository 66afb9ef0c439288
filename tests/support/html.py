"""A page of the server, checked as it is read."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

VOID = {"meta", "link", "input", "br"}
EVIL = "<script>alert(1)</script> good \"quality\" & 'more' {{ 7*7 }}"


def words_of(page: str) -> str:
    """The page's text, white space as one blank."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


class Checker(HTMLParser):
    """Well-formed, and nothing that the content security policy would refuse."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.labels: list[str | None] = []
        self.feed(page)
        self.close()
        assert self.open == [] and len(self.ids) == len(set(self.ids))
        assert set(self.labels) <= {None, *self.ids}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Every opening tag."""
        given = dict(attrs)
        assert len(given) == len(attrs), (tag, attrs)
        assert "style" not in given and not [name for name in given if name.startswith("on")]
        assert tag != "style" and (tag != "script" or given.get("src", "").startswith("/static/"))  # type: ignore[union-attr]
        for name in ("href", "src", "action"):
            assert (given.get(name) or "/").startswith(("/", "#", "data:text/csv")), (tag, attrs)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.labels += [given["for"]] if "for" in given else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """`<line …/>` and the like."""
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        """Every closing tag."""
        assert self.open.pop() == tag
