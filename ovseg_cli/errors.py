"""The errors that a user can mend; each message says what, where and the remedy."""


class OvsegError(Exception):
    """Something went wrong that the user can do something about."""

    exit_code = 1


class UsageError(OvsegError):
    """The command or call itself is wrong: unknown option value, no input, unknown model."""

    exit_code = 2


class VocabularyError(UsageError):
    """The class names cannot be used as given."""


class InputError(OvsegError):
    """One input cannot be read; the others are not affected."""


class OutputError(OvsegError):
    """A result cannot be written: no permission, no space."""


class CheckpointError(OvsegError):
    """A model file is damaged, incomplete or of another format."""

    exit_code = 2  # nothing can be done with it, as with a model that is not there


class NetworkError(OvsegError):
    """A server cannot be reached, refuses, breaks off, or sends something else."""

    def __init__(self, message: str, status: int | None = None) -> None:
        """status: HTTP's, where the server gave one."""
        super().__init__(message)
        self.status = status
