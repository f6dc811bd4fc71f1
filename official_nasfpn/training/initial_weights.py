"""The weights that a new detector begins with: the same in a training and in a search."""

from typing import TYPE_CHECKING

from official_nasfpn.data.label_map import LabelMap
from official_nasfpn.progress import say
from official_nasfpn.training.backbone_weights import take_backbone_weights
from official_nasfpn.training.experiment import Experiment
from official_nasfpn.training.start_weights import take_weights

if TYPE_CHECKING:
  from official_nasfpn.modeling.detector import Detector


def initialise(detector: "Detector", label_map: LabelMap, experiment: Experiment) -> None:
  """Gives a detector the weights that it is to start from, and says which these are.

  The backbone's come first: `Training.start_from` has weights that were trained further.

  Args:
    detector: with random weights.
    label_map: its classes.
    experiment: the settings that it was built from.

  Raises:
    UserError: there are no such weights, or they do not fit.
  """
  training = experiment.training
  if training.backbone_weights:
    source = take_backbone_weights(
      detector.backbone, experiment.detector, training.backbone_weights
    )
    say(f"the backbone starts from {source}")
  if training.start_from:
    start = take_weights(detector, label_map, training.start_from)
    say(f"starts from {training.start_from}: {start.sentence()}")
    print(start.table())
