"""Work that runs in a process of its own under a limit; these files import nothing of the package, to start quickly."""
