r"""What stopping hopeless trainings saves, simulated on recorded learning curves.

    python -m benchmarks.stopping_rules --table CURVES.csv

Random search under each rule, over many orders of the recorded architectures: the AP that the
returned one reaches when it is trained to its end, at equal budgets, and the budget at which it is
as good as that of 20 whole trainings. `record_architectures.py` says how curves are recorded.
"""

from pathlib import Path

import numpy as np
from absl import flags

from benchmarks.stopping import (
  Rule,
  asha,
  check_enough,
  curves_of,
  hyperband,
  no_rule,
  quantile_rule,
  returned,
)
from official_nasfpn.benchmark.table import TABLE, read_table
from official_nasfpn.errors import refuse_positional_arguments, run_program
from official_nasfpn.progress import progress_bar

_TABLE = flags.DEFINE_string("table", str(TABLE), "Trained architectures with learning curves.")
_NUM_ORDERS = flags.DEFINE_integer("num_orders", 300, "Orders of the architectures.", lower_bound=2)
_BUDGETS = flags.DEFINE_multi_float("budget", [5, 10, 20, 40], "Budget in whole trainings.")

RULES: dict[str, Rule] = {
  "none": no_rule,
  "median rule": quantile_rule(0.5, (0.34, 0.67), 10),
  "median rule, early": quantile_rule(0.5, (0.1, 0.34, 0.67), 10),
  "ASHA, 1 in 3": asha(3, 3),
  "ASHA, 1 in 2": asha(2, 4),
  "Hyperband, 1 in 3": hyperband(3, 3),
}
_REFERENCE = 20.0


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  curves = curves_of(read_table(Path(_TABLE.value)), _TABLE.value)
  greatest = max(*_BUDGETS.value, _REFERENCE)
  check_enough(curves, RULES, greatest, _TABLE.value)
  tried = np.arange(2.0, greatest + 1)
  finals = curves.aps[:, -1]
  rng = np.random.default_rng(0)
  orders = [rng.permutation(len(finals)) for _ in range(_NUM_ORDERS.value)]

  def mean(rule: Rule, budget: float) -> tuple[float, float]:
    ended = [returned(rule, curves, order, budget) for order in orders]
    return float(np.mean([finals[index] for index, _ in ended])), float(
      np.mean([begun for _, begun in ended])
    )

  wanted = mean(no_rule, _REFERENCE)[0]
  heads = " | ".join(f"AP at {budget:g}" for budget in _BUDGETS.value)
  print(
    f"{len(finals)} learning curves, {_NUM_ORDERS.value} orders. A rule compares at the recorded "
    f"shares nearest to its own, of {', '.join(f'{share:g}' for share in curves.shares)}.\n\n"
    f"| rule | {heads} | begun at {_REFERENCE:g} | as good as {_REFERENCE:g} whole ones at |\n"
    f"|---|{'---|' * len(_BUDGETS.value)}---|---|"
  )
  with progress_bar(len(RULES), "rules", "rule") as bar:
    for name, rule in RULES.items():
      cells = [f"{mean(rule, budget)[0]:.4f}" for budget in _BUDGETS.value]
      enough = next(
        (f"{b:g}" for b in tried if mean(rule, b)[0] >= wanted - 1e-12), f"above {greatest:g}"
      )
      begun = mean(rule, _REFERENCE)[1]
      bar.write(f"| {name} | {' | '.join(cells)} | {begun:.0f} | {enough} |")
      bar.update()


if __name__ == "__main__":
  run_program(main)
