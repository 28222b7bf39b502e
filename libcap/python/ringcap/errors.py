"""The exceptions, one for each error of libringcap, with the words of its error: what was tried, what is wrong, and
what mends it (`mend`, may be ""). All of them are ringcap.Error."""

import builtins


class Error(OSError):
    """A system call failed, or any other error below."""

    def __init__(self, text: str, mend: str = "") -> None:
        super().__init__(text if not mend else f"{text}; {mend}")
        self.text = text
        self.mend = mend


class UsageError(Error, ValueError):
    """What was asked for makes no sense, or a file is damaged or cut."""


class FilterError(Error, ValueError):
    """The filter does not compile."""


class EngineGone(Error):
    """The engine ended, or detached us."""


class PermissionError(Error, builtins.PermissionError):  # noqa: A001 (it is one)
    """Not permitted."""


class NotFound(Error, LookupError):
    """There is no such engine, or no such file."""


class VersionError(Error):
    """The engine speaks another version of the layout."""


BY_CODE = {-1: Error, -2: UsageError, -3: FilterError, -4: EngineGone, -5: PermissionError, -6: NotFound, -7: VersionError}
