"""Numbers that the paper publishes (Ghiasi, Lin, Le, CVPR 2019).

FLOPs are the paper's, twice the multiply-adds. AP is in per cent, as published.
"""

import dataclasses

# The paper counts AmoebaNet-D with ImageNet's classifier, which no detector uses: 4096 inputs and a
# bias for each of 1001 classes.
_UNUSED_CLASSIFIER = 4097 * 1001 / 1e6


@dataclasses.dataclass(frozen=True)
class PublishedModel:
  """A row of Table 1 that has a recipe.

  Attributes:
    recipe: name of the file in gin/paper/, without `.gin`.
    name: the model's name in the paper's notation.
    image_side: side of the network's input in pixels.
    parameters: number of parameters in millions.
    flops: FLOPs in billions.
    test_dev_ap: AP on COCO test-dev.
    remark: what a reader must know to compare, and why numbers differ by more than 1 %.
  """

  recipe: str
  name: str
  image_side: int
  parameters: float
  flops: float
  test_dev_ap: float
  remark: str = ""


_LITE_REMARK = (
  "the paper's architecture is not published, nor are its C6 and heads; ours are chosen to fit"
)
_FPNLITE_REMARK = (
  "levels, P6 and heads are not published; two convolutions in each head fit the FLOPs, and of "
  "14,400 combinations that we counted none fits the parameters too within 1 %"
)
_AMOEBANET_REMARK = (
  "Table 1 prints 166.5 M, which Figure 9a gives to 5 @ 384; this is its 185.16 M less the unused "
  "classifier of 4.10 M"
)

TABLE_1 = (
  PublishedModel("nasfpn_r50_640", "R-50, 7 @ 256", 640, 60.3, 281.3, 39.9),
  PublishedModel("nasfpn_r50_1024", "R-50, 7 @ 256", 1024, 60.3, 720.4, 44.2),
  PublishedModel("nasfpn_r50_1280", "R-50, 7 @ 256", 1280, 60.3, 1125.5, 44.8),
  PublishedModel("nasfpn_r50_384_1280", "R-50, 7 @ 384", 1280, 103.9, 2086.3, 45.4),
  PublishedModel(
    "nasfpn_r50_384_1280_dropblock", "R-50, 7 @ 384 + DropBlock", 1280, 103.9, 2086.3, 46.6
  ),
  PublishedModel(
    "nasfpn_amoebanet_384_1280",
    "AmoebaNet, 7 @ 384",
    1280,
    185.16 - _UNUSED_CLASSIFIER,
    2633.0,
    48.0,
    _AMOEBANET_REMARK,
  ),
  PublishedModel(
    "nasfpn_amoebanet_384_1280_dropblock",
    "AmoebaNet, 7 @ 384 + DropBlock",
    1280,
    185.16 - _UNUSED_CLASSIFIER,
    2633.0,
    48.3,
    _AMOEBANET_REMARK,
  ),
  PublishedModel("fpn_r50_640", "FPN R-50 @ 256", 640, 34.0, 193.6, 37.0),
  PublishedModel("fpn_r101_640", "FPN R-101 @ 256", 640, 53.0, 254.2, 37.8),
  PublishedModel("fpn_r50_1024", "FPN R-50 @ 256", 1024, 34.0, 495.8, 40.1),
  PublishedModel("fpn_r101_1024", "FPN R-101 @ 256", 1024, 53.0, 651.1, 41.1),
  PublishedModel(
    "fpn_amoebanet_1280",
    "FPN AmoebaNet @ 256",
    1280,
    114.4 - _UNUSED_CLASSIFIER,
    1311.0,
    43.4,
    "Table 1's 114.4 M less the unused classifier of 4.10 M",
  ),
  PublishedModel("nasfpnlite_3x48", "NAS-FPNLite, 3 @ 48", 320, 2.16, 1.52, 24.2, _LITE_REMARK),
  PublishedModel("nasfpnlite_7x64", "NAS-FPNLite, 7 @ 64", 320, 2.62, 1.96, 25.7, _LITE_REMARK),
  PublishedModel("fpnlite_64", "FPNLite @ 64", 320, 2.02, 1.51, 22.7, _FPNLITE_REMARK),
  PublishedModel("fpnlite_128", "FPNLite @ 128", 320, 2.20, 2.03, 24.3, _FPNLITE_REMARK),
  PublishedModel(
    "ssdlite",
    "SSDLite",
    320,
    4.3,
    1.6,
    22.1,
    "with 80 classes instead of 90 it has 4.31 M",
  ),
)


