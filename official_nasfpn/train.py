r"""Trains and evaluates a detector.

    nasfpn train --gin_file gin/bccd_r18_nasfpn.gin --data_dir DATA --model_dir RUN \
        --mode train_and_evaluate

The same command goes on where an interrupted run stopped. Once a run folder exists, --model_dir
alone says everything. --dry_run prints the plan instead, and --list_settings every setting that a
recipe or --gin_param may bind.
"""

import shlex
import sys
from pathlib import Path

from absl import flags

from official_nasfpn import progress, settings_list
from official_nasfpn.disk import disk_errors, write_text
from official_nasfpn.errors import UserError, refuse_positional_arguments, run_program

FLAGS = flags.FLAGS

flags.DEFINE_multi_string("gin_file", [], "Recipe to read; may be given several times.")
flags.DEFINE_multi_string("gin_param", [], "Single binding such as `Training.epochs = 3`.")
flags.DEFINE_string(
  "architecture",
  None,
  "What a search has found, SEARCH_DIR or SEARCH_DIR#RANK, at any time of the search; or a name of "
  "the catalogue, or an architecture file. Sets Detector.architecture.",
)
flags.DEFINE_string(
  "store",
  None,
  "The database that the trials of --architecture SEARCH_DIR are in, if it asks for a password: "
  "PGPASSWORD goes to no other address than this one.",
)
flags.DEFINE_string("data_dir", None, "Folder made by prepare_data; sets Input.data_dir.")
flags.DEFINE_string(
  "model_dir", None, "Run folder; made if it does not exist. All machines of a cluster must see it."
)
flags.DEFINE_enum(
  "mode", "train_and_evaluate", ["train", "evaluate", "train_and_evaluate"], "What to do."
)
flags.DEFINE_string(
  "distribution_strategy", "one_device", "one_device, mirrored, multi_worker_mirrored or tpu."
)
flags.DEFINE_string("tpu", None, "Name or address of the TPU for --distribution_strategy=tpu.")
flags.DEFINE_bool(
  "dry_run",
  False,
  "Build the detector, check the data, print what would be done and what it would cost, and write "
  "nothing. Needs no --model_dir, and no data: then that of COCO is assumed.",
)
flags.DEFINE_bool("list_settings", False, "Print every setting of a recipe, and do nothing else.")
flags.register_multi_flags_validator(
  ["model_dir", "dry_run", "list_settings"],
  lambda values: values["model_dir"] or values["dry_run"] or values["list_settings"],
  "--model_dir is needed, unless with --dry_run.",
)


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  if FLAGS.list_settings:
    print(settings_list.as_text(settings_list.TRAINING))
    return
  from official_nasfpn.data.dataset_info import is_prepared
  from official_nasfpn.training import experiment as experiment_lib
  from official_nasfpn.training.run_folder import RunFolder
  from official_nasfpn.training.strategies import build_strategy, is_chief

  folder = RunFolder(Path(FLAGS.model_dir)) if FLAGS.model_dir else None
  gin_files = list(FLAGS.gin_file)
  if not gin_files and folder and folder.config_file.is_file():
    gin_files = [folder.config()]
  if not gin_files:
    raise UserError("Give a recipe with --gin_file, or --model_dir of an existing run.")
  gin_params = list(FLAGS.gin_param)
  if FLAGS.architecture:
    gin_params.append(_architecture_binding(FLAGS.architecture, FLAGS.store))
  if FLAGS.data_dir:
    gin_params.append(f"Input.data_dir = {str(Path(FLAGS.data_dir).resolve())!r}")
  experiment = experiment_lib.load_experiment(gin_files, gin_params)
  if FLAGS.dry_run and not is_prepared(experiment.input.data_dir):
    _print_plan(experiment, None)
    return
  experiment, dataset = experiment_lib.open_dataset(experiment)
  if FLAGS.mode != "train" and (note := experiment.input.note()):
    print(note, flush=True)
  if FLAGS.dry_run:
    _print_plan(experiment, dataset)
    return
  if FLAGS.mode == "evaluate":
    folder.latest_checkpoint()
  # In a cluster the chief makes the folder, for all.
  claims = is_chief() or folder.config_file.is_file()
  if claims and (FLAGS.mode != "evaluate" or FLAGS.gin_file):
    folder.claim(experiment, dataset.label_map)

  # TensorFlow takes seconds to import; what is wrong with the input is said before.
  import tensorflow as tf

  from official_nasfpn.training import runner
  from official_nasfpn.training.nan_guard import TrainingDiverged

  strategy = build_strategy(FLAGS.distribution_strategy, FLAGS.tpu)
  result = None
  if FLAGS.mode != "evaluate":
    advice = "The checkpoints written before are whole: make room, and the same command goes on."
    try:
      with disk_errors(folder.path, advice):
        result = runner.train(
          experiment, dataset, folder, strategy, FLAGS.mode == "train_and_evaluate"
        )
    except TrainingDiverged as error:
      raise UserError(f"The training stopped: {error}.") from error
    except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
      # What the others are told when one is gone; a cluster cannot go on without it.
      raise UserError(
        "A worker of the cluster was lost, so this one stopped too. The checkpoints written before "
        "are whole: start the same command on all of them again, and they go on from the newest. "
        f"TensorFlow says: {error.message.splitlines()[0]}"
      ) from error
  if FLAGS.mode != "train" and result is None:
    result = runner.evaluate(experiment, dataset, folder, strategy)
  if result and is_chief():
    write_text(folder.evaluation_file, result.to_json())
    print(result.table())
  if is_chief():
    print(_what_comes_next(folder.path, evaluated=result is not None))


def _architecture_binding(value: str, store: str | None) -> str:
  if not Path(value.partition("#")[0]).is_dir():
    return f"Detector.architecture = {value!r}"
  from official_nasfpn import architecture
  from official_nasfpn.search.report.found import found_trial

  trial = found_trial(value, store)
  if trial.reward <= 0:
    print(
      f"warning: {value}: trial {trial.number} found no object (its reward is 0): nothing speaks "
      "for its architecture. `nasfpn search --status` says why that may be.",
      file=sys.stderr,
    )
  # Parsed as data: a text in a shared place is never executed.
  spec = architecture.from_gin(trial.architecture, where=f"{value}, trial {trial.number}")
  return architecture.to_gin(spec)


def _what_comes_next(run: Path, evaluated: bool) -> str:
  """Returns where everything is, and the commands for it."""
  name = shlex.quote(str(run))
  holds = "checkpoints, curves and evaluation.json" if evaluated else "checkpoints and curves"
  evaluate = f"  nasfpn train --model_dir {name} --mode evaluate"
  return "\n".join(
    [
      f"{run} holds {holds}. Next:",
      *([] if evaluated else [evaluate]),
      f"  nasfpn export --model_dir {name} --output_dir {shlex.quote(f'{run}_export')} --check",
      f"  tensorboard --logdir {name}",
    ]
  )


def _print_plan(experiment, dataset) -> None:
  """Prints the plan of a training; without data, that of one on as much as COCO has."""
  progress.say("building the detector, to estimate its memory; a large one takes minutes")
  from official_nasfpn.training import plan
  from official_nasfpn.training.strategies import build_strategy

  data = plan.count_data(experiment, dataset) if dataset else plan.assume_coco(experiment)
  strategy = build_strategy(FLAGS.distribution_strategy, FLAGS.tpu)
  print(plan.make_plan(experiment, data, strategy).as_text())
  print("A dry run: nothing was trained and nothing written.")


if __name__ == "__main__":
  run_program(main)
