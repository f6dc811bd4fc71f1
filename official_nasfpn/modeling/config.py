"""The settings of a detector, as gin binds them (`Detector.num_filters = 256`)."""

import math
from typing import Annotated, Literal

from pydantic import (
  BeforeValidator,
  Field,
  InstanceOf,
  NonNegativeInt,
  PositiveFloat,
  PositiveInt,
  field_validator,
)

from official_nasfpn.architecture import Baseline, PyramidSpec, resolve_architecture
from official_nasfpn.configuration import configurable, settings
from official_nasfpn.errors import nearest_name
from official_nasfpn.modeling.backbones import BACKBONES
from official_nasfpn.modeling.norm import NormSettings
from official_nasfpn.modeling.pyramids import pyramid_kind

ExitHeads = Literal["last", "shared", "separate"]
TopLevels = Literal["max_pool", "convolution"]
_Architecture = Annotated[
  InstanceOf[PyramidSpec] | InstanceOf[Baseline],
  BeforeValidator(resolve_architecture),
]
_Fraction = Annotated[float, Field(ge=0, le=1)]


@configurable("Detector")
@settings
class DetectorConfig:
  """A RetinaNet detector on a stacked feature pyramid.

  The defaults are the paper's `R-50, 7 @ 256` at 640 pixels.

  Attributes:
    backbone: R-10, R-18, R-34, R-50, R-101, MobileNetV2 or AmoebaNet-D; or R-18-torch, R-50-keras
      and the like, which have the arithmetic of another library, for its weights
      (`Training.backbone_weights`).
    backbone_width: channels of every layer of the backbone, relative to the published network.
    architecture: the pyramid, as a catalogue name, the path of a .gin or .json file, or itself:
      `@PyramidSpec()`, or a baseline such as `@Fpn()`. Held as the pyramid itself, so that a
      resolved config needs no other file. Sizes that a `PyramidSpec` says count instead of
      `num_filters` and `num_repeats`.
    num_filters: width of every feature map of the pyramid.
    num_repeats: the number of stacked pyramids.
    separable_convolutions: whether pyramid and heads have depthwise separable convolutions.
    top_levels: how the levels above the backbone's are made: by `max_pool` of the projected map
      below, or by a strided 3x3 `convolution` of the map below. An `Fpn` always has convolutions.
    image_size: height and width of the network's input in pixels, multiples of 2^max_level.
    num_classes: object classes, without a background class; None takes the label map's number.
    head_num_convs: 3x3 convolutions before each prediction in the class and in the box head.
    head_num_filters: width of the heads; None makes them as wide as the pyramid.
    exit_heads: which of the stacked pyramids have heads. `last`: the final one only. `shared` and
      `separate` make an anytime detector with an exit after every repeat: `separate` gives each
      exit heads of its own, `shared` gives all of them the same convolutions and each its own batch
      norms, since the features of different exits have different statistics.
    anchor_size: side of a square base anchor, in units of the level's stride 2^level. `auto`
      chooses, when the data is opened, the size whose anchors reach most of its boxes; from then on
      it is a number, in the run folder and in exports.
    num_scales: anchor sizes per octave.
    aspect_ratios: width over height of the anchors.
    norm_momentum: momentum of the batch norms' moving averages.
    norm_epsilon: the number added to the variance in batch norms.
    sync_batch_norm: whether batch statistics are taken over all replicas.
    score_threshold: detections at or below this score are dropped.
    nms_iou_threshold: if two boxes of a class have a higher IoU, the one with the lower score is
      dropped.
    max_detections: the largest number of detections kept per image.
  """

  backbone: str = "R-50"
  backbone_width: Annotated[float, Field(ge=1 / 16, le=4)] = 1.0
  architecture: _Architecture = "nas_fpn"
  num_filters: PositiveInt = 256
  num_repeats: PositiveInt = 7
  separable_convolutions: bool = False
  top_levels: TopLevels = "max_pool"
  image_size: tuple[PositiveInt, PositiveInt] = (640, 640)
  num_classes: PositiveInt | None = None
  head_num_convs: NonNegativeInt = 4
  head_num_filters: PositiveInt | None = None
  exit_heads: ExitHeads = "last"
  anchor_size: PositiveFloat | Literal["auto"] = 4.0
  num_scales: PositiveInt = 3
  aspect_ratios: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (0.5, 1.0, 2.0)
  norm_momentum: _Fraction = 0.997
  norm_epsilon: PositiveFloat = 1e-4
  sync_batch_norm: bool = False
  score_threshold: _Fraction = 0.05
  nms_iou_threshold: _Fraction = 0.5
  max_detections: PositiveInt = 100

  @field_validator("backbone")
  @classmethod
  def _check_backbone(cls, backbone: str) -> str:
    if backbone not in BACKBONES:
      nearest = nearest_name(backbone, BACKBONES)
      raise ValueError(f"Did you mean {nearest!r}? There are {', '.join(BACKBONES)}.")
    return backbone

  @field_validator("anchor_size", mode="before")
  @classmethod
  def _check_anchor_size(cls, size: object) -> object:
    # The mistakes of a union would be two sentences.
    is_number = isinstance(size, int | float) and not isinstance(size, bool)
    if size != "auto" and not (is_number and 0 < size < math.inf):
      raise ValueError("it must be a number above 0, or 'auto'.")
    return size

  def __post_init__(self) -> None:
    if isinstance(self.architecture, PyramidSpec):
      for name, size in self.architecture.sizes.items():
        if size is not None:
          object.__setattr__(self, name, size)
    pyramid_kind(self.architecture).check(self)

  @property
  def norm(self) -> NormSettings:
    return NormSettings(self.norm_momentum, self.norm_epsilon, self.sync_batch_norm)

  @property
  def num_anchors_per_location(self) -> int:
    return self.num_scales * len(self.aspect_ratios)

  @property
  def num_exits(self) -> int:
    return 1 if self.exit_heads == "last" else self.num_repeats
