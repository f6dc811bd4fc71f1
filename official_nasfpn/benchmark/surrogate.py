"""The surrogate: predicts the reward of any architecture from those that were trained.

Gradient boosting on the features of the pyramid's graph, so architectures that compute the same
function get the same reward. `surrogate.json` holds the one that is fitted to the table: with it
everyone has the same rewards, whatever version of scikit-learn is installed, or none. Only fitting
another one needs scikit-learn.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from official_nasfpn.architecture import PyramidSpec
from official_nasfpn.benchmark.features import features
from official_nasfpn.benchmark.table import Recorded, table_text
from official_nasfpn.errors import UserError
from official_nasfpn.installation import require

SURROGATE = Path(__file__).with_name("surrogate.json")
_ARGUMENTS = ("base", "feature", "threshold", "value")
# Trees are stored as if complete: two levels of splits, four leaves.
_DEPTH = 2
# As rewards in the table, and so that sums in another order make no difference.
_DIGITS = 6
# Beyond any feature: the split of a node that has none.
_NO_SPLIT = 1e30


@dataclasses.dataclass(frozen=True)
class Fit:
  """How well a surrogate predicts architectures that it has not seen.

  Attributes:
    r2: coefficient of determination.
    spearman: Spearman's rank correlation.
    kendall: Kendall's tau-b.
    residual: root mean square error. It holds the noise of the trainings and the error of the
      surrogate, so it is an upper bound of the noise.
    best_spearman: Spearman's rank correlation within the best quarter of the architectures.
    best_residual: root mean square error there.
    best_bias: mean of prediction less reward there.
  """

  r2: float
  spearman: float
  kendall: float
  residual: float
  best_spearman: float
  best_residual: float
  best_bias: float

  def as_text(self) -> str:
    """Returns the numbers as words of a sentence."""
    return (
      f"R2 {self.r2:.2f}, Spearman {self.spearman:.2f}, Kendall {self.kendall:.2f}, error "
      f"{self.residual:.3f} (standard deviation); among the best quarter Spearman "
      f"{self.best_spearman:.2f}, error {self.best_residual:.3f}"
    )


class Surrogate:
  """Predicts rewards of architectures that were not trained.

  T is the number of trees.
  """

  def __init__(self, base: float, feature: Any, threshold: Any, value: Any):
    """Makes it from trees of two levels.

    Args:
      base: what the trees add to.
      feature: index of the feature that a node splits by, int [T, 3]; the root, then its children.
      threshold: of the split, float [T, 3]; what is not above goes left.
      value: what each leaf adds, float [T, 4].
    """
    self._base = base
    self._feature = np.asarray(feature, np.int64)
    self._threshold = np.asarray(threshold, np.float64)
    self._value = np.asarray(value, np.float64)

  def __call__(self, specs: Sequence[PyramidSpec]) -> np.ndarray:
    """Returns the predicted rewards, to six digits, float64 [B].

    Raises:
      UserError: a pyramid is not of the space of the recorded ones, `SearchSpace()`.
    """
    rows = _matrix(specs)
    tree = np.arange(len(self._feature))
    node = np.zeros((len(rows), len(tree)), np.int64)
    for _ in range(_DEPTH):
      read = np.take_along_axis(rows, self._feature[tree, node], axis=1)
      node = 2 * node + 1 + (read > self._threshold[tree, node])
    leaves = self._value[tree, node - (2**_DEPTH - 1)]
    rewards: np.ndarray = np.round(self._base + leaves.sum(axis=1), _DIGITS)
    return rewards

  def as_data(self) -> dict[str, Any]:
    """Returns the arguments of the constructor, ready for JSON."""
    return {
      "base": self._base,
      "feature": self._feature.tolist(),
      "threshold": self._threshold.tolist(),
      "value": self._value.tolist(),
    }


def fit_surrogate(table: Sequence[Recorded]) -> Surrogate:
  """Fits a surrogate to a table.

  Raises:
    UserError: scikit-learn is not installed.
  """
  model = _model().fit(_matrix([r.spec for r in table]), [r.reward for r in table])
  trees = [_complete(tree.tree_) for (tree,) in model.estimators_]
  feature, threshold, value = zip(*trees, strict=True)
  return Surrogate(
    float(np.ravel(model.init_.constant_)[0]),
    feature,
    threshold,
    model.learning_rate * np.array(value),
  )


def cross_validate(table: Sequence[Recorded], num_folds: int = 10, seed: int = 0) -> Fit:
  """Returns the fit of a surrogate by k-fold cross-validation.

  Raises:
    UserError: scikit-learn is not installed.
  """
  model = _model()
  from scipy.stats import kendalltau, spearmanr
  from sklearn.model_selection import KFold, cross_val_predict

  rewards = np.array([recorded.reward for recorded in table])
  folds = KFold(num_folds, shuffle=True, random_state=seed)
  predicted = cross_val_predict(
    model, _matrix([recorded.spec for recorded in table]), rewards, cv=folds
  )
  residual = _root_mean_square(predicted - rewards)
  best = rewards >= np.quantile(rewards, 0.75)
  return Fit(
    r2=1 - residual**2 / float(rewards.var()),
    spearman=float(spearmanr(predicted, rewards).statistic),
    kendall=float(kendalltau(predicted, rewards).statistic),
    residual=residual,
    best_spearman=float(spearmanr(predicted[best], rewards[best]).statistic),
    best_residual=_root_mean_square((predicted - rewards)[best]),
    best_bias=float(np.mean((predicted - rewards)[best])),
  )


def surrogate_text(table: Sequence[Recorded]) -> str:
  """Fits a surrogate to a table and returns the text of its file, the table's sum in it."""
  content = {
    "table": table_sum(table),
    "cross_validation": dataclasses.asdict(cross_validate(table)),
    **fit_surrogate(table).as_data(),
  }
  return json.dumps(content) + "\n"


