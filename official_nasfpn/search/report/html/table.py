"""All trials: the first rows as HTML, and the data of which `report.js` makes any others."""

import dataclasses
import json
import math
from collections.abc import Sequence

from official_nasfpn import architecture
from official_nasfpn.architecture import MERGE_OPS, PyramidSpec
from official_nasfpn.errors import UserError
from official_nasfpn.progress import progress_bar
from official_nasfpn.search.recipe import SearchRecipe
from official_nasfpn.search.report.found import best_trials
from official_nasfpn.search.report.html.drawing import draw_pyramid_svg
from official_nasfpn.search.report.html.markup import NOTHING, Markup, element, join
from official_nasfpn.search.report.summary import is_stopped_early
from official_nasfpn.search.store.trial_store import Trial

# Rows at a time; `report.js` has the same number.
PAGE_ROWS = 50

_COLUMNS = (
  "rank",
  "trial",
  "update",
  "state",
  "reward",
  "multiply-adds, M",
  "parameters",
  "seconds",
  "attempts",
  "worker",
  "architecture",
)
_NUMERIC = (True, True, True, False, True, True, True, True, True, False, False)


@dataclasses.dataclass(frozen=True)
class TrialRow:
  """A trial with what follows from it.

  Attributes:
    trial: the trial.
    rank: 1 for the best; None without a reward of its own.
    spec: its architecture; None when the text in the store is none.
    multiply_adds: on one image, None where nobody knows; see `costs_detector`.
    parameters: of one pyramid, None where nobody knows.
  """

  trial: Trial
  rank: int | None
  spec: PyramidSpec | None
  multiply_adds: int | None
  parameters: int | None


def trial_rows(trials: Sequence[Trial], recipe: SearchRecipe) -> list[TrialRow]:
  """Returns the rows by rank, then those without one by number.

  Args:
    trials: all of a search.
    recipe: of the search; the detector's width and image size decide what a pyramid costs.
  """
  ranks = {trial.number: rank for rank, trial in enumerate(best_trials(trials), start=1)}
  measured = costs_detector(trials)
  detector = recipe.experiment.detector
  width, separable = detector.num_filters, detector.separable_convolutions
  rows = []
  with progress_bar(len(trials), "read", "trial") as bar:
    for trial in trials:
      spec = _spec(trial)
      multiply_adds = parameters = None
      if measured:
        multiply_adds = _multiply_adds(trial)
      elif spec:
        multiply_adds = architecture.pyramid_multiply_adds(
          spec, width, detector.image_size, separable
        )
      if spec:
        parameters = architecture.pyramid_parameters(spec, width, separable)
      rows.append(TrialRow(trial, ranks.get(trial.number), spec, multiply_adds, parameters))
      bar.update()
  return sorted(rows, key=lambda row: (row.rank or len(rows) + 1, row.trial.number))


def costs_detector(trials: Sequence[Trial]) -> bool:
  """Returns whether multiply-adds are those of the whole detector, and not of one pyramid.

  They are where every trial with a reward has measured them; the pyramid's follow from its text.
  """
  done = best_trials(trials)
  return bool(done) and all(_multiply_adds(trial) is not None for trial in done)


def shown_state(trial: Trial) -> str:
  """Returns the state as the table calls it: of done trials, some were stopped early."""
  return "stopped early" if is_stopped_early(trial) else trial.state


def draw_table(rows: Sequence[TrialRow]) -> Markup:
  """Returns the table with the first rows; by the script it gets all of them."""
  head = element(
    "tr",
    *(
      element(
        "th",
        element("button", label, type="button"),
        scope="col",
        class_="number" if numeric else None,
        aria_sort="ascending" if label == "rank" else None,
      )
      for label, numeric in zip(_COLUMNS, _NUMERIC, strict=True)
    ),
  )
  body = element("tbody", *(_draw_row(row) for row in rows[:PAGE_ROWS]))
  return element("table", element("thead", head), body, id="trials")


