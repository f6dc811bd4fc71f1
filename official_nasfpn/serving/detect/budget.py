"""Which exit a budget buys, and whether that is fast enough."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from official_nasfpn.serving.export_folder import ExitLatency


@dataclasses.dataclass(frozen=True)
class BudgetUse:
  """The exit that a budget buys for a batch, by the times measured at export.

  Attributes:
    budget_ms: milliseconds for the batch.
    batch_size: number of images in it.
    exit: the exit taken: the last that is fast enough, or else the first.
    image_ms: milliseconds of one image at that exit; nine of ten are faster.
    expected_ms: milliseconds of the batch at that exit.
    is_met: whether `expected_ms` is within the budget.
  """

  budget_ms: float
  batch_size: int
  exit: int
  image_ms: float
  expected_ms: float
  is_met: bool

  def sentence(self) -> str:
    """Returns a sentence for a person: which exit was taken, and whether the budget is met."""
    batch = f"a batch of {self.batch_size} images" if self.batch_size > 1 else "an image"
    times = f"{self.expected_ms:.4g} ms for {batch} (nine of ten are faster, measured at export)"
    if self.is_met:
      return f"Exit {self.exit} was taken: {times}, within the budget of {self.budget_ms:g} ms."
    advice = " A smaller --batch_size leaves more to each image." if self.batch_size > 1 else ""
    return (
      f"The budget of {self.budget_ms:g} ms is not met: exit {self.exit}, the first, was taken, "
      f"and takes {times}.{advice}"
    )


def use_of_budget(
  exit_latency: Sequence[ExitLatency], budget_ms: float, batch_size: int
) -> BudgetUse:
  """Returns which exit the signature `detect_within` takes.

  Args:
    exit_latency: the time of each exit, see `Detector.exit_latency`.
    budget_ms: milliseconds for a batch.
    batch_size: number of images in it.
  """
  # In the precision of the graph, which decides.
  image_ms = np.array([latency.p90_ms for latency in exit_latency], np.float32)
  expected_ms = image_ms * np.float32(batch_size)
  affordable = np.flatnonzero(expected_ms <= np.float32(budget_ms))
  taken = int(affordable[-1]) if affordable.size else 0
  return BudgetUse(
    budget_ms=budget_ms,
    batch_size=batch_size,
    exit=exit_latency[taken].exit,
    image_ms=float(image_ms[taken]),
    expected_ms=float(expected_ms[taken]),
    is_met=bool(affordable.size),
  )
