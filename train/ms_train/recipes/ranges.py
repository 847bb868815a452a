"""The values that a setting of a recipe may have: a search draws from them, and `--set` accepts
only these.
"""

from __future__ import annotations

from dataclasses import dataclass

Value = float | int | str


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included, or one of `choices`; whole numbers if `low` and
    `high` are integers.

    With `log`, a search draws on a logarithmic scale (from 0.001 to 0.01 is as far as from 0.01 to
    0.1).
    """

    low: float = 0
    high: float = 0
    log: bool = False
    choices: tuple[Value, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether all values are whole numbers."""
        return not self.choices and isinstance(self.low, int) and isinstance(self.high, int)

    def read(self, value: Value) -> Value:
        """Return a value, or the text of one, with its type.

        Raises ValueError if it is not in the range.
        """
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
