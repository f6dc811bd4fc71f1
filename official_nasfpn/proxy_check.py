r"""Checks whether a search's proxy tells good architectures from bad ones.

    nasfpn proxy_check --gin_file gin/bccd_search.gin \
        --target_gin_param "Training.epochs = 30" --data_dir DATA --output_dir CHECK

Trains architectures on the proxy, with several seeds, and on a longer target. Prints how well the
proxy's ranking predicts the target's, and how much of a reward is noise. The same command continues
a check that was interrupted; --num_architectures and --num_seeds may be raised.
"""

from pathlib import Path

from absl import flags

from official_nasfpn.errors import refuse_positional_arguments, run_program
from official_nasfpn.search.proxy_check.check import check_proxy
from official_nasfpn.search.recipe import read_recipe
from official_nasfpn.training.experiment import load_experiment

_GIN_FILE = flags.DEFINE_multi_string(
  "gin_file", None, "The search's recipe; may be given several times.", required=True
)
_GIN_PARAM = flags.DEFINE_multi_string(
  "gin_param", [], "A single binding, such as Proxy.mode='shared'; may be given several times."
)
_TARGET_GIN_FILE = flags.DEFINE_multi_string(
  "target_gin_file", [], "A recipe that the target includes after the search's recipe."
)
_TARGET_GIN_PARAM = flags.DEFINE_multi_string(
  "target_gin_param", [], "A single binding of the target, such as Training.epochs=30."
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Made by prepare_data; sets Input.data_dir.")
_OUTPUT_DIR = flags.DEFINE_string(
  "output_dir", None, "Gets the report, logs and finished trainings.", required=True
)
_NUM_ARCHITECTURES = flags.DEFINE_integer(
  "num_architectures",
  20,
  "Architectures to compare: those of the catalogue in the search space, then random ones.",
  lower_bound=3,
)
_NUM_SEEDS = flags.DEFINE_integer(
  "num_seeds",
  3,
  "How often the proxy trains an architecture, each time with another seed: this shows its noise.",
  lower_bound=1,
)
_NUM_REPEATED = flags.DEFINE_integer(
  "num_repeated",
  None,
  "How many architectures get all seeds, spread evenly over all; the others get one. Default: all.",
  lower_bound=2,
)
_REWARDS = flags.DEFINE_string(
  "rewards",
  None,
  "Table of trials (CSV with columns reward and choices) from a search with this recipe in plain "
  "mode and with its first seed. Architectures are then taken from it, spread over their rewards; "
  "in plain mode the rewards are taken, too.",
)
_TRAININGS = flags.DEFINE_string(
  "trainings",
  None,
  "File of finished trainings. Several checks may share one: a training that is in the file is not "
  "repeated. Default: trainings.jsonl in --output_dir.",
)
_NUM_WORKERS = flags.DEFINE_integer(
  "num_workers", 1, "Trainings at a time, which share this machine's cores.", lower_bound=1
)


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  params = [*_GIN_PARAM.value]
  if _DATA_DIR.value:
    params.append(f"Input.data_dir = {str(Path(_DATA_DIR.value).resolve())!r}")
  report = check_proxy(
    read_recipe(_GIN_FILE.value, params),
    load_experiment(
      [*_GIN_FILE.value, *_TARGET_GIN_FILE.value], [*params, *_TARGET_GIN_PARAM.value]
    ),
    _OUTPUT_DIR.value,
    num_architectures=_NUM_ARCHITECTURES.value,
    num_seeds=_NUM_SEEDS.value,
    num_repeated=_NUM_REPEATED.value,
    rewards=_REWARDS.value,
    trainings=_TRAININGS.value,
    num_workers=_NUM_WORKERS.value,
  )
  print(report.as_text())


if __name__ == "__main__":
  run_program(main)
