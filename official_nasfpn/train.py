r"""Trains and evaluates a detector.

    nasfpn train --gin_file gin/bccd_r18_nasfpn.gin --data_dir DATA --model_dir RUN \
        --mode train_and_evaluate

The same command goes on where an interrupted run stopped. Once a run folder exists, --model_dir
alone says everything. Instead of training, --dry_run prints the plan, --find_learning_rate a good
learning rate, --preview FILE.jpg draws the first images of the training with their boxes, and
--list_settings prints every setting that a recipe or --gin_param may bind.
"""

import shlex
from pathlib import Path

from absl import flags

from official_nasfpn import settings_list
from official_nasfpn.disk import check_picture_path, disk_errors
from official_nasfpn.errors import UserError, refuse_positional_arguments, run_program
from official_nasfpn.installation import use_onednn
from official_nasfpn.training.experiment import Experiment, load_experiment, open_dataset
from official_nasfpn.training.run_folder import RunFolder

FLAGS = flags.FLAGS
_PICTURES = (".jpg", ".jpeg", ".png")

flags.DEFINE_multi_string("gin_file", [], "Recipe to read; may be given several times.")
flags.DEFINE_multi_string("gin_param", [], "Single binding such as `Training.epochs = 3`.")
flags.DEFINE_string(
  "architecture",
  None,
  "What a search has found, SEARCH_DIR or SEARCH_DIR#RANK, at any time of the search; its greatest "
  "AP within a budget, SEARCH_DIR@20ms, @150M (multiply-adds), @2.5Mparams or @3MB, several in a "
  "row; or a name of the catalogue, or an architecture file. Sets Detector.architecture.",
)
flags.DEFINE_string(
  "store",
  None,
  "The database that the trials of --architecture SEARCH_DIR are in, if it asks for a password: "
  "PGPASSWORD goes to no other address than this one.",
)
flags.DEFINE_string(
  "backbone_weights",
  None,
  "What the backbone starts from: a file of weights, a checkpoint, a run folder, an export, or "
  "`imagenet`. Sets Training.backbone_weights; `nasfpn weights` lists what can be had.",
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
flags.DEFINE_string(
  "preview",
  None,
  "Picture to write, .jpg or .png: the first images of the training with their boxes, with each "
  "augmentation of the recipe alone and with all. Trains nothing, and needs no --model_dir.",
)
flags.DEFINE_bool(
  "find_learning_rate",
  False,
  "Train for a hundred steps with a rising learning rate, say which would be good, and write "
  "nothing but --figure. Needs no --model_dir.",
)
flags.DEFINE_string("figure", None, "Image file for the curve of --find_learning_rate.")
flags.DEFINE_bool("list_settings", False, "Print every setting of a recipe, and do nothing else.")
flags.register_multi_flags_validator(
  ["model_dir", "dry_run", "preview", "find_learning_rate", "list_settings"],
  lambda values: any(values.values()),
  "--model_dir is needed, unless with --dry_run, --preview or --find_learning_rate.",
)


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  _refuse_what_would_be_ignored()
  use_onednn()
  if FLAGS.list_settings:
    print(settings_list.as_text(settings_list.TRAINING))
    return
  if FLAGS.preview:
    _preview(Path(FLAGS.preview))
    return
  experiment = _read_experiment()
  from official_nasfpn.training.strategies import is_chief
  from official_nasfpn.training.training import evaluate_detector, plan_training, train_detector

  devices = {"distribution_strategy": FLAGS.distribution_strategy, "tpu": FLAGS.tpu}
  if FLAGS.dry_run:
    plan = plan_training(experiment, evaluate=FLAGS.mode != "train", **devices)
    print(plan.as_text())
    print("A dry run: nothing was trained and nothing written.")
    return
  if FLAGS.find_learning_rate:
    from official_nasfpn.training.learning_rate_range import find_learning_rate

    found = find_learning_rate(experiment)
    print(found.as_text())
    if FLAGS.figure:
      found.draw(Path(FLAGS.figure))
    return
  if FLAGS.mode == "evaluate":
    run = evaluate_detector(FLAGS.model_dir, experiment=experiment, **devices)
  else:
    evaluate = FLAGS.mode == "train_and_evaluate"
    run = train_detector(experiment, FLAGS.model_dir, evaluate=evaluate, **devices)
  if is_chief():
    if run.evaluation:
      print(run.evaluation.table())
    print(_what_comes_next(run.model_dir, evaluated=run.evaluation is not None))


def _refuse_what_would_be_ignored() -> None:
  """Refuses flags that the job which others ask for would not look at."""
  jobs = ("list_settings", "preview", "dry_run", "find_learning_rate")
  asked = [name for name in jobs if FLAGS[name].value]
  if len(asked) > 1:
    raise UserError(f"--{asked[0]} and --{asked[1]} are two jobs: give one of them at a time.")
  on_one_device = [name for name in asked if name in ("preview", "find_learning_rate")]
  if on_one_device and (FLAGS.tpu or FLAGS.distribution_strategy != "one_device"):
    flag = "tpu" if FLAGS.tpu else "distribution_strategy"
    raise UserError(f"--{on_one_device[0]} runs on one device: leave --{flag} out.")
  if FLAGS.figure:
    if not FLAGS.find_learning_rate:
      raise UserError("--figure is the curve of --find_learning_rate: give both, or neither.")
    check_picture_path("--figure", FLAGS.figure)
  if FLAGS.store and not FLAGS.architecture:
    raise UserError("--store is where the trials of --architecture SEARCH_DIR are: give both.")


def _preview(output: Path) -> None:
  check_picture_path("--preview", output, _PICTURES)
  experiment = _read_experiment()
  from official_nasfpn.training.training import preview_training

  preview = preview_training(experiment)
  with disk_errors(output.parent, "Give --preview another place."):
    preview.sheet.save(output, **({} if output.suffix == ".png" else {"quality": 90}))
  print(f"{output}: {preview.as_text()}.")


def _read_experiment() -> Experiment:
  """Reads what the flags say; without a recipe, the settings of the run folder."""
  folder = RunFolder(Path(FLAGS.model_dir)) if FLAGS.model_dir else None
  is_run = folder is not None and folder.config_file.is_file()
  gin_files = list(FLAGS.gin_file) or ([folder.config()] if is_run else [])
  if not gin_files:
    raise UserError("Give a recipe with --gin_file, or --model_dir of an existing run.")
  gin_params = list(FLAGS.gin_param)
  if FLAGS.architecture:
    gin_params.append(_architecture_binding(FLAGS.architecture, FLAGS.store))
  if FLAGS.backbone_weights:
    gin_params.append(f"Training.backbone_weights = {FLAGS.backbone_weights!r}")
  if FLAGS.data_dir:
    gin_params.append(f"Input.data_dir = {str(Path(FLAGS.data_dir).resolve())!r}")
  experiment = load_experiment(gin_files, gin_params)
  if FLAGS.gin_file and FLAGS.mode == "evaluate" and not FLAGS.dry_run and is_run:
    # Single bindings may differ from the run's settings, such as Input.data_dir; a recipe may not.
    folder.refuse_another(open_dataset(folder.continued(experiment), begins=False)[0])
  return experiment


def _architecture_binding(value: str, store: str | None) -> str:
  from official_nasfpn import architecture
  from official_nasfpn.search.report.found import found_architecture, names_search

  if not names_search(value):
    return f"Detector.architecture = {value!r}"
  return architecture.to_gin(found_architecture(value, store), complete=True)


def _what_comes_next(run: Path, evaluated: bool) -> str:
  """Returns where everything is, and the commands for it."""
  name = shlex.quote(str(run))
  holds = "checkpoints, curves and evaluation.json" if evaluated else "checkpoints and curves"
  evaluate = f"  nasfpn train --model_dir {name} --mode evaluate"
  report = f"  nasfpn report {name}"
  return "\n".join(
    [
      f"{run} holds {holds}. Next:",
      report if evaluated else evaluate,
      f"  nasfpn export --model_dir {name} --output_dir {shlex.quote(f'{run}_export')} --check",
      f"  tensorboard --logdir {name}",
    ]
  )


if __name__ == "__main__":
  run_program(main)
