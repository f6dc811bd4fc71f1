"""Which trials no other one beats at the same cost or less."""

from collections.abc import Sequence


def pareto_front(costs: Sequence[float], rewards: Sequence[float]) -> list[int]:
  """Returns the indices of the front, by rising cost, and so by rising reward.

  Of several with the same cost and reward the first is taken.

  Args:
    costs: [N], less is better.
    rewards: [N], more is better.
  """
  front: list[int] = []
  for index in sorted(range(len(costs)), key=lambda i: (costs[i], -rewards[i], i)):
    if not front or rewards[index] > rewards[front[-1]]:
      front.append(index)
  return front
