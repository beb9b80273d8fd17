"""Fan-out: one model computed by many workers, in processes here or on the machines of a Ray cluster."""

from isoflop.run.fanout.crew import Crew, FannedOut, Worker, WorkerLostError, crew_of

__all__ = ["Crew", "FannedOut", "Worker", "WorkerLostError", "crew_of"]
