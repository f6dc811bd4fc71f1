"""Progress bars with the time left, readable on a terminal and in a log file, and durations."""

import sys

from tqdm import tqdm

from official_nasfpn.printable import printable


def progress_bar(
  total: int | None, description: str, unit: str, initial: int = 0, unit_scale: bool = False
) -> tqdm:
  """Returns a `tqdm` bar on standard error.

  Args:
    total: number of units; None if unknown.
    description: what is being done, a word or two.
    unit: what is counted, for example `step` or `image`.
    initial: units already done by an earlier run.
    unit_scale: whether large numbers are shown as 9.4M.
  """
  # A log file gets a line's worth of progress every 10 s instead of ten redraws a second.
  interval = 0.2 if sys.stderr.isatty() else 10.0
  return tqdm(
    total=total,
    desc=description,
    unit=unit,
    initial=initial,
    unit_scale=unit_scale,
    mininterval=interval,
    maxinterval=max(interval, 10.0),
    dynamic_ncols=sys.stderr.isatty(),
  )


def duration(seconds: float) -> str:
  """Returns a duration in words: `3.4 s`, `25 s`, `4.5 min`, `3 h 20 min`, `2.1 days`."""
  if round(seconds) < 60:
    return f"{seconds:.2g} s"
  minutes = seconds / 60
  if minutes < 9.95:
    return f"{minutes:.1f} min"
  if round(minutes) < 60:
    return f"{minutes:.0f} min"
  if round(minutes) < 48 * 60:
    return f"{round(minutes) // 60} h {round(minutes) % 60} min"
  return f"{minutes / (24 * 60):,.1f} days"


def say(line: str) -> None:
  """Writes a line to standard error, above a progress bar if there is one."""
  tqdm.write(printable(line), file=sys.stderr)
