"""The course: checks of the exercises of notebooks/course, and what writes its student versions.

A check ``check_...(answer)`` compares with a closed form and says right, or what kind of error it
is, and never the answer.
"""

from .lesson1 import (
    check_add_noise,
)

__all__ = [
    "check_add_noise",
]
