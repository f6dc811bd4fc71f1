"""Properties of every merge op."""

import numpy as np
import pytest
import tensorflow as tf

from official_nasfpn.architecture import MERGE_OPS
from official_nasfpn.modeling.merging import MERGE_FUNCTIONS, MergeInput
from official_nasfpn.modeling.resampling import global_max


def random_input(seed, dtype=tf.float32):
  values = tf.cast(tf.random.stateless_normal([2, 4, 6, 3], [seed, 0]), dtype)
  return MergeInput(values, lambda: global_max(values))


def test_every_op_of_the_table_can_be_computed_and_no_other():
  assert MERGE_OPS.keys() == MERGE_FUNCTIONS.keys()


@pytest.mark.parametrize("name", MERGE_OPS)
def test_an_op_is_symmetric_where_the_table_says_so(name):
  first, second = random_input(1), random_input(2)
  merge = MERGE_FUNCTIONS[name]
  is_symmetric = np.array_equal(merge(first, second), merge(second, first))
  assert is_symmetric == MERGE_OPS[name].symmetric


@pytest.mark.parametrize("name", MERGE_OPS)
@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_a_merged_map_is_like_its_inputs(name, dtype):
  first, second = random_input(1, dtype), random_input(2, dtype)
  merged = MERGE_FUNCTIONS[name](first, second)
  assert (merged.shape, merged.dtype) == (first.at_cell_level.shape, dtype)


def test_names_that_are_drawn_differ():
  short_names = [op.short_name for op in MERGE_OPS.values()]
  assert len(set(short_names)) == len(short_names)
