"""The table of architectures that were really trained, `trials.csv` in this folder.

`benchmarks/record_architectures.py` fills such a table from searches.
"""

import csv
import dataclasses
import io
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

from official_nasfpn.architecture import PyramidSpec, SearchSpace, canonical_hash
from official_nasfpn.errors import UserError

TABLE = Path(__file__).with_name("trials.csv")
COLUMNS = ("search_seed", "trial", "architecture_hash", "reward", "choices")
# A table may have these, too, and a line may leave them empty.
OPTIONAL_COLUMNS = ("curve", "seconds")


@dataclasses.dataclass(frozen=True)
class Recorded:
  """One trained architecture.

  Attributes:
    search_seed: `Search.seed` of the search that sampled it.
    trial: its number in that search.
    architecture_hash: hash of its canonical form.
    reward: AP on the held-out images, in [0, 1].
    choices: the architecture, as `SearchSpace.decode` takes it.
    curve: AP on the way, as pairs of a share of the training in (0, 1] and the AP there; None if it
      was not recorded. In a table it is written `0.5:0.21 1:0.30`.
    seconds: what its training and evaluation took; None if that was not recorded.
  """

  search_seed: int
  trial: int
  architecture_hash: str
  reward: float
  choices: tuple[int, ...]
  curve: tuple[tuple[float, float], ...] | None = None
  seconds: float | None = None

  @property
  def spec(self) -> PyramidSpec:
    return SearchSpace().decode(self.choices)


def read_table(path: Path = TABLE) -> list[Recorded]:
  """Reads a table of trained architectures, by default that of the benchmark.

  Raises:
    UserError: the file is missing, or a line is wrong.
  """
  if not path.is_file():
    raise UserError(f"There is no table {str(path)!r}; write one with record_architectures.")
  rows = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
  names = tuple(rows.fieldnames or ())
  optional = names[len(COLUMNS) :]
  if names[: len(COLUMNS)] != COLUMNS or not set(optional) <= set(OPTIONAL_COLUMNS):
    raise UserError(
      f"{path} must begin with the line {','.join(COLUMNS)!r}, perhaps with "
      f"{' and '.join(OPTIONAL_COLUMNS)} behind."
    )
  table: list[Recorded] = []
  lines: dict[str, int] = {}
  for row in rows:
    where = f"{path}, line {rows.line_num}"
    try:
      recorded = Recorded(
        int(row["search_seed"]),
        int(row["trial"]),
        row["architecture_hash"],
        _finite("reward", row["reward"]),
        tuple(int(choice) for choice in row["choices"].split()),
        _curve(row.get("curve")),
        _seconds(row.get("seconds")),
      )
      computed = canonical_hash(recorded.spec)
    except (TypeError, ValueError, AttributeError) as error:
      raise UserError(f"{where}: {error}. Remove the line, or correct it.") from error
    if computed != recorded.architecture_hash:
      raise UserError(
        f"{where}: the choices are those of architecture {computed}, not of "
        f"{recorded.architecture_hash}. Remove the line, or correct it."
      )
    if computed in lines:
      raise UserError(f"{where}: the same architecture is already in line {lines[computed]}.")
    lines[computed] = rows.line_num
    table.append(recorded)
  return table


def table_text(table: Sequence[Recorded]) -> str:
  """Returns a table as CSV text; `read_table` reads it back."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  optional = [
    name for name in OPTIONAL_COLUMNS if any(getattr(entry, name) is not None for entry in table)
  ]
  writer.writerow((*COLUMNS, *optional))
  for recorded in table:
    reward, choices = f"{recorded.reward:.6f}", " ".join(map(str, recorded.choices))
    curve = " ".join(f"{share:g}:{ap:.6f}" for share, ap in recorded.curve or ())
    seconds = "" if recorded.seconds is None else f"{recorded.seconds:.6g}"
    more = {"curve": curve, "seconds": seconds}
    writer.writerow(
      (
        recorded.search_seed,
        recorded.trial,
        recorded.architecture_hash,
        reward,
        choices,
        *(more[name] for name in optional),
      )
    )
  return text.getvalue()


def missing_in_words(table: Sequence[Recorded]) -> str | None:
  """Returns a sentence on what a table could have and has not; None if it has all."""
  number = {
    "learning curves": sum(entry.curve is not None for entry in table),
    "seconds of trainings": sum(entry.seconds is not None for entry in table),
  }
  missing = [
    f"no {name}" if not count else f"{name} of {count} only"
    for name, count in number.items()
    if count < len(table)
  ]
  return f"The table has {' and '.join(missing)}." if missing else None


def _finite(name: str, text: str) -> float:
  value = float(text)
  if not math.isfinite(value):
    raise ValueError(f"the {name} {text} is not finite")
  return value


def _seconds(text: str | None) -> float | None:
  if not text:
    return None
  seconds = _finite("number of seconds", text)
  if seconds <= 0:
    raise ValueError(f"a training cannot take {text} seconds")
  return seconds


def _curve(text: str | None) -> tuple[tuple[float, float], ...] | None:
  if not text:
    return None
  points = []
  for point in text.split():
    share, colon, ap = point.partition(":")
    if not colon:
      raise ValueError(f"a curve is written SHARE:AP SHARE:AP, and has {point!r}")
    points.append((_finite("share", share), _finite("AP", ap)))
  shares = [0.0, *(share for share, _ in points)]
  if any(b <= a for a, b in itertools.pairwise(shares)) or shares[-1] > 1:
    raise ValueError(f"the shares of a curve must rise within 0 and 1, and are {text!r}")
  return tuple(points)
