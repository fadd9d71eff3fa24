"""The one shape of every complaint: where, what was found, what was expected, what to type."""


class BadInput(ValueError):
    """Input that training cannot use. `str()` is the whole message, ready for the terminal.

    where     file, flag or tensor at fault
    found     what stands there; several offenders on one line each, all of them
    expected  what would have been accepted
    then      what to type next
    """

    def __init__(self, where: object, found: object, expected: object, then: object):
        self.where, self.found, self.expected, self.then = where, found, expected, then
        parts = [("found", found), ("expected", expected), ("next", then)]
        lines = [f"  {word + ':':<10}{_indented(text)}" for word, text in parts]
        super().__init__("\n".join([str(where), *lines]))


def _indented(text: object) -> str:
    return str(text).replace("\n", "\n" + " " * 12)


def disk_failure(where: object, error: Exception, then: str) -> BadInput:
    """A failed write (full disk, no permission, a file-size limit) as a BadInput."""
    return BadInput(where, error, "a folder that can be written, with room", then)
