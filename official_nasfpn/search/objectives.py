"""What a search may aim at beside the AP, how each is measured and named, and budgets of it."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal

from official_nasfpn.errors import UserError


@dataclasses.dataclass(frozen=True)
class Objective:
  """Something that trials measure and a search may aim at.

  Attributes:
    name: in `Search.objectives`.
    metric: its name among the metrics of a trial.
    label: what people call it.
    unit: in which it is shown.
    scale: how many of the metric's units are one of `unit`.
    digits: decimals in which it is shown.
    is_cost: whether less is better.
  """

  name: str
  metric: str
  label: str
  unit: str
  scale: float
  digits: int
  is_cost: bool = True

  @property
  def axis(self) -> str:
    """What an axis of a chart in `unit` is called."""
    unit = {"M": "millions", "Mparams": "millions"}.get(self.unit, self.unit)
    return f"{self.label}, {unit}" if unit else self.label

  def text(self, value: float) -> str:
    """Returns a value of the metric for people, with its unit."""
    return f"{value / self.scale:,.{self.digits}f} {self.unit}".rstrip()


AP = Objective("AP", "AP", "AP", "", 1.0, 4, is_cost=False)
OBJECTIVES: Mapping[str, Objective] = {
  each.name: each
  for each in (
    AP,
    Objective("latency", "latency_ms", "latency", "ms", 1.0, 2),
    Objective("multiply_adds", "multiply_adds", "multiply-adds", "M", 1e6, 1),
    Objective("parameters", "parameters", "parameters", "Mparams", 1e6, 3),
    Objective("file_size", "file_bytes", "file size", "MB", 1e6, 2),
  )
}
# What is written after a number in a budget: the objective, and how many of its metric's units.
_UNITS = {
  "ms": ("latency", 1),
  "s": ("latency", 1_000),
  "M": ("multiply_adds", 1_000_000),
  "G": ("multiply_adds", 1_000_000_000),
  "kparams": ("parameters", 1_000),
  "Mparams": ("parameters", 1_000_000),
  "kB": ("file_size", 1_000),
  "MB": ("file_size", 1_000_000),
}
_BUDGET = re.compile(r"(\d+(?:\.\d+)?)([A-Za-z]+)")


@dataclasses.dataclass(frozen=True)
class Budget:
  """The most that something may cost.

  Attributes:
    objective: what is limited.
    limit: in the units of its metric.
    text: as a person wrote it, such as `20ms`.
  """

  objective: Objective
  limit: float
  text: str


def parse_budget(text: str) -> Budget:
  """Returns the budget that a text such as `20ms`, `150M`, `2.5Mparams` or `3MB` names.

  Raises:
    UserError: it names none.
  """
  match = _BUDGET.fullmatch(text)
  if not match or match[2] not in _UNITS or not float(match[1]):
    raise UserError(
      f"@{text} is no budget: write a number above 0 and its unit, as @20ms, @0.5s, @150M or @1.5G "
      "(multiply-adds), @2.5Mparams or @900kparams, @3MB or @900kB."
    )
  name, scale = _UNITS[match[2]]
  # In decimals, as it is written: 4.1 * 1e6 is less than 4,100,000.
  return Budget(OBJECTIVES[name], float(Decimal(match[1]) * scale), text)


def measured(metrics: Mapping[str, object], objective: Objective) -> float | None:
  """Returns what a trial has measured of an objective; None if it has not.

  Args:
    metrics: of the trial.
    objective: one of `OBJECTIVES`.
  """
  value = metrics.get(objective.metric)
  if not isinstance(value, int | float) or isinstance(value, bool):
    return None
  return float(value) if abs(value) < 2.0**63 else None


def point_of(metrics: Mapping[str, object], names: Sequence[str]) -> tuple[float, ...] | None:
  """Returns a trial as a point of `front`: more is better. None if a measurement is missing.

  Args:
    metrics: of the trial.
    names: of the objectives.
  """
  values = [(OBJECTIVES[name], measured(metrics, OBJECTIVES[name])) for name in names]
  if any(value is None for _, value in values):
    return None
  return tuple(-value if each.is_cost else value for each, value in values if value is not None)
