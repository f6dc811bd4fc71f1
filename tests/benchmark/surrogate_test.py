"""The surrogate: fitted, shipped, cross-validated."""

import dataclasses
import json
import random
import sys

import numpy as np
import pytest

from official_nasfpn.architecture import CATALOG, SearchSpace
from official_nasfpn.benchmark.features import features
from official_nasfpn.benchmark.surrogate import (
  SURROGATE,
  cross_validate,
  fit_surrogate,
  recorded_fit,
  recorded_surrogate,
  table_sum,
)
from official_nasfpn.benchmark.table import read_table
from official_nasfpn.errors import UserError
from tests.benchmark.drawn_tables import drawn_table
from tests.benchmark.features_test import swapped

SPACE = SearchSpace()


def test_the_surrogate_predicts_what_can_be_learnt_and_the_same_each_time():
  table = drawn_table()
  unseen = [SPACE.sample(random.Random(seed)) for seed in range(1000, 1050)]
  truth = [0.3 - 0.05 * features(spec)["P4 finest input"] for spec in unseen]
  predicted = fit_surrogate(table)(unseen)
  assert np.corrcoef(predicted, truth)[0, 1] > 0.9
  np.testing.assert_array_equal(fit_surrogate(table)(unseen), predicted)
  np.testing.assert_allclose(fit_surrogate(table)([swapped(spec) for spec in unseen]), predicted)


def test_cross_validation_tells_a_reward_from_noise():
  table = drawn_table()
  fit = cross_validate(table)
  assert fit.r2 > 0.8
  assert fit.spearman > 0.7
  assert 0.005 < fit.residual < 0.04
  assert cross_validate(table) == fit
  rng = np.random.default_rng(0)
  by_chance = [dataclasses.replace(entry, reward=float(rng.normal())) for entry in table]
  assert cross_validate(by_chance).r2 < 0.3


def rows(specs):
  return [[*features(spec).values()] for spec in specs]


def drawn(num):
  return [SPACE.sample(random.Random(seed)) for seed in range(2000, 2000 + num)]


def test_it_predicts_what_scikit_learn_predicts():
  ensemble = pytest.importorskip("sklearn.ensemble")
  table = drawn_table()
  model = ensemble.GradientBoostingRegressor(
    max_depth=2, n_estimators=150, learning_rate=0.05, subsample=0.7, random_state=0
  )
  model.fit(rows([entry.spec for entry in table]), [entry.reward for entry in table])
  specs = drawn(50)
  # Predictions are rounded to six digits, as rewards in a table.
  np.testing.assert_allclose(
    fit_surrogate(table)(specs), model.predict(rows(specs)), rtol=0, atol=1e-6
  )


def test_trees_that_lack_splits_predict_the_same():
  ensemble = pytest.importorskip("sklearn.ensemble")
  # Of five architectures four share a reward: below the first split there is nothing to split.
  table = [dataclasses.replace(e, reward=0.1) for e in drawn_table(5)]
  table[0] = dataclasses.replace(table[0], reward=0.3)
  model = ensemble.GradientBoostingRegressor(
    max_depth=2, n_estimators=150, learning_rate=0.05, subsample=0.7, random_state=0
  )
  model.fit(rows([entry.spec for entry in table]), [entry.reward for entry in table])
  specs = [*drawn(20), *(entry.spec for entry in table)]
  np.testing.assert_allclose(
    fit_surrogate(table)(specs), model.predict(rows(specs)), rtol=0, atol=1e-6
  )


def test_the_one_that_is_shipped_is_fitted_to_the_table_that_is_shipped():
  table, specs = read_table(), drawn(50)
  again = "run python -m benchmarks.record_baselines"
  assert json.loads(SURROGATE.read_text())["table"] == table_sum(table), again
  np.testing.assert_allclose(
    recorded_surrogate()(specs), fit_surrogate(table)(specs), rtol=0, atol=2e-6
  )
  # It has learnt the table, and its error where it has not is stated.
  errors = recorded_surrogate()([e.spec for e in table]) - [e.reward for e in table]
  assert np.sqrt(np.mean(errors**2)) < recorded_fit().residual


def test_a_pyramid_of_another_space_is_one_sentence():
  specs = [CATALOG["nas_fpn"], CATALOG["nas_fpnlite_ours"]]
  with pytest.raises(UserError, match=r"pyramid 2 of 2: .* levels 3 to 6 .*SearchSpace") as refusal:
    recorded_surrogate()(specs)
  assert len(str(refusal.value).splitlines()) == 1
  with pytest.raises(UserError, match=r"pyramid 1 of 1: .* and the pyramid says 3 repeats"):
    recorded_surrogate()([dataclasses.replace(specs[0], num_repeats=3)])


def test_it_needs_scikit_learn_for_fitting_alone(monkeypatch):
  monkeypatch.setitem(sys.modules, "sklearn", None)
  assert 0 < recorded_surrogate()(drawn(1))[0] < 0.4
  with pytest.raises(UserError, match=r"Fitting a surrogate needs the package scikit-learn: pip"):
    fit_surrogate(drawn_table(5))
