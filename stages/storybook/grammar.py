"""Grammar: templates of weighted alternatives and slots drawn once, so that a text's probability is known exactly.

A template is text with three signs:

    [a|b|c]   one of the alternatives; earlier ones are a little likelier. "[5*a|b]" sets the weights: 5 to 1.
    <rule>    one of the templates that the rule lists.
    {form}    a form of a slot. The first form drawn in a text draws the slot's record; later ones repeat that record,
              so "{a toy} ... the {toy}" speaks of one toy.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Generic, TypeVar, Union

T = TypeVar("T")
Record = Mapping[str, str]  # form -> text, as {"toy": "apple", "a toy": "an apple"}
Bindings = dict[str, Record]  # slot -> the record drawn for it
_SIGN = re.compile(r"([\[\]|]|\{[^{}]*\}|<\w+>)")
_WEIGHT = re.compile(r"(\d+)\*")


class Wheel(Generic[T]):
    """Options with whole-number weights, so that a draw is exact on every platform."""

    def __init__(self, options: Sequence[T], weights: Sequence[int]) -> None:
        self.options = tuple(options)
        self.total = sum(weights)
        self.chances = tuple(weight / self.total for weight in weights)
        self._ends = tuple(accumulate(weights))

    def draw(self, random: Callable[[], float]) -> int:
        """The index of an option, for a random number in [0, 1)."""
        return bisect_right(self._ends, int(random() * self.total))

    def __iter__(self) -> Iterator[tuple[T, float]]:
        return iter(zip(self.options, self.chances, strict=True))


@dataclass(frozen=True)
class Form:
    """A place in a template where a form of a slot is written."""

    slot: str
    form: str


Node = Union[str, Form, "Wheel[Nodes]"]
Nodes = tuple[Node, ...]
_Todo = tuple[Node, "_Todo"] | None  # the nodes still to be written, as a linked list
State = tuple[_Todo, Bindings, float]  # of a text half written: what is still to come, the slots drawn, its probability


def skewed(count: int) -> list[int]:
    """Weights that fall evenly; the first is about twice the last."""
    return [2 * count - place for place in range(count)]


class Grammar:
    """Rules and slots, compiled. `start` is the rule that a text comes from."""

    def __init__(
        self,
        rules: Mapping[str, Sequence[str]],
        slots: Mapping[str, Sequence[tuple[int, Record]]],
        start: str,
    ) -> None:
        self._rules = rules
        self._slot_of = {form: slot for slot, records in slots.items() for form in records[0][1]}
        self.slots = {name: Wheel([r for _, r in records], [w for w, _ in records]) for name, records in slots.items()}
        self._compiled: dict[str, Wheel[Nodes]] = {}
        self.start = self._rule(start)

    def sample(self, random: Callable[[], float]) -> tuple[str, float]:
        """Draw a text; `random` gives numbers in [0, 1). Returns the text and its probability."""
        slots = self.slots
        bindings: Bindings = {}
        parts: list[str] = []
        probability = 1.0
        stack: list[Node] = [self.start]
        while stack:
            node = stack.pop()
            if isinstance(node, str):
                parts.append(node)
            elif isinstance(node, Form):
                record = bindings.get(node.slot)
                if record is None:
                    wheel = slots[node.slot]
                    index = wheel.draw(random)
                    probability *= wheel.chances[index]
                    bindings[node.slot] = record = wheel.options[index]
                parts.append(record[node.form])
            else:
                index = node.draw(random)
                probability *= node.chances[index]
                stack.extend(reversed(node.options[index]))
        return "".join(parts), probability

    def begin(self) -> State:
        """Nothing is written yet."""
        return (self.start, None), {}, 1.0

    def next_words(self, state: State) -> Iterator[tuple[str, bool, State]]:
        """Every way to write one more word: the word, whether the text ends with it, and the state after it.

        A word is one character, whatever it is, and all that follows it up to the next blank. The probabilities of the states
        that come out sum to that of the state that went in. At the end of a text the word is empty.
        """
        todo, bindings, probability = state
        agenda = [(todo, "", bindings, probability)]
        while agenda:
            todo, word, bindings, probability = agenda.pop()
            if todo is None:
                yield word, True, (None, bindings, probability)
                continue
            node, rest = todo
            if isinstance(node, str):
                end = node.find(" ", 0 if word else 1)
                if end < 0:
                    agenda.append((rest, word + node, bindings, probability))
                else:
                    yield word + node[:end], False, ((node[end:], rest), bindings, probability)
            elif isinstance(node, Form):
                known = bindings.get(node.slot)
                for record, chance in self.slots[node.slot] if known is None else ((known, 1.0),):
                    agenda.append(((record[node.form], rest), word, {**bindings, node.slot: record}, probability * chance))
            else:
                for option, chance in node:
                    ahead = rest
                    for part in reversed(option):
                        ahead = (part, ahead)
                    agenda.append((ahead, word, bindings, probability * chance))

    def _rule(self, name: str) -> Wheel[Nodes]:
        if name not in self._compiled:
            signs = [sign for template in self._rules[name] for sign in ("|", *_SIGN.split(template))][1:]
            self._compiled[name], _ = self._alternatives([*signs, "]"], 0)
        return self._compiled[name]

    def _alternatives(self, signs: Sequence[str], at: int) -> tuple[Wheel[Nodes], int]:
        """Compile alternatives from `at` to the closing bracket; also returns the index after it."""
        options: list[list[Node]] = [[]]
        weights: list[int] = [0]
        while True:
            sign = signs[at]
            at += 1
            if sign == "]":
                break
            if sign == "|":
                options.append([])
                weights.append(0)
            elif sign == "[":
                wheel, at = self._alternatives(signs, at)
                options[-1].append(wheel)
            elif sign.startswith("<"):
                options[-1].append(self._rule(sign[1:-1]))
            elif sign.startswith("{"):
                form = sign[1:-1]
                options[-1].append(Form(self._slot_of[form], form))
            elif sign:
                weight = None if options[-1] else _WEIGHT.match(sign)
                if weight:
                    weights[-1] = int(weight[1])
                    sign = sign[weight.end() :]
                if sign:
                    options[-1].append(sign)
        chosen = [weight or 1 for weight in weights] if any(weights) else skewed(len(options))
        return Wheel([tuple(option) for option in options], chosen), at
