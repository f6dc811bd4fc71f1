"""Charts of the sizes and shapes of boxes and images."""

from collections.abc import Sequence

import numpy as np

from official_nasfpn.data.doctor.examination import Examination
from official_nasfpn.reporting.chart import Chart, Series, make_chart

# Colours and kinds of lines for splits, the training split first.
_STYLES = (("steps", "first"), ("steps", "second"), ("steps", "quiet"), ("dashed", "quiet"))


def size_charts(examination: Examination) -> list[Chart]:
  """Returns charts of sizes and ratios of boxes, of boxes in an image, and of images."""
  charts = [
    _histogram(
      examination,
      "Sizes of boxes",
      "side of a square as large, log2 of pixels (5 is 32, 6.6 is 96)",
      [np.log2(np.sqrt(sides[:, 0] * sides[:, 1])) for sides in _sides(examination)],
      0.5,
    ),
    _histogram(
      examination,
      "Shapes of boxes",
      "log2 of width / height (0 is square, 1 twice as wide)",
      [np.log2(sides[:, 0] / sides[:, 1]) for sides in _sides(examination)],
      0.25,
    ),
    _histogram(
      examination,
      "Boxes in an image",
      "boxes",
      [
        np.array([len(image.boxes) for image in examination.images if image.split == split], float)
        for split in examination.splits
      ],
      1.0,
    ),
    _image_sizes(examination),
  ]
  return [chart for chart in charts if chart]


def _sides(examination: Examination) -> list[np.ndarray]:
  """Returns float [boxes, 2], width and height, of each split."""
  return [
    np.array(
      [
        (box.width, box.height)
        for image in examination.images
        if image.split == split
        for box in image.boxes
      ],
      float,
    ).reshape(-1, 2)
    for split in examination.splits
  ]


def _histogram(
  examination: Examination, title: str, label: str, values: Sequence[np.ndarray], step: float
) -> Chart | None:
  """Returns a chart of the share of each split's values by steps."""
  known = [of_split for of_split in values if len(of_split)]
  if not known:
    return None
  together = np.concatenate(known)
  while (together.max() - together.min()) / step > 60:
    step *= 2
  low = np.floor(together.min() / step) * step
  edges = np.arange(low, together.max() + 2 * step, step)
  series = []
  for split, of_split, (kind, color) in zip(examination.splits, values, _STYLES, strict=False):
    if len(of_split):
      shares = 100 * np.histogram(of_split, edges)[0] / len(of_split)
      # Up from the axis and down to it again.
      x, y = np.concatenate([edges[:1], edges]), np.concatenate([[0.0], shares, [0.0]])
      series.append(Series(split, kind, color, x, y))
  return make_chart(
    title, f"{title}, the share of each split", label, "% of the split", series,
    y_range=(0.0, 1.0),
  )  # fmt: skip


def _image_sizes(examination: Examination) -> Chart | None:
  series = []
  for split, (_, color) in zip(examination.splits, _STYLES, strict=False):
    sizes = [i.size for i in examination.images if i.split == split and i.size is not None]
    x, y = np.array(sizes, float).reshape(-1, 2).T
    series.append(Series(split, "dots", color, x, y))
  return make_chart(
    "Sizes of images", "Width and height of every image", "width, pixels", "height, pixels", series
  )