@dataclasses.dataclass(frozen=True)
class PublishedPoint:
  """One point of Figures 8 or 9, read off their vector drawings.

  Attributes:
    series: the line that it belongs to.
    num_repeats: repeats of the pyramid; None where the figure has no line over them.
    flops: FLOPs in billions.
    ap: AP on COCO val2017, at 640 pixels in Figure 8.
    parameters: number of parameters in millions, where the figure gives it.
    latency_ms: milliseconds on a P100, or in Figure 9b on a Pixel 1, where the figure gives it.
  """

  series: str
  num_repeats: int | None
  flops: float
  ap: float
  parameters: float | None = None
  latency_ms: float | None = None


FIGURE_8 = tuple(
  PublishedPoint(series, num_repeats, flops, ap)
  for series, points in {
    "FPN R-50 @ 256": {
      1: (193.50, 37.21),
      3: (215.86, 37.68),
      5: (238.23, 37.64),
      7: (260.59, 37.25),
    },
    "NAS-FPN R-50 @ 256": {3: (225.95, 39.34), 5: (253.65, 39.57), 7: (281.34, 40.01)},
    "NAS-FPN MobileNetV2 @ 256": {3: (160.26, 36.60), 5: (187.96, 37.42), 7: (215.66, 37.91)},
    "NAS-FPN R-101 @ 256": {3: (286.60, 39.60), 5: (314.29, 40.14), 7: (341.99, 40.12)},
    "NAS-FPN AmoebaNet-D @ 256": {3: (361.13, 41.08), 5: (388.93, 41.62), 7: (416.74, 41.41)},
    "NAS-FPN R-50 @ 128": {3: (115.95, 37.62), 5: (122.88, 37.88)},
    "NAS-FPN R-50 @ 384": {3: (396.93, 40.09), 5: (459.23, 40.55), 7: (521.53, 40.96)},
  }.items()
  for num_repeats, (flops, ap) in points.items()
)

FIGURE_9A = tuple(
  PublishedPoint(series, num_repeats, flops, ap, parameters, latency_ms)
  for series, points in {
    "R-50 @ 256, 640": {5: (47.04, 253.65, 52.05, 39.57), 7: (56.17, 281.34, 60.32, 40.01)},
    "R-50 @ 384, 640": {5: (67.56, 459.24, 85.34, 40.55), 7: (77.43, 521.54, 103.94, 40.96)},
    "R-50 @ 256, 1024": {5: (82.32, 649.28, 52.05, 43.63), 7: (92.11, 720.18, 60.32, 44.04)},
    "AmoebaNet @ 256, 1280": {
      5: (229.29, 1554.95, 132.68, 47.08),
      7: (242.05, 1665.26, 140.95, 47.57),
    },
    "AmoebaNet @ 384, 1280": {
      5: (278.91, 2384.31, 166.57, 47.52),
      7: (301.62, 2633.48, 185.16, 47.95),
    },
  }.items()
  for num_repeats, (latency_ms, flops, parameters, ap) in points.items()
)

# MobileNetV2 at 320 pixels.
FIGURE_9B = tuple(
  PublishedPoint(series, num_repeats, flops, ap, parameters, latency_ms)
  for series, points in {
    "NAS-FPNLite @ 48": {
      3: (210, 1.52, 2.16, 24.22),
      5: (229, 1.60, 2.22, 25.07),
      7: (240, 1.67, 2.33, 25.22),
    },
    "NAS-FPNLite @ 64": {
      3: (231, 1.71, 2.32, 25.29),
      5: (253, 1.83, 2.47, 26.04),
      7: (285, 1.96, 2.62, 26.30),
    },
    "FPNLite @ 64": {1: (192, 1.51, 2.02, 23.0)},
    "FPNLite @ 128": {1: (264, 2.03, 2.20, 24.6)},
  }.items()
  for num_repeats, (latency_ms, flops, parameters, ap) in points.items()
)
