"""Boxes of polygons and masks, against those of pycocotools."""

import numpy as np
import pycocotools.mask
import pytest

from official_nasfpn.data.outlines import box_of_outline

SIZE = (40, 60)
MASK = np.zeros(SIZE, np.uint8, order="F")
MASK[5:15, 10:30] = 1
MASK[30:33, 50:55] = 1
COMPRESSED = pycocotools.mask.encode(MASK)


def runs(mask):
  """Returns COCO's run lengths: columns first, the first run of zeros."""
  flat = mask.ravel(order="F")
  ends = np.flatnonzero(np.diff(flat)) + 1
  lengths = np.diff([0, *ends, flat.size]).tolist()
  return lengths if flat[0] == 0 else [0, *lengths]


def test_masks_give_the_box_of_pycocotools_in_both_encodings():
  expected = pycocotools.mask.toBbox(COMPRESSED).tolist()
  assert expected == [10, 5, 45, 28]
  text = {"size": list(SIZE), "counts": COMPRESSED["counts"].decode()}
  assert box_of_outline(text) == expected
  assert box_of_outline({"size": list(SIZE), "counts": runs(MASK)}) == expected
  spelt = {"size": ["40", 60.0], "counts": [str(run) for run in runs(MASK)]}
  assert box_of_outline(spelt) == expected


def test_polygons_give_their_extent():
  polygons = [[10.5, 5, 30, 5.25, 20, 15], [50, 30, 55, 30, 55, 33, 50, 33]]
  assert box_of_outline(polygons) == [10.5, 5, 44.5, 28]
  # Of whole pixels it is the same.
  encoded = pycocotools.mask.merge(pycocotools.mask.frPyObjects(polygons, *SIZE))
  np.testing.assert_allclose(pycocotools.mask.toBbox(encoded), [10.5, 5, 44.5, 28], atol=1)


@pytest.mark.parametrize(
  "outline",
  [
    None, "", [], {}, [[]], [[1, 2, 3, 4]], [[1, 2, 3, 4, 5]], [[1, 2, 3, "x", 5, 6]],
    [[1, 2, 1, 4, 1, 9]], [[1, 2, 3, 4, 5, 6], None], [{}], 5, True,
    {"size": [40, 60]}, {"size": [40, 60], "counts": ""}, {"size": [40, 60], "counts": []},
    {"size": [0, 60], "counts": [1, 2]}, {"size": [40], "counts": [1]},
    {"size": [40, 60], "counts": [10, 10**9]}, {"size": [40, 60], "counts": [-3, 9]},
    {"size": [40, 60], "counts": [1, "x"]}, {"size": [40, 60], "counts": "junk~~~"},
    {"size": [40, 60], "counts": "W3\ud800"}, {"size": [2**40, 2**40], "counts": [1, 2]},
    {"size": [40, 60], "counts": COMPRESSED["counts"].decode()[:-1] + "o"},
    {"size": [20, 30], "counts": COMPRESSED["counts"].decode()},
  ],
)  # fmt: skip
def test_what_encloses_nothing_or_is_no_outline_gives_none(outline):
  assert box_of_outline(outline) is None
