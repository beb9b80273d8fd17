"""Methods: ways to spend compute, one family a folder."""

from isoflop.method.base import Method, Part, Task, parts, read_part

__all__ = ["Method", "Part", "Task", "parts", "read_part"]