def recorded_surrogate() -> Surrogate:
  """Returns the surrogate of the benchmark."""
  content = _content()
  return Surrogate(*(content[name] for name in _ARGUMENTS))


def recorded_fit() -> Fit:
  """Returns how well the surrogate of the benchmark did in ten-fold cross-validation."""
  return Fit(**_content()["cross_validation"])


def benchmark_id() -> str:
  """Returns eight digits that change with the table or the surrogate.

  Results under different ids cannot be compared.
  """
  content = _content()
  rewards = json.dumps([content[name] for name in ("table", *_ARGUMENTS)])
  return hashlib.sha256(rewards.encode()).hexdigest()[:8]


def table_sum(table: Sequence[Recorded]) -> str:
  """Returns the SHA-256 of a table's text."""
  return hashlib.sha256(table_text(table).encode()).hexdigest()


def _root_mean_square(errors: np.ndarray) -> float:
  return float(np.sqrt(np.mean(errors**2)))


def _content() -> dict[str, Any]:
  content: dict[str, Any] = json.loads(SURROGATE.read_text(encoding="utf-8"))
  return content


def _model() -> Any:
  require("Fitting a surrogate", "sklearn")
  from sklearn.ensemble import GradientBoostingRegressor

  return GradientBoostingRegressor(
    max_depth=_DEPTH, n_estimators=150, learning_rate=0.05, subsample=0.7, random_state=0
  )


def _complete(tree: Any) -> tuple[list[int], list[float], list[float]]:
  """Returns the splits and leaves of a tree of scikit-learn, level by level, none missing."""
  nodes, feature, threshold = [0], [], []
  for _ in range(_DEPTH):
    children = []
    for node in nodes:
      left, right = int(tree.children_left[node]), int(tree.children_right[node])
      is_leaf = left == -1
      feature.append(0 if is_leaf else int(tree.feature[node]))
      threshold.append(_NO_SPLIT if is_leaf else float(tree.threshold[node]))
      children += [node, node] if is_leaf else [left, right]
    nodes = children
  return feature, threshold, [float(tree.value[node].item()) for node in nodes]


def _matrix(specs: Sequence[PyramidSpec]) -> np.ndarray:
  rows = []
  for number, spec in enumerate(specs, start=1):
    try:
      rows.append(list(features(spec).values()))
    except ValueError as error:
      raise UserError(
        f"The surrogate cannot predict pyramid {number} of {len(specs)}: {error}. Give it pyramids "
        "of SearchSpace()."
      ) from error
  # In float32, as scikit-learn compares with thresholds.
  return np.array(rows, np.float32)
