"""How long a trial of the simulated pool takes."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from official_nasfpn.architecture import PyramidSpec, pyramid_multiply_adds
from official_nasfpn.benchmark.table import Recorded
from official_nasfpn.progress import duration

# Between the 120 and the 150 s that trials took when the table was made (docs/nas_checklist.md).
_ASSUMED_SECONDS = 135.0
# Fewer say too little on how time depends on cost.
_MIN_TIMED = 20


@dataclasses.dataclass(frozen=True)
class TrialTime:
  """Seconds of a trial: a line over the pyramid's multiply-adds, within what was measured.

  Attributes:
    base: seconds of a pyramid that costs nothing.
    per_billion: seconds for each billion multiply-adds of the pyramid at 256 x 256 pixels.
    shortest: the shortest time.
    longest: the longest time.
    source: where the numbers are from, in words.
  """

  base: float
  per_billion: float
  shortest: float
  longest: float
  source: str

  def __call__(self, spec: PyramidSpec) -> float:
    """Returns the seconds that the trial of an architecture takes."""
    if not self.per_billion:
      return self.base
    return min(max(self.base + self.per_billion * _billions(spec), self.shortest), self.longest)


def trial_time(table: Sequence[Recorded]) -> TrialTime:
  """Returns the time of trials: fitted to the table's seconds, or assumed if it has none."""
  timed = [(entry.spec, entry.seconds) for entry in table if entry.seconds is not None]
  if len(timed) < _MIN_TIMED:
    seconds = _ASSUMED_SECONDS
    return TrialTime(
      seconds, 0.0, seconds, seconds, f"{seconds:.0f} s for each trial, an assumption"
    )
  measured = np.array([seconds for _, seconds in timed])
  slope, base = np.polyfit([_billions(spec) for spec, _ in timed], measured, 1)
  shortest, longest = float(measured.min()), float(measured.max())
  source = (
    f"{duration(shortest)} to {duration(longest)} for a trial by its multiply-adds, fitted to the "
    f"seconds of {len(timed)} trainings"
  )
  return TrialTime(float(base), float(slope), shortest, longest, source)


def _billions(spec: PyramidSpec) -> float:
  return pyramid_multiply_adds(spec, 32, (256, 256)) / 1e9
