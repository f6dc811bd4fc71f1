"""Reports as one HTML file each: templates with everything escaped, one style, nothing loaded."""

import base64
import datetime
import hashlib
from pathlib import Path

import jinja2
from markupsafe import Markup

from official_nasfpn.printable import printable
from official_nasfpn.progress import duration
from official_nasfpn.reporting.chart import HEIGHT, WIDTH

_HERE = Path(__file__).parent


def templates(folder: Path) -> jinja2.Environment:
  """Returns the templates of a folder and those that all reports share; what they print is escaped.

  A page extends `document.html`.

  Args:
    folder: with templates of its own.
  """
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader([folder, _HERE]),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    finalize=_finalize,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.filters |= {"duration": _duration, "time": _time}
  environment.globals["CHART_SIZE"] = (WIDTH, HEIGHT)
  return environment


def style(own: Path) -> Markup:
  """Returns the style of a page.

  Args:
    own: a CSS file with what that page has beyond the others.
  """
  files = (_HERE / "page.css", own)
  return Markup("\n".join(file.read_text(encoding="utf-8") for file in files))


def content_policy(script: str | None = None, images: bool = False) -> str:
  """Returns a content security policy under which nothing is loaded and no other script runs.

  Args:
    script: the page's own; None where it has none.
    images: whether pictures are in the page, as `data:` URLs.
  """
  parts = ["default-src 'none'", "style-src 'unsafe-inline'"]
  if images:
    parts.append("img-src data:")
  if script is not None:
    digest = hashlib.sha256(script.encode()).digest()
    parts.append(f"script-src 'sha256-{base64.b64encode(digest).decode()}'")
  return "; ".join(parts)


def _finalize(value: object) -> object:
  return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _duration(hours: float) -> str:
  return duration(3600 * hours)


def _time(seconds: float, form: str = "%Y-%m-%d %H:%M") -> str:
  return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime(form)
