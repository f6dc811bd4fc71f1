"""When a trial is hopeless, and the rest of its training would be wasted.

One rule: at given shares of its training a trial is compared with what others had there, and stops
below a quantile of them. The half is the median rule (Golovin et al. 2017, Google Vizier, section
3.2), and at several shares it is successive halving as trials come (Li et al. 2020, ASHA, with a
reduction factor of 2; 2/3 keeps a third).
"""

from collections.abc import Sequence

import numpy as np


def is_hopeless(value: float, others: Sequence[float], quantile: float, min_others: int) -> bool:
  """Returns whether a trial is to be stopped.

  Args:
    value: its AP so far.
    others: the AP that other trials had at the same share of their training, those that were
      stopped there among them.
    quantile: of `others`; a trial below it stops. 0 stops none.
    min_others: with fewer of them none is stopped.
  """
  if quantile == 0 or len(others) < max(min_others, 1):
    return False
  return value < float(np.quantile(others, quantile))
