"""Names and reasons of strangers: what of them reaches a terminal, a picture and TensorBoard."""

import contextlib
import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from official_nasfpn.data.drawing import draw_boxes, side_by_side, titled_rows
from official_nasfpn.printable import one_line, printable, printable_output
from official_nasfpn.progress import say

# Moves the cursor, clears the screen, rings, begins an operating system command, turns text around.
HOSTILE = "a\x1b[2Jb\x07\x9b31m\x1b]0;title\x07\u202ec\u2028d\ud800e\r"
SHOWN = r"a\x1b[2Jb\x07\x9b31m\x1b]0;title\x07\u202ec\u2028d\ud800e\r"


def test_what_is_hidden_is_shown():
  assert printable(HOSTILE) == SHOWN
  assert printable(printable(HOSTILE)) == SHOWN
  assert SHOWN.isprintable()


def test_what_is_no_control_character_stays():
  for text in ("Zellen äöü \\ {}", "細胞 \U0001f52c", "क्‍ष", "two\n\tlines", ""):
    assert printable(text) == text
  assert one_line("two\n\tlines") == r"two\n\tlines"


def test_what_is_printed_within_a_program():
  with contextlib.redirect_stdout(io.StringIO()) as written:
    with printable_output():
      print("before", HOSTILE, "after")
      print("bar\rbar", end="", flush=True)
    print("\x1b")
  hidden = SHOWN.removesuffix(r"\r")
  assert written.getvalue() == f"before {hidden}\r after\nbar\rbar\x1b\n"


def test_messages_on_standard_error(capsys):
  say(HOSTILE)
  assert capsys.readouterr().err == f"{SHOWN}\n"


def test_a_program_obeys_no_name_that_it_prints(tmp_path):
  code = """if True:
    import sys
    from official_nasfpn.errors import UserError, run_program
    import official_nasfpn.installation
    official_nasfpn.installation.check_tensorflow = lambda: None
    def main(argv):
      print("class \\x1b[31mred \\ud800")
      raise UserError("no class \\x1b[31mred \\ud800")
    run_program(main)
  """
  result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
  assert result.stdout == "class \\x1b[31mred \\ud800\n"
  assert result.stderr.splitlines()[-1] == r"error: no class \x1b[31mred \ud800"
  assert result.returncode == 1


@pytest.mark.parametrize("name", ["cat\n", "cat\r\n\tdog", HOSTILE.replace("\ud800", "")])
def test_pictures_show_names_in_one_line(name):
  image = Image.new("RGB", (64, 64))
  boxes, classes = np.array([[10.0, 10.0, 50.0, 50.0]]), np.array([0])
  drawn = draw_boxes(image, boxes, classes, [name])
  expected = draw_boxes(image, boxes, classes, [one_line(name)])
  np.testing.assert_array_equal(np.asarray(drawn), np.asarray(expected))
  assert side_by_side([(name, image)]).size == side_by_side([(one_line(name), image)]).size
  titled_rows([(name, [(name, image)])])
