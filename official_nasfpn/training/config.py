"""The settings of training."""

from typing import Annotated, Literal

from pydantic import (
  Field,
  NonNegativeFloat,
  PositiveFloat,
  PositiveInt,
  field_validator,
  model_validator,
)

from official_nasfpn.configuration import configurable, settings

# Parts of a detector, as `modeling/detector_parts.py` finds them.
Part = Literal["stem", "group_2", "group_3", "group_4", "group_5", "backbone", "pyramid", "head"]
# Those that a backbone consists of.
BACKBONE_PARTS: tuple[Part, ...] = ("stem", "group_2", "group_3", "group_4", "group_5")
Metric = Literal[
  "AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"
]
# NumPy takes up to 2^32 - 1; confirmations of a search and its proxy check count up from it.
Seed = Annotated[int, Field(ge=0, le=4_000_000_000)]

# In earlier versions a checkpoint of the Model Garden had a setting of its own.
MOVED = {"backbone_checkpoint": "Training.backbone_weights"}


@configurable("Training", moved=MOVED)
@settings
class TrainingConfig:
  """How a detector is trained; by default, the paper's recipe (section 4.1).

  Attributes:
    batch_size: images per train step over all replicas.
    epochs: number of passes over the training images.
    images_per_epoch: number of images in an epoch, for all settings in epochs. A number makes a
      recipe last equally long on every dataset; None takes the number of training images.
    learning_rate: learning rate for `base_batch_size` images per step; it is scaled linearly to
      `batch_size`.
    base_batch_size: batch size for which `learning_rate` and `warmup_learning_rate` are stated.
    schedule: `step` (times `decay_factor` at each of `decay_epochs`) or `cosine` (to zero).
    decay_epochs: epochs at which the step schedule decays.
    decay_factor: factor of each decay of the step schedule.
    warmup_epochs: length of the linear warm-up.
    warmup_learning_rate: learning rate at the start of the warm-up.
    optimizer: `sgd`, stochastic gradient descent with momentum, as in the paper; or `adam` (Kingma
      and Ba 2015), which learns more in a short training and wants a much smaller learning rate.
    momentum: momentum of stochastic gradient descent.
    weight_decay: weight of half the squared norm of all convolution kernels in the loss.
    drop_block_rate: share of the pyramid's features that DropBlock drops at the end of training;
      the share rises linearly from 0. 0 turns DropBlock off.
    gradient_clip_norm: largest global norm of the gradient; None does not clip.
    focal_alpha: weight of the positive class in the focal loss (Lin et al. 2017).
    focal_gamma: focusing parameter of the focal loss.
    box_loss_weight: weight of the Huber loss on box targets.
    huber_delta: distance at which the Huber loss becomes linear.
    exit_loss_weights: weights of the class and box losses of an anytime detector's exits, the first
      exit first; None weights all exits 1. Without early exits there is one loss.
    match_iou: IoU from which an anchor is assigned to a box.
    backbone_weights: what the backbone starts from. A file: .safetensors or .pth of torchvision's
      or timm's ResNet-18, 34, 50 or 101, .weights.h5 of KerasHub's, .h5 or .weights.h5 of
      keras.applications' ResNet50, ResNet101 or MobileNetV2; the backbone gets the arithmetic of
      that library, R-50 becomes R-50-torch or R-50-keras. `imagenet`: the published file for the
      backbone, which is fetched, or `imagenet:NAME` with a name that `nasfpn weights` lists. The
      path of a Model Garden checkpoint without .index. Or a run folder or an exported SavedModel
      with the same backbone, of any classes. None starts from random weights.
    start_from: what to take weights from: the run folder of a training, a checkpoint in one
      (RUN/checkpoints/ckpt-STEP), an exported SavedModel, or the directory of a search with
      Proxy.mode = 'shared'. All are taken that have the same place and shape, and the rows of
      classes with the same name. None starts from random weights.
    frozen: parts whose weights are not trained: `backbone`, or of it `stem` and `group_2` to
      `group_5` (the layers between two levels, as in ResNets), `pyramid`, `head`. Their batch norms
      keep their statistics.
    frozen_batch_norm: whether the backbone's batch norms keep statistics, scales and offsets, as
      small batches of a fine-tuning want.
    learning_rate_factors: by part, what its learning rate is multiplied by, such as
      {'backbone': 0.1}. Where one part lies in another, its own factor counts. None changes none.
    ema_decay: how much of the average of the weights each step keeps, such as 0.999; it is less in
      the first steps. Evaluations and exports have the average. None keeps no average.
    micro_batches: equal parts in which each device computes its share of a batch, one after the
      other, so that larger ones fit into the memory. Gradients are those of the whole batch, but
      each part has batch norms of its own.
    best_metric: metric of COCO by which the best evaluation is told; its weights are kept beside
      the last, and exported. None keeps and exports the last. A metric that is undefined on the
      evaluation part, such as `APs` without small boxes, is refused.
    patience: evaluations without a better `best_metric` after which the training ends; None trains
      to the last step.
    compute_dtype: `float32`, `mixed_bfloat16`, `mixed_float16` (the loss is scaled, so that small
      gradients survive), or `auto`: mixed_bfloat16 where the device has units for it (TPUs, GPUs of
      compute capability 8.0, processors with AVX-512 BF16, AMX or Arm's BF16), mixed_float16 on
      GPUs of compute capability 7, and float32 elsewhere. Weights are always float32.
    jit_compile: whether XLA compiles the train step. `auto` compiles on GPUs, unless the training
      is too short to win back the minute that compiling takes, and not on processors, where it
      makes steps slower. Programs for TPUs are always compiled.
    seed: seeds initial weights, shuffling and augmentation.
    evaluation_batch_size: images per evaluation step over all replicas. A run may go on with
      another number.
    evaluation_epochs: epochs between evaluations in mode `train_and_evaluate`.
    checkpoint_epochs: epochs between checkpoints; the last step is always saved.
    checkpoints_to_keep: number of latest checkpoints to keep; older ones are deleted.
    steps_per_loop: train steps between two checks of the loss.
  """

  batch_size: PositiveInt = 64
  epochs: PositiveFloat = 50.0
  images_per_epoch: PositiveInt | None = None
  learning_rate: PositiveFloat = 0.08
  base_batch_size: PositiveInt = 64
  schedule: Literal["step", "cosine"] = "step"
  decay_epochs: tuple[NonNegativeFloat, ...] = (30.0, 40.0)
  decay_factor: PositiveFloat = 0.1
  warmup_epochs: NonNegativeFloat = 1.0
  warmup_learning_rate: NonNegativeFloat = 0.0067
  optimizer: Literal["sgd", "adam"] = "sgd"
  momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
  weight_decay: NonNegativeFloat = 1e-4
  drop_block_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
  gradient_clip_norm: PositiveFloat | None = None
  focal_alpha: Annotated[float, Field(ge=0, le=1)] = 0.25
  focal_gamma: NonNegativeFloat = 1.5
  box_loss_weight: NonNegativeFloat = 50.0
  huber_delta: PositiveFloat = 0.1
  exit_loss_weights: tuple[NonNegativeFloat, ...] | None = None
  match_iou: Annotated[float, Field(gt=0, le=1)] = 0.5
  backbone_weights: str | None = None
  start_from: str | None = None
  frozen: tuple[Part, ...] = ()
  frozen_batch_norm: bool = False
  learning_rate_factors: dict[Part, NonNegativeFloat] | None = None
  ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
  micro_batches: PositiveInt = 1
  best_metric: Metric | None = "AP"
  patience: PositiveInt | None = None
  compute_dtype: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "float32"
  jit_compile: Literal["auto"] | bool = "auto"
  seed: Seed = 0
  evaluation_batch_size: PositiveInt = 8
  evaluation_epochs: PositiveFloat = 10.0
  checkpoint_epochs: PositiveFloat = 5.0
  checkpoints_to_keep: PositiveInt = 2
  steps_per_loop: PositiveInt = 20

  @field_validator("exit_loss_weights")
  @classmethod
  def _check_last_exit(cls, weights: tuple[float, ...] | None) -> tuple[float, ...] | None:
    if weights is not None and (not weights or weights[-1] == 0):
      raise ValueError("the last exit needs a weight greater than 0")
    return weights

  @model_validator(mode="after")
  def _check_patience(self) -> "TrainingConfig":
    if self.patience is not None and self.best_metric is None:
      raise ValueError("patience needs a best_metric to look at")
    return self

  @model_validator(mode="after")
  def _check_parts(self) -> "TrainingConfig":
    if self.batch_size % self.micro_batches:
      raise ValueError(
        f"micro_batches = {self.micro_batches} does not divide batch_size = {self.batch_size}"
      )
    return self

  @field_validator("decay_epochs")
  @classmethod
  def _check_order(cls, decay_epochs: tuple[float, ...]) -> tuple[float, ...]:
    if list(decay_epochs) != sorted(set(decay_epochs)):
      raise ValueError("the epochs must increase")
    return decay_epochs