def table_data(rows: Sequence[TrialRow], search: str, algorithm: str) -> Markup:
  """Returns the script element with all rows as JSON.

  Args:
    rows: in the order in which they are shown at first.
    search: its name.
    algorithm: that proposed the trials.
  """
  levels = next(((r.spec.min_level, r.spec.max_level) for r in rows if r.spec), (3, 7))
  workers, reasons, states = _Numbering(), _Numbering(), _Numbering()
  data = {
    "search": search,
    "algorithm": algorithm,
    "levels": levels,
    "ops": [[name, op.short_name] for name, op in MERGE_OPS.items()],
    "rows": [
      [
        row.rank,
        row.trial.number,
        row.trial.update,
        states.number(shown_state(row.trial)),
        _rounded(row.trial.reward, 6),
        row.multiply_adds,
        row.parameters,
        _rounded(row.trial.seconds, 1),
        row.trial.attempt,
        workers.number(row.trial.worker),
        row.trial.architecture_hash,
        row.trial.reused_from,
        reasons.number(row.trial.failure),
        _cells(row.spec),
      ]
      for row in rows
    ],
    "states": states.texts,
    "workers": workers.texts,
    "reasons": reasons.texts,
  }
  text = json.dumps(data, separators=(",", ":"), allow_nan=False)
  # Within a script element no text can be escaped as elsewhere, and `</script` would end it.
  text = text.replace("<", "\\u003c")
  return element("script", Markup(text), type="application/json", id="data")


def millions(number: int) -> str:
  """Returns a number in millions with one decimal; of two halves the greater, as `report.js`."""
  return f"{(number + 50_000) // 100_000 / 10:,.1f}"


class _Numbering:
  """Texts that occur often, each written once."""

  def __init__(self):
    self._numbers: dict[str, int] = {}

  def number(self, text: str | None) -> int | None:
    return None if text is None else self._numbers.setdefault(text, len(self._numbers))

  @property
  def texts(self) -> list[str]:
    return list(self._numbers)


def _multiply_adds(trial: Trial) -> int | None:
  value = trial.metrics.get("multiply_adds")
  return round(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _spec(trial: Trial) -> PyramidSpec | None:
  try:
    return architecture.from_gin(trial.architecture)
  except UserError:
    return None  # The row is shown all the same, without a drawing.


def _cells(spec: PyramidSpec | None) -> list[int] | None:
  """Returns two inputs, level and op of every cell, in one list."""
  if spec is None:
    return None
  ops = list(MERGE_OPS)
  return [
    number for cell in spec.cells for number in (*cell.inputs, cell.level, ops.index(cell.op))
  ]


def _rounded(value: float | None, digits: int) -> float | None:
  return None if value is None else round(value, digits)


def _draw_row(row: TrialRow) -> Markup:
  trial = row.trial
  texts = (
    row.rank,
    trial.number,
    trial.update,
    _state(trial),
    None if trial.reward is None else f"{round(trial.reward, 6):.4f}",
    None if row.multiply_adds is None else millions(row.multiply_adds),
    None if row.parameters is None else f"{row.parameters:,}",
    None if trial.seconds is None else f"{trial.seconds:,.1f}",
    trial.attempt,
    trial.worker,
  )
  cells = (
    element("td", NOTHING if text is None else text, class_="number" if numeric else None)
    for text, numeric in zip(texts, _NUMERIC, strict=False)
  )
  return element("tr", *cells, element("td", _thumbnail(row)), id=f"trial-{trial.number}")


def _state(trial: Trial) -> Markup:
  state = shown_state(trial)
  badge = element("span", state, class_=f"state {state}")
  if trial.reused_from is None:
    return badge
  link = element("a", trial.reused_from, href=f"#trial-{trial.reused_from}")
  return join(badge, " of ", link)


def _thumbnail(row: TrialRow) -> Markup:
  if row.spec is None:
    return Markup(NOTHING)
  label = f"Architecture of trial {row.trial.number}"
  return element(
    "button",
    draw_pyramid_svg(row.spec, label),
    type="button",
    class_="thumbnail",
    data_trial=row.trial.number,
    aria_label=f"{label}, enlarge",
  )
