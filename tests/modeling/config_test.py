"""The detector's settings: through gin and back, and what is refused."""

import dataclasses
import subprocess
import sys

import pytest

from official_nasfpn import configuration
from official_nasfpn.architecture import CATALOG, Fpn, PyramidSpec, to_gin
from official_nasfpn.errors import UserError
from official_nasfpn.modeling import DetectorConfig


@pytest.fixture(autouse=True)
def _no_bindings():
  yield
  configuration.parse()


def test_defaults_are_the_paper_s_model():
  config = DetectorConfig()
  assert (config.backbone, config.num_repeats, config.num_filters) == ("R-50", 7, 256)
  assert config.architecture == CATALOG["nas_fpn"]
  assert config.num_anchors_per_location == 9


def test_resolved_gin_is_complete_and_reads_back():
  config = DetectorConfig(backbone="R-18", architecture="fpn", image_size=[256, 384])
  configuration.parse(gin_params=configuration.to_gin(config).split("\n\n"))
  assert configuration.from_bindings(DetectorConfig) == config


def test_a_baseline_of_other_levels_comes_from_a_recipe_and_goes_back():
  configuration.parse(gin_params=["Detector.architecture = @Fpn()\nFpn.max_level = 6"])
  config = configuration.from_bindings(DetectorConfig)
  assert config.architecture == Fpn(3, 6)
  configuration.parse(gin_params=[configuration.to_gin(config)])
  assert configuration.from_bindings(DetectorConfig) == config


def test_architecture_from_a_trial_s_file(tmp_path):
  file = tmp_path / "architecture.gin"
  file.write_text(to_gin(CATALOG["fpn_like"]))
  configuration.parse([file], ["Detector.num_filters = 64"])
  config = configuration.from_bindings(DetectorConfig)
  assert config.architecture == CATALOG["fpn_like"]
  assert config == DetectorConfig(architecture=str(file), num_filters=64)


def test_sizes_of_the_pyramid_count_instead_of_the_detector_s():
  spec = dataclasses.replace(CATALOG["nas_fpn"], num_repeats=3)
  configuration.parse(gin_params=[to_gin(spec), "Detector.num_filters = 64"])
  config = configuration.from_bindings(DetectorConfig)
  assert (config.num_repeats, config.num_filters) == (3, 64)
  wide = dataclasses.replace(config, architecture=dataclasses.replace(spec, num_filters=96))
  assert (wide.num_repeats, wide.num_filters) == (3, 96)
  configuration.parse(gin_params=[configuration.to_gin(wide)])
  assert configuration.from_bindings(DetectorConfig) == wide
  assert dataclasses.replace(wide, architecture="nas_fpn").num_filters == 96


@pytest.mark.parametrize(
  ("binding", "message"),
  [
    ("Detector.backbone = 'R50'", "Detector.backbone = 'R50': did you mean 'R-50'"),
    ("Detector.image_size = (600, 640)", r"height 600 is not a multiple of 128.* 512 and 640"),
    ("Detector.image_size = (640, 100)", r"width 100 is not a multiple of 128.* Nearest: 128"),
    ("Detector.image_size = 640", "image_size = 640: input should be a valid tuple"),
    ("Detector.image_size = (640,)", r"image_size\[1\]: field required"),
    ("Detector.backbone_width = 0", "backbone_width = 0: .*greater than or equal to 0.0625"),
    ("Detector.num_filters = 0", "num_filters = 0: input should be greater than 0"),
    ("Detector.num_repeats = 2.5", "num_repeats = 2.5: input should be a valid integer"),
    ("Detector.num_classes = 0", "num_classes = 0: input should be greater than 0"),
    ("Detector.head_num_convs = -1", "head_num_convs = -1: input should be greater than or equal"),
    ("Detector.anchor_size = 0", r"^Detector\.anchor_size = 0: it must be .* 0, or 'auto'\.$"),
    ("Detector.anchor_size = 'big'", "anchor_size = 'big': it must be a number above 0, or 'auto'"),
    ("Detector.anchor_size = True", "anchor_size = True: it must be a number above 0"),
    ("Detector.aspect_ratios = ()", r"aspect_ratios = \(\): .*at least 1 item"),
    ("Detector.aspect_ratios = (1, 0)", r"aspect_ratios\[1\] = 0: .*greater than 0"),
    (
      "Detector.score_threshold = 5",
      "score_threshold = 5: input should be less than or equal to 1",
    ),
    ("Detector.architecture = 'nas-fpn'", "nas_fpn"),
    ("Detector.top_levels = 'conv'", "top_levels = 'conv'"),
    ("Detector.separable_convolutions = 3", "separable_convolutions = 3"),
    ("Detector.num_filter = 64", "Did you mean Detector.num_filters"),
  ],
)
def test_mistakes_in_a_recipe(binding, message):
  with pytest.raises(UserError, match=message):  # noqa: PT012 - either step may refuse.
    configuration.parse(gin_params=[binding])
    configuration.from_bindings(DetectorConfig)


def test_the_size_of_anchors_may_be_left_to_the_data():
  configuration.parse(gin_params=["Detector.anchor_size = 'auto'"])
  config = configuration.from_bindings(DetectorConfig)
  assert config.anchor_size == "auto"
  assert "Detector.anchor_size = 'auto'\n" in configuration.to_gin(config)


def test_the_multiple_follows_the_highest_level():
  spec = PyramidSpec(3, 5, (((0, 1), 3, "sum"), ((1, 3), 4, "sum"), ((2, 4), 5, "sum")))
  assert DetectorConfig(architecture=spec, image_size=(96, 32)).image_size == (96, 32)


def test_importing_the_config_does_not_import_tensorflow():
  program = (
    "import sys; from official_nasfpn.modeling import DetectorConfig; DetectorConfig();"
    "sys.exit('tensorflow' in sys.modules)"
  )
  assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
