"""The canonical form: what it joins, what it keeps apart, and that it computes the same."""

import dataclasses
import itertools
import random
import time

import numpy as np
import pytest

from official_nasfpn.architecture import (
  CATALOG,
  PyramidSpec,
  SearchSpace,
  canonical_form,
  canonical_hash,
  pyramid_name,
  unconsumed_inputs,
)

# Pinned: trials of older searches are found by these.
GOLDEN_HASHES = {
  "nas_fpn": "5c6ab93d55bddad9",
  "nas_fpnlite_ours": "138e5cf07bfa7492",
  "fpn_like": "4901b72ffabac46b",
  "panet": "327cf9dd29cbff4a",
  "bifpn_like": "29bdea30bd870d9a",
}

# Spaces whose random pyramids cover the paper's, many intermediate cells, and many twins.
SPACES = [SearchSpace(), SearchSpace(3, 6, 11), SearchSpace(3, 4, 5, ("global_pool",))]


@pytest.mark.parametrize("name", CATALOG)
def test_hashes_of_the_catalogue(name):
  assert canonical_hash(CATALOG[name]) == GOLDEN_HASHES[name]


def test_the_discovered_architecture_is_its_own_canonical_form():
  assert canonical_form(CATALOG["nas_fpn"]) == CATALOG["nas_fpn"]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_it_is_idempotent(space):
  rng = random.Random(0)
  for _ in range(50):
    canonical = canonical_form(space.sample(rng))
    assert canonical_form(canonical) == canonical


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_harmless_swaps_and_legal_orders_change_neither_it_nor_the_function(space):
  rng = random.Random(1)
  for _ in range(25):
    spec = space.sample(rng)
    order = _random_legal_order(spec, rng)
    other = _reordered(spec, order, swapped=[rng.random() < 0.5 for _ in order])
    weights = _random_weights(spec, rng)
    _assert_equal_outputs(
      _outputs(spec, weights), _outputs(other, [weights[index] for index in order])
    )
    assert canonical_form(other) == canonical_form(spec)
    assert canonical_hash(other) == canonical_hash(spec)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_it_computes_the_same_function(space):
  rng = random.Random(2)
  for _ in range(25):
    spec = space.sample(rng)
    weights = _random_weights(spec, rng)
    canonical = canonical_form(spec)
    expected = _outputs(spec, weights)
    assert any(
      _are_equal(expected, _outputs(canonical, [weights[index] for index in order]))
      for order in _matching_orders(spec, canonical)
    )


@pytest.mark.parametrize(
  "space", [SearchSpace(3, 4, 1), SearchSpace(4, 5, 2, ("sum",)), SearchSpace(3, 5, 0, ("sum",))]
)
def test_it_joins_exactly_the_specs_with_the_same_graph(space):
  # Every reordering and every harmless swap of every spec of the space, by brute force.
  specs = set(space.enumerate())
  forms = {spec: canonical_form(spec) for spec in specs}
  num_classes = 0
  while specs:
    spec = specs.pop()
    same_graph = _all_with_the_same_graph(spec)
    assert {forms[other] for other in same_graph} == {forms[spec]}
    assert forms[spec] in same_graph
    specs -= same_graph
    num_classes += 1
  assert len(set(forms.values())) == num_classes


def test_swapping_the_inputs_of_a_global_pool_at_equal_levels_is_another_function():
  cells = (((0, 1), 4, "sum"), ((1, 2), 4, "global_pool"), ((0, 3), 3, "sum"))
  spec = PyramidSpec(3, 4, cells)
  swapped = PyramidSpec(3, 4, (cells[0], ((2, 1), 4, "global_pool"), cells[2]))
  weights = _random_weights(spec, random.Random(3))
  assert not _are_equal(_outputs(spec, weights), _outputs(swapped, weights))
  assert canonical_hash(spec) != canonical_hash(swapped)


def test_swapping_the_inputs_of_a_global_pool_at_different_levels_is_harmless():
  cells = (((0, 1), 4, "global_pool"), ((0, 2), 3, "sum"))
  spec = PyramidSpec(3, 4, cells)
  swapped = PyramidSpec(3, 4, (((1, 0), 4, "global_pool"), cells[1]))
  weights = _random_weights(spec, random.Random(4))
  _assert_equal_outputs(_outputs(spec, weights), _outputs(swapped, weights))
  assert canonical_form(spec) == canonical_form(swapped)


