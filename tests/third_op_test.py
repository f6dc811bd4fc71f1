"""A third merge op, added in the two places that WORKSPACE.md names, goes through everything."""

import random
import re

import matplotlib
import pytest

from official_nasfpn.architecture import (
  MERGE_OPS,
  MergeOp,
  PyramidSpec,
  SearchSpace,
  canonical_hash,
  from_gin,
  from_json,
  to_gin,
  to_json,
)
from official_nasfpn.architecture.diagram import draw_pyramid
from official_nasfpn.modeling import merging
from official_nasfpn.modeling.wired_pyramid import WiredPyramid
from official_nasfpn.search.proxy.proxy_task import make_evaluate, resolved
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.search.report.html.page import write_report
from official_nasfpn.search.report.results import write_results
from tests.modeling.wired_pyramid_test import (
  NORM,
  assert_parity,
  backbone_features,
  random_specs,
  set_apart,
  traced,
)
from tests.program_process import REPOSITORY
from tests.search.one_process import search_in_one_process
from tests.search.short_trials import RECIPE

OPS = ("sum", "global_pool", "difference")

DIFFERENCES = """
Training.epochs = 0.5
Search.num_trials = 1
Search.trials_per_update = 1
SearchSpace.num_intermediate_cells = 1
SearchSpace.ops = ('difference',)
"""


@pytest.fixture(autouse=True)
def difference(monkeypatch):
  """Adds the op of the tutorial, with the tutorial's code: what it is, and what it computes."""
  text = (REPOSITORY / "docs/tutorials/your_own_merge_op.md").read_text(encoding="utf-8")
  table, function = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
  names = {**vars(merging), "MergeOp": MergeOp}
  exec(compile(f"{table}\n{function}", "your_own_merge_op.md", "exec"), names)
  monkeypatch.setitem(MERGE_OPS, "difference", names["MERGE_OPS"]["difference"])
  monkeypatch.setitem(merging.MERGE_FUNCTIONS, "difference", names["MERGE_FUNCTIONS"]["difference"])


@pytest.fixture
def space(difference):
  return SearchSpace(num_intermediate_cells=1, ops=OPS)


def spec_of(*inputs_of_first_cells):
  """Returns a pyramid of differences; its first cells have level 4 and read these candidates."""
  intermediates = tuple((inputs, 4, "difference") for inputs in inputs_of_first_cells)
  outputs = tuple(((0, 1), level, "difference") for level in range(3, 8))
  return PyramidSpec(3, 7, intermediates + outputs)


def test_without_it_the_op_is_refused_by_name(monkeypatch):
  monkeypatch.delitem(MERGE_OPS, "difference")
  with pytest.raises(ValueError, match="must be one of sum, global_pool, got 'difference'"):
    spec_of((0, 1))
  with pytest.raises(ValueError, match="ops must be some of sum, global_pool"):
    SearchSpace(ops=OPS)


def test_it_is_no_part_of_spaces_that_do_not_name_it():
  assert SearchSpace().ops == ("sum", "global_pool")


def test_it_is_written_and_read(space):
  spec = space.sample(random.Random(0))
  assert "difference" in to_gin(spec)
  assert from_gin(to_gin(spec)) == spec == from_json(to_json(spec))


def test_the_order_of_its_inputs_counts_where_the_levels_are_equal():
  # Candidate 5 is the first cell, of level 4 like candidate 1.
  assert canonical_hash(spec_of((0, 1), (1, 5))) != canonical_hash(spec_of((0, 1), (5, 1)))
  assert canonical_hash(spec_of((0, 1))) == canonical_hash(spec_of((1, 0)))


@pytest.mark.slow
def test_one_graph_computes_it_beside_the_others(space):
  specs = random_specs(4, space, seed=1)
  assert {cell.op for spec in specs for cell in spec.cells} == set(OPS)
  wired = WiredPyramid(specs[0], 8, 1, norm=NORM)
  features = backbone_features(8)
  wired(features)
  set_apart(wired)
  run, traces = traced(wired, features)
  for spec in specs:
    assert_parity(wired, run, spec, features)
  assert sorted(traces) == ["infer", "train"]


@pytest.mark.slow
def test_it_is_searched_trained_drawn_and_reported(tmp_path, shapes_data, monkeypatch):
  recipe = resolved(
    read_recipe([], [RECIPE, DIFFERENCES, f"Input.data_dir = {str(shapes_data)!r}"])
  )
  evaluate = make_evaluate(recipe, tmp_path)

  (trial,) = search_in_one_process(recipe, tmp_path, evaluate)
  write_results([trial], tmp_path)
  write_report(tmp_path, tmp_path / "report.html", now=0)

  assert (trial.state, trial.failure) == ("done", None)
  assert 0 <= trial.reward <= 1
  best = from_gin((tmp_path / "best_architecture.gin").read_text())
  assert {cell.op for cell in best.cells} == {"difference"}
  # A drawing of each cell by Python, and the names that the page's script draws with.
  page = (tmp_path / "report.html").read_text()
  assert page.count(">diff</text>") >= best.num_cells
  assert '["difference","diff"]' in page
  monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "none")  # letters stay letters
  draw_pyramid(best, tmp_path / "best.svg")
  drawing = (tmp_path / "best.svg").read_text()
  assert drawing.count(">diff</text>") == best.num_cells
  assert ">diff: difference</text>" in drawing
