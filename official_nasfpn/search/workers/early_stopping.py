"""The early stopping rule: a trial far behind others is stopped before its training is complete.

At given shares of its training, a trial is compared with the other trials at the same share, and
stops if its AP is below a quantile of theirs. The quantile 1/2 is the median rule (Golovin et al.
2017, Google Vizier, section 3.2). Applied at several shares, it is asynchronous successive halving
with a reduction factor of 2 (Li et al. 2020, ASHA); the quantile 2/3 keeps a third of the trials.
"""

from collections.abc import Sequence

import numpy as np


def is_hopeless(value: float, others: Sequence[float], quantile: float, min_others: int) -> bool:
  """Returns whether a trial should stop.

  Args:
    value: AP of the trial so far.
    others: AP of other trials at the same share of their training, including stopped trials.
    quantile: quantile of `others` below which a trial stops, in [0, 1); 0 stops no trial.
    min_others: no trial stops if there are fewer others.
  """
  if quantile == 0 or len(others) < max(min_others, 1):
    return False
  return value < float(np.quantile(others, quantile))
