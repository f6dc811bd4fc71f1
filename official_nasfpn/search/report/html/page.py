"""The whole report as one file."""

import base64
import hashlib
import string
from collections.abc import Mapping, Sequence
from pathlib import Path

from official_nasfpn.configuration import configured_name
from official_nasfpn.disk import disk_errors, write_text
from official_nasfpn.search.recipe import SearchRecipe, read_recipe
from official_nasfpn.search.report.found import code_version, read_metrics, read_trials
from official_nasfpn.search.report.html import sections
from official_nasfpn.search.report.html.markup import element, join
from official_nasfpn.search.report.html.table import draw_table, table_data, trial_rows
from official_nasfpn.search.report.summary import summarize
from official_nasfpn.search.storage import stored_recipe
from official_nasfpn.search.store.trial_store import Trial

_HERE = Path(__file__).parent


def write_report(search_dir: Path, output: Path, now: float, store: str | None = None) -> None:
  """Writes the report of a search, running or not.

  Args:
    search_dir: of the search; nothing but `output` is written.
    output: the file.
    now: Unix time.
    store: the `confirmed` address of `storage.store_place`.

  Raises:
    UserError: there is no search, or the file cannot be written.
  """
  trials, metrics, recipe = (
    read_trials(search_dir, store),
    read_metrics(search_dir, store),
    read_recipe([stored_recipe(search_dir)]),
  )
  name = search_dir.resolve().name
  report = render_report(name, trials, metrics, recipe, now)
  with disk_errors(output, "The search is untouched: choose another --output."):
    write_text(output, report)


def render_report(
  search: str,
  trials: Sequence[Trial],
  metrics: Mapping[int, Mapping[str, float]],
  recipe: SearchRecipe,
  now: float,
) -> str:
  """Returns the report of a search, complete in itself.

  Args:
    search: its name.
    trials: all of it.
    metrics: what each update's learning measured, by update.
    recipe: of the search.
    now: Unix time.
  """
  algorithm = configured_name(type(recipe.search.algorithm))
  summary = summarize(trials, recipe.search.num_trials, now)
  rows = trial_rows(trials, recipe)
  specs = {row.trial.number: row for row in rows if row.spec is not None}
  script = (_HERE / "report.js").read_text(encoding="utf-8")
  template = string.Template((_HERE / "page.html").read_text(encoding="utf-8"))
  return template.substitute(
    # Nothing is loaded, and no script runs but ours.
    policy=f"default-src 'none'; style-src 'unsafe-inline'; script-src '{_hash(script)}'",
    title=join(search, " · search report"),
    style=(_HERE / "report.css").read_text(encoding="utf-8"),
    search=join(search),
    status=element("span", summary.status, class_=f"status {summary.status.replace(' ', '-')}"),
    begin=sections.beginning(summary, algorithm, now),
    head=sections.head(summary, specs),
    figure_5=sections.figure_5(trials, summary),
    pareto=sections.pareto(rows),
    controller=sections.controller(metrics),
    figure_7=sections.figure_7(trials, specs),
    table_note=sections.table_note(rows),
    state_options=sections.state_options(trials),
    table=draw_table(rows),
    failures=sections.failures(trials),
    workers=sections.workers(trials),
    recipe=join(recipe.to_gin()),
    version=join(code_version()),
    data=table_data(rows, search, algorithm),
    script=script,
  )


def _hash(script: str) -> str:
  digest = hashlib.sha256(script.encode()).digest()
  return f"sha256-{base64.b64encode(digest).decode()}"
