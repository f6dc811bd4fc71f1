"""One spec to stand for all that compute the same function, and its hash.

Every cell has weights of its own, so two pyramids compute the same function, up to the names of
their weights, when their graphs are the same: cells with level, op, inputs, and the unconsumed
candidates that output cells add. Inputs may be swapped where the op allows it, and cells may be
built in another order as long as

- what a cell reads is built before it,
- output cells come last,
- every output cell still finds the same candidates unconsumed.

The canonical form is the first of all those specs, compared cell by cell.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence

from official_nasfpn.architecture.spec import MergingCell, PyramidSpec
from official_nasfpn.architecture.wiring import inputs_are_ordered, unconsumed_inputs

_HASH_LENGTH = 16


def canonical_hash(spec: PyramidSpec) -> str:
  """Returns a name for what a pyramid computes: equal for specs with equal canonical forms.

  It is the first 16 hexadecimal digits of the SHA-256 of the canonical form's levels, cells and, if
  it says any, sizes, and the same on every machine and in every version of this project.
  """
  canonical = canonical_form(spec)
  cells = [[*cell.inputs, cell.level, cell.op] for cell in canonical.cells]
  parts: list[object] = [canonical.min_level, canonical.max_level, cells]
  if spec.size_name:
    parts.append(spec.sizes)
  text = json.dumps(parts, separators=(",", ":"))
  return hashlib.sha256(text.encode()).hexdigest()[:_HASH_LENGTH]


def canonical_form(spec: PyramidSpec) -> PyramidSpec:
  """Returns the spec that stands for all specs with the same graph as this one.

  Two specs have equal canonical forms exactly when one can be made from the other by swapping
  harmless inputs and by building the cells in another order that keeps the function.
  """
  graph = _Graph(spec)
  # All build orders whose cells so far are the smallest possible. There is more than one only while
  # twins, cells that read the same inputs in the same way, have no reader that distinguishes them.
  orders: list[tuple[int, ...]] = [()]
  for _ in spec.cells:
    keys = {
      (*order, node): graph.key(node, order) for order in orders for node in graph.buildable(order)
    }
    smallest = min(keys.values())
    orders = _without_interchangeable(graph, [o for o, key in keys.items() if key == smallest])
  return graph.rebuilt(orders[0])


@dataclasses.dataclass(frozen=True)
class _Node:
  """A cell and what it reads, as candidate indices of the original spec."""

  cell: MergingCell
  is_output: bool
  ordered: bool
  added: tuple[int, ...]

  def inputs(self, number: Sequence[int]) -> tuple[int, int]:
    """Returns its two inputs under other numbers, in rising order where order does not matter."""
    first, second = number[self.cell.inputs[0]], number[self.cell.inputs[1]]
    return (first, second) if self.ordered else (min(first, second), max(first, second))


class _Graph:
  """A pyramid's graph. Candidates have the indices of the original spec throughout."""

  def __init__(self, spec: PyramidSpec):
    self._spec = spec
    self._num_inputs = spec.num_inputs
    self._nodes = {
      spec.num_inputs + index: _Node(
        cell, spec.is_output(index), inputs_are_ordered(spec, cell), added
      )
      for index, (cell, added) in enumerate(zip(spec.cells, unconsumed_inputs(spec), strict=True))
    }
    self._colors = self._refined_colors()
    self._prerequisites, self._consumers_before = self._order_constraints()

  def key(self, node: int, order: tuple[int, ...]) -> tuple[tuple[int, int], int, str, int]:
    """Returns the sort key of `node` as the next cell after `order`, free of original indices."""
    number = self._numbers(order)
    cell = self._nodes[node].cell
    return (self._nodes[node].inputs(number), cell.level, cell.op, self._colors[node])

  def buildable(self, order: tuple[int, ...]) -> list[int]:
    """Returns the cells that may be built next after those in `order`; there is at least one."""
    built = set(order)
    return [
      node
      for node in self._nodes
      if node not in built
      and self._prerequisites[node] <= built
      and all(not built.isdisjoint(consumers) for consumers in self._consumers_before[node])
    ]

  def interchangeable(self, first: int, second: int) -> bool:
    """Returns whether exchanging two cells with equal keys leaves the graph unchanged."""
    exchanged = list(range(self._num_inputs + len(self._nodes)))
    unchanged = tuple(exchanged)
    exchanged[first], exchanged[second] = second, first
    return all(
      node.inputs(unchanged) == node.inputs(exchanged)
      and set(node.added) == {exchanged[index] for index in node.added}
      for node in self._nodes.values()
    )

  def rebuilt(self, order: tuple[int, ...]) -> PyramidSpec:
    """Returns the spec that builds the cells in this order."""
    number = self._numbers(order)
    cells = (
      dataclasses.replace(self._nodes[node].cell, inputs=self._nodes[node].inputs(number))
      for node in order
    )
    return dataclasses.replace(self._spec, cells=tuple(cells))

  def _numbers(self, order: tuple[int, ...]) -> list[int]:
    """Returns every candidate's index in a spec that starts with `order`; -1 for unknown ones."""
    number = list(range(self._num_inputs)) + [-1] * len(self._nodes)
    for index, node in enumerate(order):
      number[node] = self._num_inputs + index
    return number

  def _order_constraints(self) -> tuple[dict[int, set[int]], dict[int, list[set[int]]]]:
    """Returns what must precede each cell: all cells of a set, and one cell of each group.

    An output cell adds a candidate of its level exactly if no cell built before it reads it. So all
    readers of an added candidate come after it, and one reader of any other comes before.
    """
    intermediates = {index for index, node in self._nodes.items() if not node.is_output}
    readers: dict[int, set[int]] = {}
    for index, node in self._nodes.items():
      for candidate in node.cell.inputs:
        readers.setdefault(candidate, set()).add(index)
    before = {
      index: {i for i in node.cell.inputs if i in self._nodes}
      | (intermediates if node.is_output else set())
      for index, node in self._nodes.items()
    }
    one_before: dict[int, list[set[int]]] = {index: [] for index in self._nodes}
    for index, node in self._nodes.items():
      if not node.is_output:
        continue
      for candidate in (*range(self._num_inputs), *intermediates):
        if self._spec.level_of(candidate) != node.cell.level or candidate in node.cell.inputs:
          continue
        if candidate in node.added:
          for reader in readers.get(candidate, ()):
            before[reader].add(index)
        else:
          one_before[index].append(readers[candidate])
    return before, one_before

  def _refined_colors(self) -> list[int]:
    """Returns a color for each candidate, equal where the graph looks the same around two.

    Colors tell most twins apart by their readers at once, which keeps the number of orders small.
    They depend on the graph alone, not on the order of the spec (Weisfeiler and Leman, 1968).
    """
    num_candidates = self._num_inputs + len(self._nodes)
    signatures: list[tuple[object, ...]] = [(0, index) for index in range(self._num_inputs)]
    signatures += [
      (1, node.is_output, node.cell.level, node.cell.op) for node in self._nodes.values()
    ]
    colors = _ranks(signatures)
    while True:
      around: list[list[tuple[str, int, int]]] = [[] for _ in range(num_candidates)]
      for index, node in self._nodes.items():
        for slot, candidate in enumerate(node.cell.inputs):
          role = slot if node.ordered else 0
          around[candidate].append(("reader", role, colors[index]))
          around[index].append(("input", role, colors[candidate]))
        for candidate in node.added:
          around[candidate].append(("adder", 0, colors[index]))
          around[index].append(("added", 0, colors[candidate]))
      refined = _ranks([(color, *sorted(near)) for color, near in zip(colors, around, strict=True)])
      if len(set(refined)) == len(set(colors)):
        return refined
      colors = refined


def _without_interchangeable(graph: _Graph, orders: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
  """Drops orders whose last cell is interchangeable with that of an order that is kept."""
  kept: list[tuple[int, ...]] = []
  for order in orders:
    *before, node = order
    if not any(
      other[:-1] == tuple(before) and graph.interchangeable(node, other[-1]) for other in kept
    ):
      kept.append(order)
  return kept


def _ranks(signatures: Sequence[tuple[object, ...]]) -> list[int]:
  """Returns the rank of each signature among the distinct ones."""
  rank = {signature: place for place, signature in enumerate(sorted(set(signatures)))}
  return [rank[signature] for signature in signatures]
