"""What a detector is made of, as gin binds it (`Detector.num_filters = 256`)."""

import dataclasses
import difflib
from os import PathLike

from official_nasfpn.architecture import PyramidSpec, resolve_architecture
from official_nasfpn.configuration import configurable
from official_nasfpn.modeling.backbones import BACKBONES


@configurable("Detector")
@dataclasses.dataclass(frozen=True)
class DetectorConfig:
  """A RetinaNet detector on a stacked feature pyramid.

  The defaults are the paper's `R-50, 7 @ 256` at 640 pixels.

  Attributes:
    backbone: one of `modeling.backbones.BACKBONES`.
    backbone_width: channels of every layer of the backbone, relative to the published network.
    architecture: the pyramid, as a catalogue name, the path of a .gin or .json file, or a spec.
      Held as a `PyramidSpec`, so that a resolved config needs no other file.
    num_filters: width of every feature map of the pyramid.
    num_repeats: how often the pyramid is stacked.
    image_size: height and width of the network's input in pixels, multiples of 2^max_level.
    num_classes: object classes, without a background class; None takes the label map's number.
    head_num_convs: 3x3 convolutions before each prediction in the class and in the box head.
    head_num_filters: width of the heads; None makes them as wide as the pyramid.
    anchor_size: side of a square base anchor, in units of the level's stride 2^level.
    num_scales: anchor sizes per octave.
    aspect_ratios: width over height of the anchors.
    norm_momentum: of the batch norms' moving averages.
    norm_epsilon: added to the variance in batch norms.
    sync_batch_norm: whether batch statistics are taken over all replicas.
    score_threshold: detections at or below this score are dropped.
    nms_iou_threshold: of two boxes of a class that overlap more than this, the weaker is dropped.
    max_detections: the most detections kept per image.
  """

  backbone: str = "R-50"
  backbone_width: float = 1.0
  architecture: str | PathLike[str] | PyramidSpec = "nas_fpn"
  num_filters: int = 256
  num_repeats: int = 7
  image_size: tuple[int, int] = (640, 640)
  num_classes: int | None = None
  head_num_convs: int = 4
  head_num_filters: int | None = None
  anchor_size: float = 4.0
  num_scales: int = 3
  aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
  norm_momentum: float = 0.997
  norm_epsilon: float = 1e-4
  sync_batch_norm: bool = False
  score_threshold: float = 0.05
  nms_iou_threshold: float = 0.5
  max_detections: int = 100

  def __post_init__(self) -> None:
    object.__setattr__(self, "architecture", resolve_architecture(self.architecture))
    object.__setattr__(self, "image_size", _pair(self.image_size))
    object.__setattr__(self, "aspect_ratios", tuple(self.aspect_ratios))
    if self.backbone not in BACKBONES:
      nearest = difflib.get_close_matches(str(self.backbone), BACKBONES, n=1, cutoff=0.0)
      raise ValueError(
        f"backbone {self.backbone!r} is unknown; did you mean {nearest[0]!r}? "
        f"There are {', '.join(BACKBONES)}."
      )
    if not 1 / 16 <= self.backbone_width <= 4:
      raise ValueError(f"backbone_width must lie between 1/16 and 4, not {self.backbone_width!r}.")
    for name in ("num_filters", "num_repeats", "num_scales", "max_detections"):
      _check_positive(name, getattr(self, name))
    for name in ("num_classes", "head_num_filters"):
      if getattr(self, name) is not None:
        _check_positive(name, getattr(self, name))
    if not isinstance(self.head_num_convs, int) or self.head_num_convs < 0:
      raise ValueError(f"head_num_convs must be an integer from 0 up, not {self.head_num_convs!r}.")
    if self.anchor_size <= 0 or not self.aspect_ratios or min(self.aspect_ratios) <= 0:
      raise ValueError(
        f"anchor_size {self.anchor_size!r} and aspect_ratios {self.aspect_ratios!r} must be "
        "positive, and there must be at least one ratio."
      )
    for name in ("norm_momentum", "score_threshold", "nms_iou_threshold"):
      if not 0 <= getattr(self, name) <= 1:
        raise ValueError(f"{name} must lie between 0 and 1, not {getattr(self, name)!r}.")
    check_image_size(self.image_size, self.architecture.max_level)

  @property
  def num_anchors_per_location(self) -> int:
    return self.num_scales * len(self.aspect_ratios)


def check_image_size(image_size: tuple[int, int], max_level: int) -> None:
  """Raises a ValueError unless both sides are multiples of 2^max_level.

  Other sizes would be rounded at each level, so maps of different levels would not align.
  """
  multiple = 2**max_level
  for side, name in zip(image_size, ("height", "width"), strict=True):
    if side % multiple or side <= 0:
      below = side // multiple * multiple
      nearest = [str(size) for size in (below, below + multiple) if size > 0]
      raise ValueError(
        f"image_size {tuple(image_size)}: {name} {side} is not a multiple of {multiple}, the "
        f"stride of the top level {max_level}. Nearest: {' and '.join(nearest)}."
      )


def _pair(image_size: object) -> tuple[int, int]:
  if (
    not isinstance(image_size, tuple | list)
    or len(image_size) != 2
    or not all(isinstance(side, int) for side in image_size)
  ):
    raise ValueError(f"image_size must be (height, width) in whole pixels, not {image_size!r}.")
  return tuple(image_size)


def _check_positive(name: str, value: object) -> None:
  if not isinstance(value, int) or isinstance(value, bool) or value < 1:
    raise ValueError(f"{name} must be a positive integer, not {value!r}.")
