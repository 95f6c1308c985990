"""What a user is told when something is wrong: expected, got, where, hint."""


class PhonemeError(Exception):
    """One clear message with four parts.

    `str(error)` is what the command line prints before it exits with a non-zero code:

    >>> print(InputError(expected="an odd number of frames", got=10, where="model.context",
    ...                  hint="the centre frame counts too: try 9 or 11"))
    expected an odd number of frames, got 10
      where: model.context
      hint: the centre frame counts too: try 9 or 11
    """

    def __init__(self, *, expected: str, got: object, where: object, hint: str):
        self.expected, self.got, self.where, self.hint = expected, got, where, hint
        super().__init__(f"expected {expected}, got {got}\n  where: {where}\n  hint: {hint}")


class InputError(PhonemeError, ValueError):
    """The user's data, configuration or file is not what it has to be."""


class DivergedError(PhonemeError, ArithmeticError):
    """Training produced a loss that is not finite."""
