"""The page of troubles: each message that it quotes is one that the code prints."""

import ast
import functools
import re

import pytest

from tests.program_process import REPOSITORY
from tests.readme_test import blocks_of

PAGE = REPOSITORY / "docs" / "tutorials" / "troubleshooting.md"
MESSAGES = [
  " ".join(message.split())
  for language, block in blocks_of(PAGE)
  if language == "text"
  for message in block.strip().split("\n\n")
]
# How much of a message must be the code's own: what is put into a text may be anything.
_LEAST_SHARE = 0.3


@functools.cache
def templates():
  """Returns every text in the code as its own pieces, between which anything is put."""
  found = set()
  for path in (REPOSITORY / "official_nasfpn").rglob("*.py"):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
      if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "" for part in node.values]
      elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        parts = [node.value]
      else:
        continue
      found.add(tuple(" ".join(part.split()) for part in parts))
  return found


def is_printed(message):
  """Returns whether a message is one text of the code, with anything put into it."""
  for parts in templates():
    letters = sum(map(len, parts))
    if letters >= _LEAST_SHARE * len(message) and all(part in message for part in parts):
      pattern = "".join(re.escape(part) if part else ".*?" for part in parts)
      # Spaces beside what is put in are gone.
      if re.fullmatch(pattern.replace(".*?", r" ?.*? ?"), message):
        return True
  return False


def test_there_are_messages_of_every_part():
  parts = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
  assert len(parts) >= 9
  for part in parts:
    assert "```text\n" in part, part.splitlines()[0]
    assert "```bash\n" in part, part.splitlines()[0]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_that_is_quoted_is_printed(message):
  assert is_printed(message)


@pytest.mark.parametrize(
  "message",
  [
    "AP is 1: no detection reached Detector.score_threshold; train longer",
    "AP is 0: no detection reached Detector.score_threshold; train longer, please",
    "The loss became NaN at train step 120",
    "anything else that nobody prints anywhere",
  ],
)
def test_one_that_is_not_printed_is_noticed(message):
  assert not is_printed(message)
