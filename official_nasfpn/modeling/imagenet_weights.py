"""Weights trained on ImageNet that their makers publish: which files there are, and where.

`imagenet` as a setting means the first of these files that fits the backbone; `imagenet:NAME` means
one of them, and the same one on every machine. `weights_cache.py` fetches them.
"""

import dataclasses

from official_nasfpn.errors import UserError, nearest_name
from official_nasfpn.modeling.published_weights import library_in

IMAGENET = "imagenet"

_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"
_TORCH = "https://download.pytorch.org/models"
_HUGGING_FACE = "https://huggingface.co"


@dataclasses.dataclass(frozen=True)
class PublishedFile:
  """A file of weights, as its makers publish it.

  Attributes:
    name: of the file in settings.
    backbone: whose weights these are, one of `BACKBONES`.
    url: where it is; None where its makers want a log-in.
    file: its name in the cache.
    licence: as its makers state it, or what they do not state.
    megabytes: its size; None if nobody has stated it.
    checksum: kind and hexadecimal digits, or their beginning; None if none is published.
    place: where to get it, where there is no `url`.
  """

  name: str
  backbone: str
  url: str | None
  file: str
  licence: str
  megabytes: float | None = None
  checksum: tuple[str, str] | None = None
  place: str = ""

  @property
  def setting(self) -> str:
    """The value of `Training.backbone_weights`."""
    return f"{IMAGENET}:{self.name}" if self.url else "FILE"

  @property
  def checksum_text(self) -> str:
    """Kind and digits of the checksum, for people."""
    if self.checksum is None:
      return "none published"
    kind, digits = self.checksum
    whole = {"md5": 32, "sha256": 64}[kind]
    name = {"md5": "MD5", "sha256": "SHA-256"}[kind]
    return f"{name} {digits}" if len(digits) == whole else f"{name} begins with {digits}"

  @property
  def needs_torch(self) -> bool:
    """Whether only PyTorch reads it."""
    return self.file.endswith(".pth")


def _of_torchvision(depth: int, digits: str, megabytes: float) -> PublishedFile:
  # The name of the file holds the first digits of its SHA-256, torch.hub's convention.
  name = f"resnet{depth}-{digits}"
  return PublishedFile(
    f"torchvision/{name}",
    f"R-{depth}-torch",
    f"{_TORCH}/{name}.pth",
    f"{name}.pth",
    "BSD-3-Clause",
    megabytes,
    ("sha256", digits),
  )


def _of_timm(
  depth: int,
  tag: str,
  licence: str,
  revision: str = "main",
  megabytes: float | None = None,
  sha256: str | None = None,
) -> PublishedFile:
  name = f"resnet{depth}.{tag}"
  return PublishedFile(
    f"timm/{name}",
    f"R-{depth}-torch",
    f"{_HUGGING_FACE}/timm/{name}/resolve/{revision}/model.safetensors",
    f"{name}.safetensors",
    licence,
    megabytes,
    ("sha256", sha256) if sha256 else None,
  )


def _of_keras_hub(depth: int) -> PublishedFile:
  name = f"resnet_{depth}_imagenet"
  return PublishedFile(
    f"kerashub/{name}",
    f"R-{depth}-torch",
    None,
    "model.weights.h5",
    "Apache-2.0, of the timm weights that it was made from",
    place=f"model.weights.h5 of kaggle://keras/resnetv1/keras/{name}/3",
  )


def _of_keras(
  model: str, backbone: str, file: str, megabytes: float, md5: str | None = None
) -> PublishedFile:
  return PublishedFile(
    f"keras/{model}",
    backbone,
    f"{_KERAS}/{file}",
    file.rpartition("/")[2],
    "not stated; the code's is Apache-2.0",
    megabytes,
    ("md5", md5) if md5 else None,
  )


