"""Roman numerals, as the service that sends the events writes them."""

_DIGITS = (
    (1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"),
    (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"),
)  # fmt: skip


def _numeral(number: int) -> str:
    parts = []
    for value, digits in _DIGITS:
        count, number = divmod(number, value)
        parts.append(digits * count)
    return "".join(parts)


NUMERALS = tuple(_numeral(number) for number in range(4000))
"""The numeral of each number from 1 to 3999; the one of 0 is empty."""
