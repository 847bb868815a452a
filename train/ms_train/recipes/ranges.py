"""What a setting of a recipe may be: the values a search draws from, and the only ones `--set` takes."""

from __future__ import annotations

from dataclasses import dataclass

Value = float | int | str


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included, whole ones where both are whole; or one of `choices`.

    `log`: ratios count, not differences (0.001 is as far from 0.01 as that from 0.1).
    """

    low: float = 0
    high: float = 0
    log: bool = False
    choices: tuple[Value, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether these are whole numbers."""
        return not self.choices and isinstance(self.low, int) and isinstance(self.high, int)

    def read(self, value: Value) -> Value:
        """A value, or the text of one, as what it is. Raises ValueError where it is none of the range."""
        if self.choices:
            found = [choice for choice in self.choices if _equal(choice, value)]
            if not found:
                raise ValueError
            return found[0]
        number = int(value) if self.whole else float(value)
        if not self.low <= number <= self.high or number != float(value):
            raise ValueError
        return number

    def __str__(self) -> str:
        if self.choices:
            return f"one of {', '.join(map(str, self.choices))}"
        return f"a {'whole ' if self.whole else ''}number from {self.low:g} to {self.high:g}"


def _equal(choice: Value, value: Value) -> bool:
    try:
        return float(choice) == float(value)
    except ValueError:
        return choice == value
