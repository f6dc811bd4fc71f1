"""Progress bars with the time left, readable on a terminal and in a log file."""

import sys

from tqdm import tqdm


def progress_bar(total: int | None, description: str, unit: str, initial: int = 0) -> tqdm:
  """Returns a `tqdm` bar on standard error.

  Args:
    total: number of units when all is done; None where nobody knows.
    description: what is being done, a word or two.
    unit: what is counted, for example `step` or `image`.
    initial: units already done by an earlier run.
  """
  # A log file gets a line's worth of progress every 10 s instead of ten redraws a second.
  interval = 0.2 if sys.stderr.isatty() else 10.0
  return tqdm(
    total=total,
    desc=description,
    unit=unit,
    initial=initial,
    mininterval=interval,
    maxinterval=max(interval, 10.0),
    dynamic_ncols=sys.stderr.isatty(),
  )


def say(line: str) -> None:
  """Writes a line on standard error, above a progress bar that may be there."""
  tqdm.write(line, file=sys.stderr)
