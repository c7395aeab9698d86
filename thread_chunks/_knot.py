"""What holds itself: a graph of parts, written so that it does not matter in which order its sets are met.

One rule: parts are numbered by what is around them, as in the test of Weisfeiler and Leman. Where that
leaves some alike, each of them is tried as the first, and the smallest of all writings stands. So
graphs are written alike if and only if they are the same; one that is too symmetric to try
everything may be written in several ways: that costs a restart, and never a wrong match.

This room knows graphs, and nothing of values.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

_WORK = 100_000  # parts that are numbered anew while those that look alike are tried, about a second
_PATIENCE = 2  # so many times more is spent on seeing each part as the first, without trying everything


class Node(NamedTuple):
    """A part: what is written of itself, and the numbers of the parts that it holds."""

    label: bytes
    edges: Sequence[int]
    is_ordered: bool


def knots(root: int, held: Mapping[int, Sequence[int]]) -> Iterator[list[int]]:
    """Yield the groups of parts that hold each other, the innermost first (as Tarjan does); most are of one part."""
    order: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    is_open: set[int] = set()
    way = [(root, iter(held[root]))]
    while way:
        key, rest = way[-1]
        if key not in order:
            order[key] = low[key] = len(order)
            stack.append(key)
            is_open.add(key)
        inner = next((each for each in rest if each not in order or each in is_open), None)
        if inner is not None and inner not in order:
            way.append((inner, iter(held[inner])))
        elif inner is not None:
            low[key] = min(low[key], order[inner])
        else:
            way.pop()
            if way:
                low[way[-1][0]] = min(low[way[-1][0]], low[key])
            if low[key] == order[key]:
                group = [stack.pop()]
                while group[-1] != key:
                    group.append(stack.pop())
                is_open.difference_update(group)
                yield group


class _Colours:
    """A colour for each part; parts of one colour look alike."""

    def __init__(self, of: list[int], cells: dict[int, set[int]]) -> None:
        self.of, self.cells = of, cells

    def copy(self) -> "_Colours":
        return _Colours(self.of.copy(), self.cells.copy())

    def moved(self, nodes: Iterable[int]) -> set[int]:
        """Give some parts of one colour a new one."""
        moved, new = set(nodes), len(self.cells)
        old = self.of[next(iter(moved))]
        self.cells[old] = self.cells[old] - moved  # a copy: others may hold the cell
        for node in moved:
            self.of[node] = new
        self.cells[new] = moved
        return moved

    def alike(self) -> set[int] | None:
        """Return the parts of the smallest colour that several have; ``None`` if there is none."""
        several = [(len(cell), colour) for colour, cell in self.cells.items() if len(cell) > 1]
        return self.cells[min(several)[1]] if several else None


class Knot:
    """A graph of parts."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes
        self._holders: list[list[int]] = [[] for _ in nodes]
        for number, node in enumerate(nodes):
            for each in node.edges:
                self._holders[each].append(number)
        labels = {label: rank for rank, label in enumerate(sorted({node.label for node in nodes}))}
        cells: dict[int, set[int]] = {rank: set() for rank in labels.values()}
        for number, node in enumerate(nodes):
            cells[labels[node.label]].add(number)
        self._base = _Colours([labels[node.label] for node in nodes], cells)
        self._refine(self._base, set(range(len(nodes))))
        self._work = _WORK
        self._whole: bytes | None = None
        if self._base.alike() is None:
            self._whole = self._written(self._base)

    def form(self, root: int) -> bytes:
        """Write the graph as it is seen from one of its parts."""
        if self._whole is None and self._work > -_PATIENCE * _WORK:
            colours = self._told_apart(self._base.copy(), root)
            return min(self._forms(colours.copy())) + b"%d" % colours.of[root]
        if self._whole is None:
            self._whole = self._any_form(self._base)
        return self._whole + b"%d" % self._base.of[root]

    def __len__(self) -> int:
        return len(self._nodes)

    def _forms(self, colours: _Colours) -> set[bytes]:
        """Write the graph in all ways that differ, as far as there is time for it."""
        alike = colours.alike()
        if alike is None:
            return {self._written(colours)}
        if self._work <= 0:
            return {self._any_form(colours)}
        found: set[bytes] = set()
        for node in alike:
            if found and self._work <= 0:
                break
            tried = self._told_apart(colours.copy(), node)
            if (
                not found or self._any_form(tried.copy()) not in found
            ):  # else it is a mirror image of one before
                found |= self._forms(tried)
        return found

    def _any_form(self, colours: _Colours) -> bytes:
        while (alike := colours.alike()) is not None:
            self._told_apart(colours, next(iter(alike)))
        return self._written(colours)

    def _told_apart(self, colours: _Colours, node: int) -> _Colours:
        self._work -= len(self._nodes)
        if len(colours.cells[colours.of[node]]) > 1:
            self._refine(colours, colours.moved([node]))
        return colours

    def _refine(self, colours: _Colours, changed: set[int]) -> None:
        """Tell parts apart by the colours of what they hold and of what holds them, until nothing changes."""
        while changed:
            touched: defaultdict[int, set[int]] = defaultdict(set)
            for node in changed:
                for near in (*self._holders[node], *self._nodes[node].edges):
                    touched[colours.of[near]].add(near)
            changed = set()
            for group in [
                each for colour in sorted(touched) for each in self._groups(colours, colour, touched[colour])
            ]:
                changed |= colours.moved(group)

    def _groups(self, colours: _Colours, colour: int, touched: set[int]) -> list[list[int]]:
        """Return the groups that parts of one colour fall into, but for the largest, which keeps the colour."""
        cell = colours.cells[colour]
        if len(cell) == 1:
            return []
        groups: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for node in touched:
            groups[self._around(colours, node)].append(node)
        rest = (
            next((each for each in cell if each not in touched), None) if len(touched) < len(cell) else None
        )
        sizes = {around: len(group) for around, group in groups.items()}
        if rest is not None:
            around = self._around(colours, rest)
            sizes[around] = sizes.get(around, 0) + len(cell) - len(touched)
            groups.setdefault(around, [])
        largest = min(sizes, key=lambda around: (-sizes[around], around))
        if rest is not None and largest != self._around(colours, rest):
            groups[self._around(colours, rest)] += [each for each in cell if each not in touched]
        return [groups[around] for around in sorted(groups) if around != largest]

    def _around(self, colours: _Colours, node: int) -> tuple[int, ...]:
        return (*self._inside(colours, node), -1, *sorted(colours.of[each] for each in self._holders[node]))

    def _inside(self, colours: _Colours, node: int) -> list[int]:
        found = [colours.of[each] for each in self._nodes[node].edges]
        return found if self._nodes[node].is_ordered else sorted(found)

    def _written(self, colours: _Colours) -> bytes:
        """Write the graph by the colours, which are numbers of parts here: each part has its own."""
        digest = hashlib.blake2b(digest_size=32)
        for colour in range(len(self._nodes)):
            (node,) = colours.cells[colour]
            digest.update(repr((self._nodes[node].label, self._inside(colours, node))).encode())
        return digest.digest()