def test_an_order_of_outputs_that_changes_what_is_added_is_another_function():
  # P4 is built before or after P3 reads C4: only before is C4 added to P4.
  early = PyramidSpec(3, 5, (((0, 2), 4, "sum"), ((0, 1), 3, "sum"), ((0, 2), 5, "sum")))
  late = PyramidSpec(3, 5, (early.cells[1], early.cells[0], early.cells[2]))
  assert unconsumed_inputs(early)[0] == (1,)
  assert unconsumed_inputs(late)[1] == ()
  weights = _random_weights(early, random.Random(5))
  assert not _are_equal(
    _outputs(early, weights), _outputs(late, [weights[1], weights[0], weights[2]])
  )
  assert canonical_hash(early) != canonical_hash(late)


def test_sharing_a_cell_differs_from_sharing_it_elsewhere():
  # Unfolded into trees the two are alike; but P3 shares its twin's weights with P4 or with P5.
  twins = (((0, 1), 4, "sum"), ((0, 1), 4, "sum"))
  with_p4 = PyramidSpec(3, 5, (*twins, ((0, 3), 3, "sum"), ((1, 3), 4, "sum"), ((2, 4), 5, "sum")))
  with_p5 = PyramidSpec(3, 5, (*twins, ((0, 3), 3, "sum"), ((1, 4), 4, "sum"), ((2, 3), 5, "sum")))
  assert canonical_form(with_p4) != canonical_form(with_p5)


def test_twins_are_told_apart_by_their_readers():
  twins = (((0, 1), 4, "sum"), ((0, 1), 4, "sum"))
  specs = [
    PyramidSpec(3, 4, (*twins, ((0, a), 3, "sum"), ((1, b), 4, "sum"))) for a, b in ((2, 3), (3, 2))
  ]
  assert canonical_form(specs[0]) == canonical_form(specs[1])


def test_a_search_that_has_collapsed_onto_one_cell_is_still_fast():
  # Eleven twins in the order of 15 cells: 40 million orders to compare if done naively.
  twins = [((0, 1), 4, "sum")] * 11
  readers = [((5 + 2 * i, 6 + 2 * i), 3 + i, "sum") for i in range(5)]
  pairs = [((0, 1), 4, "sum")] * 5 + [((0, 5 + i), 4, "sum") for i in range(5)]
  no_readers = [((0, 1), 3 + i, "sum") for i in range(5)]
  started = time.perf_counter()
  for cells in (twins + readers, twins + no_readers, pairs + no_readers):
    spec = PyramidSpec(3, 7, cells)
    rng = random.Random(6)
    for _ in range(3):
      order = _random_legal_order(spec, rng)
      other = _reordered(spec, order, swapped=[False] * len(order))
      assert canonical_form(other) == canonical_form(spec)
  assert time.perf_counter() - started < 5


def test_sizes_are_part_of_the_hash_and_not_of_the_name():
  plain = CATALOG["nas_fpn"]
  sized = [dataclasses.replace(plain, num_repeats=n, num_filters=m) for n in (1, 3) for m in (8, 3)]
  one = [dataclasses.replace(plain, num_repeats=3), dataclasses.replace(plain, num_filters=3)]
  assert len({canonical_hash(spec) for spec in (plain, *sized, *one)}) == 7
  assert {pyramid_name(spec) for spec in (plain, *sized, *one)} == {"nas_fpn"}
  assert canonical_form(sized[0]).sizes == sized[0].sizes


def _reordered(spec, order, swapped):
  """Returns the spec that builds the cells of `spec` in `order`, some with swapped inputs."""
  number = {candidate: candidate for candidate in range(spec.num_inputs)}
  number |= {spec.num_inputs + old: spec.num_inputs + new for new, old in enumerate(order)}
  cells = []
  for index, swap in zip(order, swapped, strict=True):
    cell = spec.cells[index]
    first, second = cell.inputs
    harmless = cell.op == "sum" or spec.level_of(first) != spec.level_of(second)
    if swap and harmless:
      first, second = second, first
    cells.append(dataclasses.replace(cell, inputs=(number[first], number[second])))
  return dataclasses.replace(spec, cells=tuple(cells))


