"""A halt, and how to tell it from a moment's pause.

One rule: a halt is told once, and only when it lasts. What has come to a halt is not known here.
"""

SILENCE = "no worker answers: they are still being started, or in the middle of something else"
"""What is told where not even one says anything. (Those of a fork's parent look alive, and never will.)"""


class Halt:
    """Tells a halt of what runs calls from a moment's pause.

    Parameters
    ----------
    seconds
        How long it is only a pause.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None
        self._is_told = False

    def ended(self) -> bool:
        """Take note that it goes on; tell whether it had not."""
        was, self._since, self._is_told = self._since is not None, None, False
        return was

    def is_news(self, now: float) -> bool:
        """Take note that it still does not; tell, once, when that is worth telling."""
        self._since = now if self._since is None else self._since
        is_news = not self._is_told and now - self._since >= self._seconds
        self._is_told |= is_news
        return is_news
