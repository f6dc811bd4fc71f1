"""Texts and bytes that were right once: cut, doubled, swapped, and sprinkled with odd pieces."""

from typing import TypeVar

from hypothesis import strategies as st

_Text = TypeVar("_Text", str, bytes)

_MOST_EDITS = 4


def mutated(originals: list[_Text], pieces: list[_Text]) -> st.SearchStrategy[_Text]:
  """Returns a strategy of originals with a few edits.

  Args:
    originals: what is edited.
    pieces: what is put in, beside pieces of the original itself.
  """
  edits = st.lists(
    st.tuples(
      st.sampled_from(("cut", "repeat", "move", "insert", "replace", "end")),
      st.floats(0, 1),
      st.floats(0, 1),
      st.integers(0, 64),
      st.sampled_from(pieces),
    ),
    max_size=_MOST_EDITS,
  )
  return st.builds(_edited, st.sampled_from(originals), edits)


def _edited(text: _Text, edits: list) -> _Text:
  for kind, start, target, length, piece in edits:
    first = int(start * len(text))
    last = min(first + length, len(text))
    there = int(target * len(text))
    if kind == "cut":
      text = text[:first] + text[last:]
    elif kind == "repeat":
      text = text[:last] + text[first:]
    elif kind == "move":
      text = text[:there] + text[first:last] + text[there:]
    elif kind == "insert":
      text = text[:first] + piece + text[first:]
    elif kind == "replace":
      text = text[:first] + piece + text[last:]
    else:
      text = text[:first]
  return text