def _keeps_graph(spec, order):
  """Returns whether the cells can be built in `order` and every output adds the same candidates."""
  position = {spec.num_inputs + index: place for place, index in enumerate(order)}
  for place, index in enumerate(order):
    if spec.is_output(index) != spec.is_output(place):
      return False
    if any(position.get(candidate, -1) >= place for candidate in spec.cells[index].inputs):
      return False
  other = _reordered(spec, order, [False] * len(order))
  number = list(range(spec.num_inputs)) + [spec.num_inputs + index for index in order]
  added = unconsumed_inputs(spec)
  return all(
    {number[candidate] for candidate in other_added} == set(added[index])
    for index, other_added in zip(order, unconsumed_inputs(other), strict=True)
  )


def _random_legal_order(spec, rng):
  """Returns a random order of building that keeps the graph."""
  while True:
    built = list(range(spec.num_inputs))
    while len(built) < spec.num_inputs + spec.num_intermediate_cells:
      ready = [
        spec.num_inputs + index
        for index, cell in enumerate(spec.intermediate_cells)
        if spec.num_inputs + index not in built and set(cell.inputs) <= set(built)
      ]
      built.append(rng.choice(ready))
    outputs = list(range(spec.num_intermediate_cells, spec.num_cells))
    rng.shuffle(outputs)
    order = [candidate - spec.num_inputs for candidate in built[spec.num_inputs :]] + outputs
    if _keeps_graph(spec, order):
      return order


def _all_with_the_same_graph(spec):
  return {
    _reordered(spec, order, swapped)
    for order in itertools.permutations(range(spec.num_cells))
    if _keeps_graph(spec, order)
    for swapped in itertools.product((False, True), repeat=spec.num_cells)
  }


def _matching_orders(spec, other, order=()):
  """Yields the orders of the cells of `spec` that could make `other`; several where twins are."""
  if len(order) == spec.num_cells:
    yield order
    return
  number = {candidate: candidate for candidate in range(spec.num_inputs)}
  number |= {spec.num_inputs + old: spec.num_inputs + new for new, old in enumerate(order)}
  wanted = other.cells[len(order)]
  for index, cell in enumerate(spec.cells):
    if (
      index not in order
      and (cell.level, cell.op) == (wanted.level, wanted.op)
      and {number.get(i) for i in cell.inputs} == set(wanted.inputs)
    ):
      yield from _matching_orders(spec, other, (*order, index))


# A pyramid in numpy. Each cell has weights of its own, which go with it when cells change places.

_NUM_FILTERS = 3


def _random_weights(spec, rng):
  generator = np.random.default_rng(rng.randrange(2**32))
  return [generator.normal(size=(2, _NUM_FILTERS, _NUM_FILTERS)) for _ in spec.cells]


def _outputs(spec, weights):
  """Returns `{level: [side, side, filters]}` for inputs that are always the same."""
  generator = np.random.default_rng(0)
  features = []
  for level in spec.levels:
    side = 2 ** (spec.max_level - level + 1)
    features.append(generator.normal(size=(side, side, _NUM_FILTERS)))
  for index, cell in enumerate(spec.cells):
    first, second = cell.inputs
    if cell.op == "global_pool" and spec.level_of(first) < spec.level_of(second):
      first, second = second, first
    a, b = (_resampled(features[i], spec.level_of(i), cell.level) for i in (first, second))
    gate = 1 / (1 + np.exp(-a.max(axis=(0, 1)))) if cell.op == "global_pool" else 1.0
    merged = a + b * gate
    for candidate in unconsumed_inputs(spec)[index]:
      merged = merged + features[candidate]
    # Stands for ReLU, 3x3 convolution and batch norm: mixes neighbours and filters.
    active = np.maximum(merged, 0)
    features.append(active @ weights[index][0] + np.roll(active, 1, axis=0) @ weights[index][1])
  outputs = features[-spec.num_inputs :]
  return {cell.level: output for cell, output in zip(spec.output_cells, outputs, strict=True)}


def _resampled(feature, level, target):
  factor = 2 ** abs(target - level)
  if target < level:
    return feature.repeat(factor, axis=0).repeat(factor, axis=1)
  side = feature.shape[0] // factor
  return feature.reshape(side, factor, side, factor, -1).max(axis=(1, 3))


def _are_equal(outputs, others):
  return all(np.allclose(outputs[level], others[level], rtol=1e-6) for level in outputs)


def _assert_equal_outputs(outputs, others):
  assert outputs.keys() == others.keys()
  for level in outputs:
    np.testing.assert_allclose(outputs[level], others[level], rtol=1e-6, atol=1e-9)
