"""Trade-offs between several objectives: what nothing beats, the order of NSGA-II, the hypervolume.

Points are rows [N, D] in which more is better everywhere; a cost is its negative.

These few lines are our own because no kept library fits: pymoo (Apache 2.0) brings eight packages,
paretoset Numba and pandas, pygmo a compiled optimiser, and moocore and DEAP are under the LGPL.
"""

from collections.abc import Sequence

import numpy as np

Points = Sequence[Sequence[float]] | np.ndarray


def non_dominated(points: Points) -> list[int]:
  """Returns the indices of the points that no other one dominates, ascending.

  A point dominates another if it is at least as good everywhere and better somewhere. Of equal
  points the first is taken.

  Args:
    points: [N, D], more is better.
  """
  values = np.asarray(points, float)
  if not len(values):
    return []
  # The best come first, so that what is on the front when a point comes stays there.
  order = np.lexsort((np.arange(len(values)), *-values.T[::-1]))
  front: list[int] = []
  kept = np.empty_like(values)
  for index in order:
    if not (kept[: len(front)] >= values[index]).all(axis=1).any():
      kept[len(front)] = values[index]
      front.append(int(index))
  return sorted(front)


def ranks(points: Points) -> np.ndarray:
  """Returns the non-dominated rank of each point, int [N]; 0 is the front (Deb et al. 2002, III.A).

  The points of rank r are the front of what is left without the ranks before. Equal points have one
  rank.

  Args:
    points: [N, D], more is better.
  """
  values = np.asarray(points, float)
  at_least = (values[:, np.newaxis] >= values).all(axis=2)
  dominates = at_least & ~at_least.T
  found = np.full(len(values), -1)
  for rank in range(len(values)):
    left = found < 0
    if not left.any():
      break
    found[left & ~(dominates & left[:, np.newaxis]).any(axis=0)] = rank
  return found


def crowding(points: Points) -> np.ndarray:
  """Returns the crowding distance of each point of one front, float [N] (Deb et al. 2002, III.B).

  It is the distance of a point's two neighbours, summed over the objectives, each as a share of its
  range; infinite at the ends of an objective. An objective in which all are equal, or
  one is infinite, does not count.

  Args:
    points: [N, D].
  """
  values = np.asarray(points, float)
  distances = np.zeros(len(values))
  for column in values.T:
    order = np.argsort(column, kind="stable")
    ordered = column[order]
    if ordered[0] == ordered[-1] or not np.isfinite(ordered).all():
      continue
    span = ordered[-1] - ordered[0]
    distances[order[[0, -1]]] = np.inf
    distances[order[1:-1]] += (ordered[2:] - ordered[:-2]) / span
  return distances


def crowded_order(points: Points) -> list[int]:
  """Returns the indices of points, best first: by rank, then by crowding, then the earlier.

  This is the crowded-comparison operator of NSGA-II (Deb et al. 2002, III.B).

  Args:
    points: [N, D], more is better.
  """
  values = np.asarray(points, float)
  rank = ranks(values)
  distance = np.zeros(len(values))
  for each in np.unique(rank):
    distance[rank == each] = crowding(values[rank == each])
  return sorted(range(len(values)), key=lambda index: (rank[index], -distance[index], index))


def hypervolume(points: Points, reference: Sequence[float]) -> float:
  """Returns the volume that points dominate, down to a reference point (Zitzler & Thiele 1999).

  Args:
    points: [N, D], more is better.
    reference: [D]; what is not better than it in every objective adds nothing.
  """
  values = np.asarray(points, float).reshape(-1, len(reference)) - np.asarray(reference, float)
  return _volume(values[(values > 0).all(axis=1)])


def hypervolumes(points: Points, reference: Sequence[float]) -> np.ndarray:
  """Returns the `hypervolume` of the first 1, 2, ..., N points, float [N].

  Args:
    points: [N, D], more is better, in the order in which they came.
    reference: [D].
  """
  values = np.asarray(points, float).reshape(-1, len(reference)) - np.asarray(reference, float)
  volumes = np.zeros(len(values))
  front = np.empty((0, len(reference)))
  volume = 0.0
  for index, point in enumerate(values):
    if (point > 0).all() and not (front >= point).all(axis=1).any():
      volume += _own_volume(point, front)
      front = np.vstack([front[~(point >= front).all(axis=1)], point])
    volumes[index] = volume
  return volumes


def _own_volume(point: np.ndarray, others: np.ndarray) -> float:
  """Returns the volume between a point and the origin that no other point dominates.

  What others dominate of it is the volume of the others, each cut to the point (While et al. 2012).

  Args:
    point: positive, [D].
    others: positive, [N, D].
  """
  return max(float(point.prod()) - _volume(np.minimum(others, point)), 0.0)


def _volume(values: np.ndarray) -> float:
  """Returns the volume between points and the origin: what each adds to those before it.

  They come by falling last objective. So all before it reach beyond a point there, and what it adds
  is a prism over what it adds in the other objectives. Cut to a point, few of a front are left that
  no other dominates, so five objectives take a moment; the worst case takes N^(D-2) steps.

  Args:
    values: positive, [N, D].
  """
  if values.shape[1] == 1:
    return float(values.max(initial=0.0))
  if values.shape[1] > 2:
    values = values[non_dominated(values)]
  values = values[np.argsort(-values[:, -1], kind="stable")]
  if values.shape[1] == 2:
    return float(np.diff(np.maximum.accumulate(values[:, 0]), prepend=0.0) @ values[:, 1])
  return sum(
    float(point[-1]) * _own_volume(point[:-1], values[:index, :-1])
    for index, point in enumerate(values)
  )
