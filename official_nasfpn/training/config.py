"""How a detector learns, as data."""

import dataclasses

from official_nasfpn.configuration import configurable

SCHEDULES = ("step", "cosine")
COMPUTE_DTYPES = ("float32", "mixed_bfloat16")


@configurable("Training")
@dataclasses.dataclass(frozen=True)
class TrainingConfig:
  """The paper's recipe (section 4.1) by default.

  Attributes:
    batch_size: images per train step over all replicas.
    epochs: passes over the training parts.
    images_per_epoch: what every setting in epochs counts by; a number makes a recipe last equally
      long on every dataset, None takes the number of training images.
    learning_rate: for `base_batch_size` images a step; scaled linearly to `batch_size`.
    base_batch_size: the batch that `learning_rate` and `warmup_learning_rate` are stated for.
    schedule: `step` (times `decay_factor` at each of `decay_epochs`) or `cosine` (to zero).
    decay_epochs: where the step schedule decays.
    decay_factor: by how much the step schedule decays.
    warmup_epochs: length of the linear warm-up.
    warmup_learning_rate: where the warm-up starts.
    momentum: of stochastic gradient descent.
    weight_decay: times half the squared norm of all convolution kernels is added to the loss.
    gradient_clip_norm: largest global norm of the gradient; None does not clip.
    focal_alpha: weight of the positive class (Lin et al. 2017).
    focal_gamma: focusing parameter of the focal loss.
    box_loss_weight: weight of the Huber loss on box targets.
    huber_delta: where the Huber loss turns linear.
    match_iou: overlap from which an anchor is assigned to a box.
    compute_dtype: `float32` or `mixed_bfloat16`; weights are float32 in both.
    seed: fixes initial weights, shuffling and augmentation.
    evaluation_batch_size: images per evaluation step.
    evaluation_epochs: epochs between evaluations in mode `train_and_evaluate`.
    checkpoint_epochs: epochs between checkpoints; the last step is always saved.
    checkpoints_to_keep: older ones are deleted.
    steps_per_loop: train steps between two looks at the loss.
  """

  batch_size: int = 64
  epochs: float = 50.0
  images_per_epoch: int | None = None
  learning_rate: float = 0.08
  base_batch_size: int = 64
  schedule: str = "step"
  decay_epochs: tuple[float, ...] = (30.0, 40.0)
  decay_factor: float = 0.1
  warmup_epochs: float = 1.0
  warmup_learning_rate: float = 0.0067
  momentum: float = 0.9
  weight_decay: float = 1e-4
  gradient_clip_norm: float | None = None
  focal_alpha: float = 0.25
  focal_gamma: float = 1.5
  box_loss_weight: float = 50.0
  huber_delta: float = 0.1
  match_iou: float = 0.5
  compute_dtype: str = "float32"
  seed: int = 0
  evaluation_batch_size: int = 8
  evaluation_epochs: float = 10.0
  checkpoint_epochs: float = 5.0
  checkpoints_to_keep: int = 2
  steps_per_loop: int = 20

  def __post_init__(self):
    object.__setattr__(self, "decay_epochs", tuple(self.decay_epochs))
    if self.schedule not in SCHEDULES:
      raise ValueError(f"schedule is {self.schedule!r}; it must be one of {SCHEDULES}")
    if self.compute_dtype not in COMPUTE_DTYPES:
      raise ValueError(f"compute_dtype is {self.compute_dtype!r}; choose one of {COMPUTE_DTYPES}")
    for name in ("batch_size", "base_batch_size", "evaluation_batch_size", "steps_per_loop"):
      if getattr(self, name) < 1:
        raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
    if self.images_per_epoch is not None and self.images_per_epoch < 1:
      raise ValueError(f"images_per_epoch is {self.images_per_epoch}; give at least 1, or None")
    for name in ("epochs", "learning_rate", "evaluation_epochs", "checkpoint_epochs"):
      if getattr(self, name) <= 0:
        raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")
    if list(self.decay_epochs) != sorted(set(self.decay_epochs)):
      raise ValueError(f"decay_epochs {self.decay_epochs} must rise")
