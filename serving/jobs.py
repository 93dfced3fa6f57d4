"""Jobs: the photos of a request become a run, as `pusa process` would make it, and are identified.

DATA/jobs/<job_id>/photos/<photo_id> are the files as they came, DATA/jobs/<job_id>/run the run: each photo's row is
written when it is done, so a job that was cut short goes on from there, in this process or in another.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import shutil
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import fs as pafs

from pusa import __version__, records
from pusa.duplicates import mark_duplicates
from pusa.errors import PhotoError, UserError
from pusa.gallery.candidate_set import CandidateSet
from pusa.gallery.enrolment import enroll
from pusa.gallery.index import Query
from pusa.gallery.journal import Key
from pusa.photos import read_header
from pusa.records import Run
from pusa.sequences import SequenceConfig, Taken, in_order, sequence_ids
from serving.database import Database, Job
from serving.problems import Problem
from serving.settings import ServingConfig
from serving.stages import Fatal, Stages
from serving.uploads import Received

logger = logging.getLogger("pusa.serving")
BEAT = 10.0  # s between two signs of life


def token_of(key: Key) -> str:
    """Names an encounter in addresses: 20 hex digits; an encounter_id has slashes, and its run may be a path."""
    return hashlib.blake2b("\0".join(key).encode(), digest_size=10).hexdigest()


class _Lost(Exception):
    """Another process works on the job by now."""


class Jobs:
    """Takes photos in, and works on the jobs that nobody else works on."""

    def __init__(self, config: ServingConfig, database: Database, stages: Stages) -> None:
        self.config, self.database, self.stages = config, database, stages
        self.owner = uuid.uuid4().hex
        self.room = asyncio.Semaphore(config.limits.photos_at_once)
        self.running: dict[str, asyncio.Task[None]] = {}
        self.digests = config.stages.digests()

    def folder(self, job_id: str) -> Path:
        return Path(self.config.data).resolve() / "jobs" / job_id

    def run_of(self, job_id: str) -> Run:
        return Run(str(self.folder(job_id) / "run"))

    # ------------------------------------------------------------------------------------------------ taking in

    def add(
        self, job_id: str, received: Sequence[Received], who: str, name: str, settings: dict[str, Any],
        idempotency: str | None = None,
    ) -> Job:  # fmt: skip
        """Keeps a job whose photos lie in its folder. With an idempotency key that was used before, the earlier job is
        returned instead. Raises Problem where too many are open."""
        every = hashlib.blake2b(repr(sorted((r.name, r.digest) for r in received)).encode(), digest_size=16)
        every.update(repr(sorted(settings.items())).encode())
        job = Job(job_id, who, name, time.time(), len(received), every.hexdigest(), idempotency, settings)
        self._index(self.run_of(job_id), received, settings)
        kept = self.database.add_job(job, self.config.limits.jobs)
        if kept is None or kept.job_id != job_id:
            shutil.rmtree(self.folder(job_id), ignore_errors=True)
        if kept is None:
            detail = f"{self.config.limits.jobs} jobs are not finished. Send it again later."
            raise Problem(503, "Too much to do", detail, Retry_After="30")
        if kept.digest != job.digest:
            raise Problem(422, "Idempotency key used twice", "This key came with other photos or settings before.")
        return kept

    def _index(self, run: Run, received: Sequence[Received], settings: dict[str, Any]) -> None:
        """Writes the rows of the photos, as `pusa index` does; files move to their photo's id."""
        local, rows = pafs.LocalFileSystem(), []
        for r in received:
            row: dict[str, Any] = {"photo_id": records.photo_id(r.name, r.size, r.digest), "path": r.name, "shard": 0,
                                   "instances": [], "status": "new"}  # fmt: skip
            try:
                header = read_header(local, str(r.file), int(self.config.stages.crops.max_megapixels * 1e6))
                row |= {
                    c: getattr(header, c) for c in ("taken_at", "camera", "latitude", "longitude", "width", "height")
                }
            except PhotoError as e:
                row |= {"status": "error", "error": str(e)}
            r.file.rename(r.file.with_name(row["photo_id"]))
            rows.append(row)
        taken = [Taken(row["path"], row.get("taken_at"), row.get("camera")) for row in rows]
        if settings["sequences"] == "one":
            ids = [settings["sequence"]] * len(rows)
        else:
            by = SequenceConfig(by=settings["sequences"], gap=settings["gap"])
            ids = [i if i != "." else settings["sequence"] for i in sequence_ids(taken, by)[0]]
        order = sorted(range(len(rows)), key=lambda i: (ids[i], in_order(taken[i])))
        table = pa.Table.from_pylist([rows[i] | {"sequence_id": ids[i]} for i in order], schema=records.PHOTOS)
        run.write("index", table, "00000")

    def discard(self, job_id: str) -> None:
        """Removes what was received for a job that is not kept."""
        if self.database.job(job_id) is None:
            shutil.rmtree(self.folder(job_id), ignore_errors=True)

    # ------------------------------------------------------------------------------------------------ working

    def start(self, job_id: str) -> asyncio.Task[None] | None:
        """Works on a job, should nobody do so; the task that does, or None."""
        if job_id not in self.running and (job := self.database.take(self.owner, job_id)):
            self._begin(job)
        return self.running.get(job_id)

    def _begin(self, job: Job) -> None:
        task = asyncio.create_task(self._guarded(job))
        self.running[job.job_id] = task
        task.add_done_callback(lambda _: self.running.pop(job.job_id, None))

    async def work(self) -> None:
        """For ever: signs of life for the jobs that this process has, and jobs that nobody has."""
        while True:
            try:
                if self.running:
                    self.database.beat(self.owner)
                while len(self.running) < self.config.limits.photos_at_once and (job := self.database.take(self.owner)):
                    logger.info("job %s goes on", job.job_id)
                    self._begin(job)
            except Exception:
                logger.exception("the server's database cannot be used")
            await asyncio.sleep(BEAT / 5)

    async def stop(self) -> None:
        """Leaves all jobs to others."""
        tasks = list(self.running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.database.release(self.owner)

    async def _guarded(self, job: Job) -> None:
        """One job, to its end: what goes wrong becomes its error."""
        error, keys = None, []
        try:
            async with asyncio.timeout(self.config.limits.job_hours * 3600):
                keys = await self._work(job)
        except TimeoutError:
            error = f"Given up after {self.config.limits.job_hours:g} hours."
        except Exception as e:
            while isinstance(e, ExceptionGroup):  # of a group of photos: the first that failed
                e = e.exceptions[0]
            if isinstance(e, _Lost):
                return
            error = _told(e, job)
        self.database.finish(self.owner, job.job_id, error, keys)

    async def _work(self, job: Job) -> list[tuple[str, Key]]:
        run, begun = self.run_of(job.job_id), time.monotonic()
        await self._photos(job, run)
        self.database.tell(self.owner, job.job_id, "identifying", job.total)
        await asyncio.to_thread(mark_duplicates, run)
        photos = await asyncio.to_thread(run.read, "photos")
        encoded = await self.stages.encode(photos)
        run.write("encounters", encoded.encounters, "00000")
        among = CandidateSet(**job.settings.get("among", {}))
        version, identified = await self._identify(run, encoded.encounters, encoded.crops, among)
        counts = {"photos": len(photos), "encounters": len(encoded.encounters)}
        run.write_manifest({
            "version": __version__, "state": "finished", "command": f"job {job.job_id}", "archive": job.name,
            "config": self.config.stages.model_dump(mode="json"), "weights": self.digests, "instances": None,
            "counts": counts, "seconds": round(time.monotonic() - begun, 3), "gallery": self.config.gallery,
            "gallery_version": version, "identified": identified,
        })  # fmt: skip
        if job.settings.get("enroll"):
            self.database.tell(self.owner, job.job_id, "enrolling", job.total)
            await asyncio.to_thread(enroll, run, self.config.gallery)
        ids = encoded.encounters["encounter_id"].to_pylist()
        return [(token_of(key), key) for key in ((run.key, e) for e in ids)]

    async def _photos(self, job: Job, run: Run) -> None:
        """Every photo of the index through detector and describer, those that are done already left out."""
        index = run.read("index")
        done = set(run.read("photos", ["photo_id"])["photo_id"].to_pylist())
        todo = [index.slice(i, 1) for i, p in enumerate(index["photo_id"].to_pylist()) if p not in done]
        finished = len(done)
        self.database.tell(self.owner, job.job_id, "photos", finished)

        async def one(row: pa.Table) -> None:
            nonlocal finished
            async with self.room:
                found = await self._photo(job, row)
            await asyncio.to_thread(run.write, "photos", found, row["photo_id"][0].as_py())
            finished += 1
            if not self.database.tell(self.owner, job.job_id, "photos", finished):
                raise _Lost

        async with asyncio.TaskGroup() as group:
            for row in todo:
                group.create_task(one(row))

    async def _photo(self, job: Job, row: pa.Table) -> pa.Table:
        if row["status"][0].as_py() == "error":
            return row
        file = self.folder(job.job_id) / "photos" / row["photo_id"][0].as_py()
        content = await asyncio.to_thread(file.read_bytes)
        try:
            return await self.stages.describe(await self.stages.detect(row, content))
        except Fatal as e:  # the job's other photos shall not wait for it
            return records.with_columns(row, status=["error"], error=[str(e)])

    async def _identify(
        self, run: Run, encounters: pa.Table, crops: dict[str, Any], among: CandidateSet
    ) -> tuple[str, dict[str, Any]]:
        """Writes the run's candidates; returns the version of the gallery that they are from, and what
        `pusa identify` writes into the manifest."""
        rows = encounters.filter(encounters["fisher"].is_valid())
        counts = {"encounters": len(encounters), "compared": len(rows), "candidate_set": str(among)}
        if not len(rows):
            run.write("candidates", records.CANDIDATES.empty_table(), "00000")
            return await self.stages.version(), counts
        ids, n = rows["encounter_id"].to_pylist(), rows["n_patches"].to_pylist()
        fisher = rows["fisher"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(len(ids), -1)
        queries = [
            Query((run.key, e), f, k, crops[e]) for e, f, k in zip(ids, fisher.astype(np.float16), n, strict=True)
        ]
        answers = await asyncio.gather(*(self.stages.identify(q, among) for q in queries))
        for query, given in zip(queries, answers, strict=True):
            self.database.keep_answer(query.key, given.version, given.candidates, among)
        found = [{c: row[c] for c in records.CANDIDATES.names} for a in answers for row in a.candidates]
        run.write("candidates", pa.Table.from_pylist(found, schema=records.CANDIDATES), "00000")
        return answers[0].version, counts | {"searched": answers[0].searched, "new_share": self.config.new_share}


def _told(error: Exception, job: Job) -> str:
    """What the user reads."""
    if isinstance(error, (UserError, Problem)):
        return str(error)
    number = uuid.uuid4().hex[:8]
    logger.error("error %s in job %s", number, job.job_id, exc_info=error)
    return f"A fault of the server; its log has the reason, under the number {number}."
