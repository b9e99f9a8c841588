"""
Read the options of the server whose machine is checked.
"""

from __future__ import annotations

from twisted.python.usage import UsageError

from kiroworkers.tap import Options


class CheckedOptions(Options):
    """
    Read the server's options, and keep what is wrong with their values instead of raising it.

    Attributes:
        has_settings: Whether there are settings: each option has a valid value.
        problem: Why the server would refuse the options; None if it would not.
    """

    has_settings = False
    problem: str | None = None

    def postOptions(self) -> None:
        """
        Make the settings, if the options are valid.
        """
        try:
            super().postOptions()
        except UsageError as error:
            self.problem = str(error)
        self.has_settings = hasattr(self, "effective")