# By backbone, the first one being what `imagenet` means. Addresses, licences and checksums are as
# in timm/models/resnet.py (timm, torchvision), keras/src/applications/resnet.py and mobilenet_v2.py
# (Keras) and keras_hub/src/models/resnet/resnet_presets.py (KerasHub). timm's tv_in1k files hold
# torchvision's first weights; their SHA-256 is that of Hugging Face's file at the revision.
PUBLISHED_FILES = (
  _of_keras(
    "mobilenet_v2",
    "MobileNetV2-keras",
    "mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
    9.4,
  ),
  _of_timm(
    18,
    "tv_in1k",
    "BSD-3-Clause",
    "bbd144b3e5565108aad885f145491d11bc6ce807",
    46.8,
    "694f673df6520a3158624e8a89af086f59923ee4cd7436fe5bc3bc71d295ad81",
  ),
  _of_timm(18, "a1_in1k", "Apache-2.0"),
  _of_torchvision(18, "f37072fd", 46.8),
  _of_keras_hub(18),
  _of_timm(
    34,
    "tv_in1k",
    "BSD-3-Clause",
    "1b7b21cca82ff974d341713f777bf740c2db38c4",
    87.3,
    "0bb82595a564991a9d424708b33f5d843f5aaed7f6c0886ff10849ff97022235",
  ),
  _of_timm(34, "a1_in1k", "Apache-2.0"),
  _of_torchvision(34, "b627a593", 87.3),
  _of_timm(
    50,
    "tv_in1k",
    "BSD-3-Clause",
    "78f3ecfdb38e06d9b8397f662e7ab8fee96026fa",
    102.5,
    "5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888",
  ),
  _of_timm(50, "a1_in1k", "Apache-2.0"),
  _of_torchvision(50, "0676ba61", 102.5),
  _of_torchvision(50, "11ad3fa6", 102.5),
  _of_keras_hub(50),
  _of_keras(
    "resnet50",
    "R-50-keras",
    "resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
    94.8,
    "4d473c1dd8becc155b73f8504c6f6626",
  ),
  _of_keras(
    "resnet101",
    "R-101-keras",
    "resnet/resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5",
    171.4,
    "88cf7a10940856eca736dc7b7e228a21",
  ),
  _of_timm(101, "tv_in1k", "BSD-3-Clause"),
  _of_timm(101, "a1_in1k", "Apache-2.0"),
  _of_torchvision(101, "63fe2227", 178.8),
  _of_torchvision(101, "cd907fc2", 178.8),
  _of_keras_hub(101),
)
_BY_NAME = {file.name: file for file in PUBLISHED_FILES if file.url}


def is_imagenet(setting: str) -> bool:
  """Returns whether a value of `Training.backbone_weights` means a published file, not a path."""
  return setting == IMAGENET or setting.startswith(f"{IMAGENET}:")


def published_file(setting: str, backbone: str) -> PublishedFile:
  """Returns which file a setting means for a backbone.

  Args:
    setting: `imagenet` or `imagenet:NAME`.
    backbone: one of `BACKBONES`.

  Raises:
    UserError: there is no such file, or it does not fit the backbone.
  """
  where = f"Training.backbone_weights = {setting!r}"
  fitting = [file for file in _BY_NAME.values() if fits(file, backbone)]
  if not fitting:
    known = ", ".join(sorted({file.backbone for file in _BY_NAME.values()}))
    raise UserError(
      f"{where}: there are no published weights for Detector.backbone = {backbone!r}. There are "
      f"for {known}: `nasfpn weights` lists them."
    )
  if setting == IMAGENET:
    return fitting[0]
  name = setting.partition(":")[2]
  if name not in _BY_NAME:
    raise UserError(
      f"{where}: there is no such file. Did you mean {IMAGENET}:{nearest_name(name, _BY_NAME)}? "
      "`nasfpn weights` lists all."
    )
  if _BY_NAME[name] not in fitting:
    raise UserError(
      f"{where} is of {_BY_NAME[name].backbone}, not of Detector.backbone = {backbone!r}. For that "
      f"there is {fitting[0].setting}."
    )
  return _BY_NAME[name]


def fits(file: PublishedFile, backbone: str) -> bool:
  """Returns whether a file is of a backbone; a plain name takes the arithmetic of the file."""
  return file.backbone == backbone or (
    library_in(backbone) is None and file.backbone.rpartition("-")[0] == backbone
  )
