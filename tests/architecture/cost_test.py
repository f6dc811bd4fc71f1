"""Closed forms against published numbers."""

import random

import pytest

from official_nasfpn.architecture import (
  CATALOG,
  SearchSpace,
  pyramid_multiply_adds,
  pyramid_parameters,
)


@pytest.mark.parametrize(
  ("num_filters", "parameters"),
  [(48, 146_160), (64, 259_392), (128, 1_034_880), (256, 4_134_144), (384, 9_297_792)],
)
def test_parameters_of_the_discovered_architecture(num_filters, parameters):
  # 7 cells of 9 F^2 + 3 F. Read off the paper's Figure 9a: 4.1341 M at 256, 9.2978 M at 384.
  assert pyramid_parameters(CATALOG["nas_fpn"], num_filters) == parameters


@pytest.mark.parametrize(
  ("num_filters", "image_side", "five_repeats", "seven_repeats"),
  [
    # Figure 8 of the paper, R-50 at 640: 10^9 FLOPs, which are twice the multiply-adds.
    (256, 640, 253.65, 281.34),
    (384, 640, 459.23, 521.53),
    # Figure 9a, R-50 at 1024.
    (256, 1024, 649.28, 720.18),
  ],
)
def test_multiply_adds_are_what_two_more_repeats_cost_in_the_paper(
  num_filters, image_side, five_repeats, seven_repeats
):
  published = (seven_repeats - five_repeats) / 2 / 2 * 1e9
  ours = pyramid_multiply_adds(CATALOG["nas_fpn"], num_filters, (image_side, image_side))
  assert ours == pytest.approx(published, rel=2e-3)


def test_multiply_adds_of_a_wide_image():
  # Output positions of P7..P3 at 256 x 512: 2x4, 4x8, 8x16, 16x32, 32x64.
  positions = 8 + 32 + 128 + 512 + 2048
  assert pyramid_multiply_adds(CATALOG["fpn_like"], 10, (256, 512)) == positions * 9 * 100


def test_sides_that_are_no_multiple_round_up():
  # Output positions of P7..P3 at 129 x 639: 2x5, 3x10, 5x20, 9x40, 17x80.
  positions = 10 + 30 + 100 + 360 + 1360
  assert pyramid_multiply_adds(CATALOG["fpn_like"], 8, (129, 639)) == positions * 9 * 64


def test_separable_cells_cost_what_nas_fpnlite_s_do():
  # 15 cells; Figure 9b of the paper: 2.62 M and 2.32 M parameters with 7 and 3 repeats @ 64, about
  # 75 k for each; 15 separable blocks of it are 73.0 k.
  spec = SearchSpace(3, 6, 11, intermediate_levels=(4,)).sample(random.Random(0))
  assert pyramid_parameters(spec, 64, separable=True) == 72_960
  # FLOPs of the same: 1.96 and 1.71 billion, twice the multiply-adds.
  published = (1.96 - 1.71) / 4 / 2 * 1e9
  ours = pyramid_multiply_adds(spec, 64, (320, 320), separable=True)
  assert ours == pytest.approx(published, rel=0.04)
