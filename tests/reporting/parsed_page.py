"""A report as the texts and tags that are in it."""

import html.parser
from pathlib import Path


class _Text(html.parser.HTMLParser):
  """Collects the text that a person sees, element by element, and the tags."""

  def __init__(self):
    super().__init__()
    self.texts: list[str] = []
    self.tags: list[tuple[str, dict]] = []
    self._hidden = False

  def handle_starttag(self, tag, attributes):
    self.tags.append((tag, dict(attributes)))
    self._hidden = tag in ("script", "style")

  def handle_endtag(self, tag):
    self._hidden = False

  def handle_data(self, data):
    if not self._hidden and data.strip():
      self.texts.append(data.strip())


def parsed(report: Path) -> _Text:
  text = _Text()
  text.feed(report.read_text(encoding="utf-8"))
  return text


def tile(texts: list[str], name: str) -> str:
  return texts[texts.index(name) + 1]
