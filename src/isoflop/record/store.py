"""The store: one SQLite file with every sample that was ever paid for, and every run."""

from __future__ import annotations

import json
import os
import sqlite3
import struct
import time
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from isoflop.cost import AXES, FREE, Cost, Role
from isoflop.record.record import Graded, LedgerRow, Record, RunInfo

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    run TEXT PRIMARY KEY, created REAL NOT NULL, status TEXT NOT NULL,
    config TEXT NOT NULL, provenance TEXT NOT NULL, outcome TEXT NOT NULL DEFAULT '{}'
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS samples (
    sample BLOB PRIMARY KEY, run TEXT NOT NULL, model TEXT NOT NULL, created REAL NOT NULL, text TEXT NOT NULL,
    token_ids BLOB, logprobs BLOB, finish_reason TEXT NOT NULL, attempts INTEGER NOT NULL,
    cost BLOB NOT NULL, wasted BLOB
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS samples_by_run ON samples (run);
CREATE TABLE IF NOT EXISTS uses (
    run TEXT NOT NULL, seq INTEGER NOT NULL, sample BLOB NOT NULL, model TEXT NOT NULL, method TEXT NOT NULL,
    key TEXT NOT NULL, role TEXT NOT NULL, shared INTEGER NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (
    run TEXT NOT NULL, model TEXT NOT NULL, method TEXT NOT NULL, key TEXT NOT NULL, step INTEGER NOT NULL,
    task TEXT NOT NULL, split TEXT NOT NULL, seed INTEGER NOT NULL, once BLOB NOT NULL, per_use BLOB NOT NULL,
    quality REAL, status TEXT NOT NULL, answer TEXT NOT NULL, confidence REAL,
    PRIMARY KEY (run, model, method, key, step)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS graded (
    run TEXT NOT NULL, model TEXT NOT NULL, key TEXT NOT NULL, split TEXT NOT NULL, level INTEGER,
    n INTEGER NOT NULL, c INTEGER NOT NULL,
    PRIMARY KEY (run, model, key)
) STRICT, WITHOUT ROWID;
"""
_DRAWN = ("run", "created", "text", "token_ids", "logprobs", "finish_reason", "attempts", "cost", "wasted")
_VERSION = 1
_COST = struct.Struct(f"<{len(AXES)}d")


_FREE = _COST.pack(*[0.0] * len(AXES))
_PEAK = AXES.index("peak_bytes")


class StoreError(Exception):
    """The store cannot be read or written; the message says where and what to do."""


@dataclass(frozen=True, slots=True)
class StoredSample:
    """A sample as the store keeps it; the model room's own type holds the same fields.

    Args:
        sample: its key (16 bytes), made of model, prompt, sampling and seed.
        run: the run that paid for it.
        model: digest of the model that drew it.
        text: what was generated.
        token_ids: T ids, or None.
        logprobs: T log-probabilities (nats), or None.
        finish_reason: why it ended.
        attempts: calls it took.
        cost: its share of what its call spent.
        wasted: what failed attempts spent.
    """

    sample: bytes
    run: str
    model: str
    text: str
    token_ids: tuple[int, ...] | None
    logprobs: tuple[float, ...] | None
    finish_reason: str
    attempts: int
    cost: Cost
    wasted: Cost


@dataclass(frozen=True, slots=True)
class Use:
    """One sample handed to one method.

    Args:
        seq: its place in the run's order of deliveries.
        sample: key of the sample.
        model: specification of the model.
        method: the method with its hyper-parameters.
        key: the problem.
        role: what it was drawn for.
        shared: another method of the run had drawn it before.
    """

    seq: int
    sample: bytes
    model: str
    method: str
    key: str
    role: Role
    shared: bool


def default_path() -> Path:
    """Where the store lies unless told otherwise: `$ISOFLOP_STORE`, or `.isoflop/store.db` in the working directory."""
    return Path(os.environ.get("ISOFLOP_STORE", Path(".isoflop") / "store.db"))


class Store:
    """Samples, runs and records in one SQLite file (write-ahead log; readers never wait for the writer).

    What `put_samples` has returned from survives the death of the process. One process writes at a time; a second
    writer waits up to a minute.

    Args:
        path: the file; made with its folders when absent.

    Raises:
        StoreError: the file is no isoflop store, is of a newer version, or cannot be written.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self.path, timeout=60, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version={_VERSION}; COMMIT;")
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"cannot open the store {self.path}: {error}; name another with --store") from error
        if version not in (0, _VERSION):
            raise StoreError(
                f"the store {self.path} has version {version}, this isoflop reads {_VERSION}; update isoflop"
            )

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Samples

    def put_samples(self, samples: Sequence[StoredSample]) -> None:
        """Keep `samples`; when this returns they survive a crash. One kept already stays, unless it was an error.

        Raises:
            StoreError: the disk is full or the file cannot be written; none of them was kept, try again.
        """
        now = time.time()
        rows = [
            (
                s.sample,
                s.run,
                s.model,
                now,
                s.text,
                None if s.token_ids is None else array("q", s.token_ids).tobytes(),
                None if s.logprobs is None else array("d", s.logprobs).tobytes(),
                s.finish_reason,
                s.attempts,
                _pack(s.cost),
                _pack(s.wasted) if s.wasted is not FREE else None,
            )
            for s in samples
        ]
        # Whoever draws anew what failed for good has taken its cost over as wasted.
        again = "ON CONFLICT DO UPDATE SET " + ", ".join(f"{c}=excluded.{c}" for c in _DRAWN)
        again += " WHERE samples.finish_reason = 'error'"
        self._write(f"INSERT INTO samples VALUES (?,?,?,?,?,?,?,?,?,?,?) {again}", rows)

    def get_samples(self, keys: Sequence[bytes]) -> dict[bytes, StoredSample]:
        """Those of `keys` that are kept."""
        found: dict[bytes, StoredSample] = {}
        for start in range(0, len(keys), 500):
            some = keys[start : start + 500]
            rows = self._db.execute(
                "SELECT sample, run, model, text, token_ids, logprobs, finish_reason, attempts, cost, wasted "
                f"FROM samples WHERE sample IN ({','.join('?' * len(some))})",
                some,
            )
            for sample, run, model, text, ids, logprobs, finish, attempts, cost, wasted in rows:
                found[sample] = StoredSample(
                    sample,
                    run,
                    model,
                    text,
                    None if ids is None else tuple(array("q", ids)),
                    None if logprobs is None else tuple(array("d", logprobs)),
                    finish,
                    attempts,
                    _unpack(cost),
                    FREE if wasted is None else _unpack(wasted),
                )
        return found

    # Runs

    def begin(self, info: RunInfo) -> None:
        """Enter a new run.

        Raises:
            StoreError: a run of that name is there already, or the file cannot be written.
        """
        row = (info.run, info.created, info.status, *map(_json, (info.config, info.provenance, info.outcome)))
        self._write("INSERT INTO runs VALUES (?,?,?,?,?,?)", [row])

    def finish(self, run: str, status: str, outcome: dict[str, object]) -> None:
        """Set a run's status and totals."""
        self._write("UPDATE runs SET status=?, outcome=? WHERE run=?", [(status, _json(outcome), run)])

    def runs(self) -> list[RunInfo]:
        """All runs, newest first."""
        rows = self._db.execute(
            "SELECT run, created, status, config, provenance, outcome FROM runs ORDER BY created DESC"
        )
        return [
            RunInfo(run, created, status, json.loads(config), json.loads(provenance), json.loads(outcome))
            for run, created, status, config, provenance, outcome in rows
        ]

    def run(self, name: str) -> RunInfo:
        """The run called `name`, an unambiguous beginning of its name, or `last`.

        Raises:
            StoreError: no such run, or more than one.
        """
        runs = self.runs()
        if name == "last" and runs:
            return runs[0]
        found = [r for r in runs if r.run == name] or [r for r in runs if r.run.startswith(name)]
        if len(found) == 1:
            return found[0]
        what = f"{len(found)} runs begin with {name!r}" if found else f"no run {name!r}"
        known = ", ".join(r.run for r in runs[:5]) or "none yet"
        raise StoreError(f"{what} in {self.path}; the newest are: {known}")

    def elapsed_s(self, info: RunInfo) -> float:
        """How long a run had worked when it stopped or was killed (seconds)."""
        if isinstance(wall_s := info.outcome.get("wall_s"), float):
            return wall_s
        (last,) = self._db.execute("SELECT max(created) FROM samples WHERE run=?", (info.run,)).fetchone()
        return max(0.0, last - info.created) if last else 0.0

    # Rows of a run. A resumed run writes the same rows again, so all of them replace.

    def put_records(self, run: str, records: Iterable[Record]) -> None:
        """Keep records of a run."""
        rows = [
            (
                *(run, r.model, r.method, r.key, r.step, r.task, r.split, r.seed),
                *(_pack(r.once), _pack(r.per_use), r.quality, r.status, r.answer, r.confidence),
            )
            for r in records
        ]
        self._write("INSERT OR REPLACE INTO records VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)", rows)

    def records(self, run: str) -> list[Record]:
        """The records of a run, by model, method, problem and step."""
        rows = self._db.execute(
            "SELECT model, method, task, key, split, seed, step, once, per_use, quality, status, answer, confidence "
            "FROM records WHERE run=? ORDER BY model, method, key, step",
            (run,),
        )
        return [
            Record(*row[:7], _unpack(row[7]), _unpack(row[8]), _number(row[9]), row[10], row[11], _number(row[12]))  # pyright: ignore[reportCallIssue]
            for row in cast("Iterable[tuple[Any, ...]]", rows)
        ]

    def put_uses(self, run: str, uses: Iterable[Use]) -> None:
        """Keep which samples a run handed to which method."""
        rows = [(run, u.seq, u.sample, u.model, u.method, u.key, u.role, u.shared) for u in uses]
        self._write("INSERT OR REPLACE INTO uses VALUES (?,?,?,?,?,?,?,?)", rows)

    def ledger(self, run: str) -> list[LedgerRow]:
        """What a run spent, by model, method and role; what was paid but reached no method is `cancelled`."""
        groups: dict[tuple[str, str, Role], list[tuple[bool, bool, bytes]]] = {}
        rows = self._db.execute(
            "SELECT u.model, u.method, u.role, u.shared, s.run, s.cost, s.attempts, s.wasted "
            "FROM uses u JOIN samples s USING (sample) WHERE u.run=?",
            (run,),
        )
        for model, method, role, shared, payer, cost, attempts, wasted in rows:
            entry = (bool(shared), payer != run, cost)
            groups.setdefault((model, method, role), []).append(entry)
            if attempts > 1:
                again = (bool(shared), payer != run, wasted or _FREE)
                groups.setdefault((model, method, "retry"), []).append(again)
        unused = self._db.execute(
            "SELECT model, cost, wasted FROM samples "
            "WHERE run=? AND sample NOT IN (SELECT sample FROM uses WHERE run=?)",
            (run, run),
        )
        for model, cost, wasted in unused:
            groups.setdefault((model, "", "cancelled"), []).append((False, False, cost))
            if wasted is not None:
                groups.setdefault((model, "", "retry"), []).append((False, False, wasted))
        return [
            LedgerRow(
                *key,
                samples=len(entries),
                shared=sum(shared for shared, _, _ in entries),
                replayed=sum(replayed and not shared for shared, replayed, _ in entries),
                charged=_total(cost for _, _, cost in entries),
                budgeted=_total(cost for shared, _, cost in entries if not shared),
                paid=_total(cost for shared, replayed, cost in entries if not (shared or replayed)),
            )
            for key, entries in sorted(groups.items())
        ]

    def put_graded(self, run: str, graded: Iterable[Graded]) -> None:
        """Keep how many of each problem's samples were right."""
        rows = [(run, g.model, g.key, g.split, g.level, g.n, g.c) for g in graded]
        self._write("INSERT OR REPLACE INTO graded VALUES (?,?,?,?,?,?,?)", rows)

    def graded(self, run: str) -> list[Graded]:
        """How many of each problem's samples were right."""
        rows = self._db.execute(
            "SELECT model, key, split, level, n, c FROM graded WHERE run=? ORDER BY model, key", (run,)
        )
        return [Graded(*row) for row in rows]

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        if not rows:
            return
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany(statement, rows)
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise StoreError(f"cannot write to the store {self.path}: {error}") from error


def _pack(cost: Cost) -> bytes:
    return _COST.pack(*(getattr(cost, axis) for axis in AXES))


def _unpack(blob: bytes) -> Cost:
    return Cost(*_COST.unpack(blob))


def _total(blobs: Iterable[bytes]) -> Cost:
    """All costs one after the other, as `Cost.then` has it, but of many thousands at once."""
    costs = np.frombuffer(b"".join(blobs), "<f8").reshape(-1, len(AXES))
    total = costs.sum(axis=0)
    total[_PEAK] = costs[:, _PEAK].max(initial=0.0)
    return Cost(*total.tolist())


def _number(value: float | None) -> float:
    return float("nan") if value is None else value  # SQLite keeps a NaN as NULL


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True)
