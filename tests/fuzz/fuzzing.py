"""What all tests of this folder share: how much is tried, and what must never happen.

    scripts/test.sh tests/fuzz                         # a minute, the same inputs each time
    NASFPN_FUZZ_EXAMPLES=100000 scripts/test.sh tests/fuzz \
        --hypothesis-show-statistics                   # for hours, others each time

The rule: whatever comes in, a sentence or a right result goes out. No traceback, no file written,
no more bytes read or pixels decoded than stated.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import HealthCheck, Phase, event, settings

from official_nasfpn.errors import UserError

_EXAMPLES = int(os.environ.get("NASFPN_FUZZ_EXAMPLES", "0"))
# A message may quote what is wrong, in part.
_LONGEST_SENTENCE = 4100


def examples(count: int, cost: int = 1) -> settings:
  """Returns settings of a test that tries so many inputs, or NASFPN_FUZZ_EXAMPLES if given.

  In the suite they are the same ones each time.

  Args:
    count: inputs in the suite.
    cost: of NASFPN_FUZZ_EXAMPLES one in so many is tried.
  """
  return settings(
    max_examples=max(_EXAMPLES // cost, 1) if _EXAMPLES else count,
    derandomize=not _EXAMPLES,
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
  )


def check_sentence(error: Exception) -> None:
  """Fails unless an error is for people: some text of a bearable length that can be printed."""
  text = str(error)
  assert text.strip()
  assert len(text) <= _LONGEST_SENTENCE
  assert "Traceback" not in text
  if isinstance(error, UserError):
    assert text.rstrip()[-1] in ".?!", text
  text.encode()


def unless_refused(read):
  """Returns what reading gives; None if it is refused, in a sentence."""
  try:
    return read()
  except UserError as error:
    check_sentence(error)
    event("refused")
    return None


@contextmanager
def readable_logs() -> Iterator[None]:
  """Fails at its end if a warning was logged that is not one readable line.

  Libraries may remark on what they meet; a traceback, or text of who is not trusted, they may not.
  """
  kept = _Kept(logging.WARNING)
  logging.getLogger().addHandler(kept)
  try:
    yield
  finally:
    logging.getLogger().removeHandler(kept)
  for record in kept.records:
    text = record.getMessage()
    assert not record.exc_info, text
    assert text.isprintable(), ascii(text)
    assert len(text) <= _LONGEST_SENTENCE, text


class _Kept(logging.Handler):
  """Keeps what is logged."""

  def __init__(self, level: int):
    super().__init__(level)
    self.records: list[logging.LogRecord] = []

  def emit(self, record: logging.LogRecord) -> None:
    self.records.append(record)


class _Watch:
  """Notes the files that are opened while it is on. An audit hook cannot be taken away again."""

  def __init__(self) -> None:
    self.opened: list[tuple[str, bool]] | None = None
    sys.addaudithook(self._hook)

  def _hook(self, event: str, arguments: tuple) -> None:
    if self.opened is None or event != "open":
      return
    path, mode, flags = arguments
    writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) or bool(
      set(mode or "") & set("wax+")
    )
    self.opened.append((os.fsdecode(path) if isinstance(path, str | bytes) else str(path), writes))


_WATCH = _Watch()


@contextmanager
def opened_files() -> Iterator[list[tuple[str, bool]]]:
  """Yields a list that gets each file that Python opens in the block, and whether to write."""
  _WATCH.opened = []
  try:
    yield _WATCH.opened
  finally:
    _WATCH.opened = None
