"""Errors that a user can act on."""


class UserError(Exception):
    """Something the user can put right. The message says what was expected, what came, and what to do.

    The command line prints it in one line and exits with code 2; no traceback is shown.
    """


class PhotoError(Exception):
    """One photo cannot be used. The message becomes the `error` of its row; the run goes on."""
