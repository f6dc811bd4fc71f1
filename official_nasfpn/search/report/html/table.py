"""All trials: the texts of the first rows, and the data of which `report.js` makes any others."""

import base64
import dataclasses
import json
import zlib
from collections.abc import Sequence

from official_nasfpn import architecture
from official_nasfpn.architecture import MERGE_OPS, PyramidSpec
from official_nasfpn.printable import printable
from official_nasfpn.progress import progress_bar
from official_nasfpn.search.recipe import SearchRecipe
from official_nasfpn.search.report.found import best_trials, nothing_learnt
from official_nasfpn.search.report.summary import is_stopped_early
from official_nasfpn.search.report.trade_offs import pyramid_of
from official_nasfpn.search.store.trial import DONE, Trial

# Rows at a time; `report.js` has the same number.
PAGE_ROWS = 50

# More than this is packed: some thousands of trials.
_PACKED_BYTES = 500_000

# What each column is called, and whether it holds numbers.
COLUMNS = (
  ("rank", True),
  ("trial", True),
  ("update", True),
  ("state", False),
  ("reward", True),
  ("multiply-adds, M", True),
  ("parameters", True),
  ("seconds", True),
  ("attempts", True),
  ("worker", False),
  ("architecture", False),
)


@dataclasses.dataclass(frozen=True, slots=True)
class TrialRow:
  """A trial with what follows from it.

  Attributes:
    trial: the trial.
    rank: 1 for the best; None without a reward of its own, and of all if nothing was learnt.
    spec: its architecture; None when the text in the store is none.
    multiply_adds: on one image, None where nobody knows; see `costs_detector`.
    parameters: of one pyramid, or of all where the spec says how many; None where nobody knows.
  """

  trial: Trial
  rank: int | None
  spec: PyramidSpec | None
  multiply_adds: int | None
  parameters: int | None

  @property
  def state(self) -> str:
    """The state as the table calls it: of done trials, some were stopped early."""
    return "stopped early" if is_stopped_early(self.trial) else self.trial.state

  @property
  def texts(self) -> dict[str, str | None]:
    """What the table shows in each column but the state's and the drawing's."""
    trial = self.trial
    return {
      "rank": None if self.rank is None else str(self.rank),
      "trial": str(trial.number),
      "update": str(trial.update),
      "reward": None if trial.reward is None else f"{round(trial.reward, 6):.4f}",
      "multiply-adds, M": None if self.multiply_adds is None else millions(self.multiply_adds),
      "parameters": None if self.parameters is None else f"{self.parameters:,}",
      "seconds": None if trial.seconds is None else f"{trial.seconds:,.1f}",
      "attempts": str(trial.attempt),
      "worker": trial.worker,
    }


def trial_rows(trials: Sequence[Trial], recipe: SearchRecipe) -> list[TrialRow]:
  """Returns the rows by rank, then those without one by number.

  Args:
    trials: all of a search.
    recipe: of the search; the detector's width and image size decide what a pyramid costs.
  """
  # Where all rewards are 0 only numbers would decide.
  ranking = [] if nothing_learnt(trials) else best_trials(trials)
  ranks = {trial.number: rank for rank, trial in enumerate(ranking, start=1)}
  measured = costs_detector(trials)
  detector = recipe.experiment.detector
  width, separable = detector.num_filters, detector.separable_convolutions
  rows = []
  with progress_bar(len(trials), "read", "trial") as bar:
    for trial in trials:
      spec = pyramid_of(trial)
      repeats = (spec and spec.num_repeats) or 1
      multiply_adds = parameters = None
      if measured:
        multiply_adds = _multiply_adds(trial)
      elif spec:
        multiply_adds = repeats * architecture.pyramid_multiply_adds(
          spec, spec.num_filters or width, detector.image_size, separable
        )
      if spec:
        parameters = repeats * architecture.pyramid_parameters(
          spec, spec.num_filters or width, separable
        )
      rows.append(TrialRow(trial, ranks.get(trial.number), spec, multiply_adds, parameters))
      bar.update()
  return sorted(rows, key=lambda row: (row.rank or len(rows) + 1, row.trial.number))


def costs_detector(trials: Sequence[Trial]) -> bool:
  """Returns whether multiply-adds are those of the whole detector, and not of one pyramid.

  They are where every trial with a reward has measured them; the pyramid's follow from its text.
  """
  done = [trial for trial in trials if trial.state == DONE]
  return bool(done) and all(_multiply_adds(trial) is not None for trial in done)


def table_data(rows: Sequence[TrialRow], search: str, algorithm: str) -> str:
  """Returns all rows as JSON by columns, to stand within a script element; see `packed`.

  Args:
    rows: in any order.
    search: its name.
    algorithm: that proposed the trials.
  """
  levels = next(((r.spec.min_level, r.spec.max_level) for r in rows if r.spec), (3, 7))
  workers, reasons, states = _Numbering(), _Numbering(), _Numbering()
  table = [
    (
      row.rank,
      row.trial.number,
      row.trial.update,
      states.number(row.state),
      _rounded(row.trial.reward, 6),
      row.multiply_adds,
      row.parameters,
      _rounded(row.trial.seconds, 1),
      row.trial.attempt,
      workers.number(row.trial.worker),
      row.trial.reused_from,
      reasons.number(row.trial.failure),
      _cells(row.spec),
      row.spec and row.spec.num_repeats,
      row.spec and row.spec.num_filters,
    )
    # Neighbours in time are alike, which packs well.
    for row in sorted(rows, key=lambda row: row.trial.number)
  ]
  data = {
    "search": search,
    "algorithm": algorithm,
    "levels": levels,
    "ops": [[name, op.short_name] for name, op in MERGE_OPS.items()],
    "columns": [*map(list, zip(*table, strict=True))],
    "states": states.texts,
    "workers": [printable(text) for text in workers.texts],
    "reasons": [printable(text) for text in reasons.texts],
  }
  text = json.dumps(data, separators=(",", ":"), allow_nan=False)
  # Within a script element no text can be escaped as elsewhere, and `</script` would end it.
  return text.replace("<", "\\u003c")


def packed(data: str) -> str | None:
  """Returns the data of a long search in a sixth of its bytes; None of a short one.

  `report.js` unpacks it. That takes a moment, in which the page shows its first rows.

  Args:
    data: of `table_data`.
  """
  if len(data) < _PACKED_BYTES:
    return None
  return base64.b64encode(zlib.compress(data.encode(), level=6)).decode()


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
  return round(value) if isinstance(value, int | float) and 0 <= value < 2**63 else None


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
