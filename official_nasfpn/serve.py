"""Serves an export on this machine with the REST API of TensorFlow Serving, without Docker.

    nasfpn serve --export_dir EXPORT --name cells

`http://127.0.0.1:8501/v1/models/cells` then answers as TensorFlow Serving would; the program prints
how to call it with curl and with the client in `official_nasfpn.serving`. A SavedModel has all of
its signatures; ONNX and TensorFlow Lite exports have one, which takes encoded images. The server
computes one request at a time and serves one version. Use TensorFlow Serving in production.
"""

from pathlib import Path

from absl import flags

from official_nasfpn.errors import refuse_positional_arguments, run_program

FLAGS = flags.FLAGS

flags.DEFINE_string("export_dir", None, "Folder that export wrote, in any format.")
flags.DEFINE_alias("saved_model", "export_dir")  # Its older name.
flags.DEFINE_string(
  "host", "127.0.0.1", "Address to serve at; with 0.0.0.0 other machines can use the model, too."
)
flags.DEFINE_integer(
  "port", 8501, "Port to serve at; 0 takes a free one.", lower_bound=0, upper_bound=65535
)
flags.DEFINE_string("name", "model", "Name of the model in the URL.")
flags.DEFINE_integer(
  "max_request_mb",
  128,
  "Largest request in MB; larger ones are refused.",
  lower_bound=1,
  upper_bound=2048,
)
flags.mark_flag_as_required("export_dir")


def main(argv: list[str]) -> None:
  refuse_positional_arguments(argv)
  from official_nasfpn.serving.server.running import run_server

  run_server(Path(FLAGS.export_dir), FLAGS.host, FLAGS.port, FLAGS.name, FLAGS.max_request_mb)


if __name__ == "__main__":
  run_program(main)
