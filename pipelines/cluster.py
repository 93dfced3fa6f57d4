"""Connecting to Ray, and sharing out the machine: how many actors each stage gets, and what each takes."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

# Before Ray is imported: no usage reports; workers start from this environment, not through `uv run`.
for _key, _value in {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "Failed to query Ray Train Controller|core_worker.cc",  # noise of every training
    "RAY_AUTH_MODE": "disabled" if os.environ.get("RAY_ADDRESS") is None else "token",
}.items():
    os.environ.setdefault(_key, _value)

import ray  # noqa: E402
from ray.data import ActorPoolStrategy, DataContext  # noqa: E402

from pusa.errors import UserError  # noqa: E402

POLL_SECONDS = 5.0
PATIENCE_MINUTES = 15.0  # for another node in place of one that was lost
ACTORS_PER_GPU = 8  # each has its own copy of the networks and of CUDA; no more than fit into 24 GB
PHOTOS_PER_GPU = 20  # a second; assumed, until a GPU is there to be timed
BLOCKS_PER_SECOND = 20
OBJECT_STORE_BYTES = 1 << 30  # crops and vectors in flight; bounds the memory of a run on one machine
RETRIED = "\nFailed to "  # after this Ray Data says of an error how often it tried, and how to have it try more often
# What Ray raises when it is not our code that failed, but something under it.
CLUSTER_ERRORS = (
    ray.exceptions.LocalRayletDiedError, ray.exceptions.NodeDiedError, ray.exceptions.ObjectLostError,
    ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfMemoryError, ray.exceptions.RayActorError,
    ray.exceptions.RaySystemError, ray.exceptions.RpcError, ray.exceptions.WorkerCrashedError,
)  # fmt: skip


@dataclass(frozen=True)
class Share:
    """How a job is spread: how many actors, what each takes of Ray's logical resources, and how large a block is."""

    actors: int
    cpus: float
    gpus: float
    photos_per_block: int

    def options(self, blocks: int) -> dict[str, Any]:
        """The resource arguments of `map_batches` over so many blocks: no more actors than that. An actor on a GPU asks
        for no CPU, or Ray wants both at once."""
        resources: dict[str, Any] = {"num_gpus": self.gpus} if self.gpus else {"num_cpus": self.cpus}
        return {"compute": ActorPoolStrategy(size=min(self.actors, blocks)), **resources}


def share(cpus: float, gpus: float) -> Share:
    """Divides a cluster among actors of one thread that run all stages: one a core, or up to ACTORS_PER_GPU a GPU.

    Of pools side by side, one a stage, the slowest would set the pace and cores be idle; and on a GPU the thread that
    looks for key points would, since that takes longer than all the networks.
    """
    if gpus:
        each = max(1, min(ACTORS_PER_GPU, int(cpus // gpus)))
        # Rounded down to what Ray can count: seven times .1429 are more than a GPU, and the last would wait for ever.
        fraction = math.floor(10_000 / each) / 10_000
        return Share(int(gpus) * each, cpus=0, gpus=fraction, photos_per_block=block_of(PHOTOS_PER_GPU * gpus))
    actors = max(1, int(cpus))
    # Not whole cores, for the same reason.
    return Share(actors, cpus=cpus / (actors + 1), gpus=0, photos_per_block=block_of(actors))


def block_of(photos_per_second: float) -> int:
    """Photos in a block: few, so that little is lost with one and no core is left waiting for the last; but as many as
    keep the scheduler, which is one process, to BLOCKS_PER_SECOND."""
    return max(4, math.ceil(photos_per_second / BLOCKS_PER_SECOND))


@contextlib.contextmanager
def connect(
    address: str = "local", num_cpus: int | None = None, log_to_driver: bool = False, num_gpus: int | None = None
) -> Iterator[None]:
    """A Ray session: `local` starts one on this machine (`num_cpus` and `num_gpus` limit it), anything else joins a
    cluster.

    `log_to_driver` shows what workers print, such as the progress of a training.
    """
    # What a stage raises, itself: Ray Data's wrapper forgets it on the way between processes.
    DataContext.get_current().raise_original_map_exception = True
    if ray.is_initialized():  # a notebook's or a test's session is used as it is
        yield
        return
    settings: dict[str, Any] = {"address": address, "logging_level": logging.ERROR, "log_to_driver": log_to_driver}
    if address == "local":
        settings |= {"num_cpus": num_cpus, "num_gpus": num_gpus, "include_dashboard": False,
                     "object_store_memory": OBJECT_STORE_BYTES}  # fmt: skip
    with contextlib.nullcontext() if log_to_driver else _native_stderr_closed():
        ray.init(**settings)
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        DataContext.get_current().enable_progress_bars = False
        try:
            yield
        except Exception as e:
            raise _told(e) from e
        finally:
            ray.shutdown()


@contextlib.contextmanager
def gpus_of_cluster(count: int, report: Callable[[int], None], minutes: float = 30.0) -> Iterator[int]:
    """Asks the autoscaler for `count` GPUs, waits for them, and gives them back at the end; yields how many there are.

    Pools have a fixed size, so all GPUs must be there before the first of them starts (Ray does not let a pool of one
    grow: ray-project/ray#59144). `report` is told how many have come. Raises UserError where none came in time.
    """
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=[{"GPU": 1}] * count)
    try:
        end = time.monotonic() + 60 * minutes
        while (there := int(resources()[1])) < count and time.monotonic() < end:
            report(there)
            time.sleep(POLL_SECONDS)
        if not there:
            raise UserError(
                f"No GPU came in {minutes:g} minutes. `ray status` on the head says why: no spot capacity, a quota of "
                "the account, or a worker whose setup failed. Give the same command again, or process without --gpus."
            )
        report(there)
        yield there
    finally:
        request_resources(bundles=[])


class _StandingStill(BaseException):
    """No Exception: whatever waits for the cluster must let it through."""


@contextlib.contextmanager
def staffed() -> Iterator[Callable[[], None]]:
    """Around a run with pools of a fixed size: UserError where nodes were lost, none came in their place, and the run
    stands still. Yields what is to be called whenever something is done: an autoscaler takes idle nodes, too.

    Ray itself would wait for ever, since the actors of a lost node keep the work that they had in hand.
    """
    wanted, ended = resources(), threading.Event()
    moved = [time.monotonic()]

    def give_up(*_: object) -> None:
        raise _StandingStill

    def watch() -> None:
        while not ended.wait(POLL_SECONDS):
            if all(there >= before for there, before in zip(resources(), wanted, strict=True)):
                moved[0] = time.monotonic()
            elif time.monotonic() - moved[0] > 60 * PATIENCE_MINUTES:
                # Wakes it, too. Not SIGINT: what a shell has put into the background ignores that.
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
                return

    before = signal.signal(signal.SIGUSR1, give_up)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: moved.__setitem__(0, time.monotonic())
    except _StandingStill:
        cpus, gpus = resources()
        raise UserError(
            f"Nodes were lost, and none came in their place in {PATIENCE_MINUTES:g} minutes: {cpus:g} CPUs and "
            f"{gpus:g} GPUs are left of {wanted[0]:g} and {wanted[1]:g}. Give the same command again to go on with "
            "these: nothing is lost."
        ) from None
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        ended.set()
        thread.join()
        signal.signal(signal.SIGUSR1, before)


def _told(error: BaseException) -> BaseException:
    """What the user is told of an error: a UserError that an actor raised, out of the errors that Ray wraps around it;
    one about the cluster where that gave way; else the error itself, a mistake of ours."""
    causes: list[BaseException] = []
    inner: BaseException | None = error
    while inner is not None:
        causes.append(inner)
        inner = getattr(inner, "cause", None) or inner.__cause__
    for cause in causes:
        if isinstance(cause, UserError):
            return UserError(*(str(text).partition(RETRIED)[0] for text in cause.args))
    for cause in causes:
        if isinstance(cause, ray.exceptions.OutOfDiskError):
            return UserError(
                "The disk on which Ray keeps what does not fit into memory is full (/tmp/ray, or what `ray start "
                "--temp-dir` says). Make room and give the same command again: nothing is lost."
            )
        if isinstance(cause, CLUSTER_ERRORS):
            first = str(cause).strip().partition("\n")[0]
            return UserError(
                f"The cluster gave way ({type(cause).__name__}: {first}). `ray status` says what is left of it. Give "
                "the same command again: nothing is lost."
            )
    return error


@contextlib.contextmanager
def _native_stderr_closed() -> Iterator[None]:
    """Keeps Ray's C++ side from writing warnings between our lines; what Python writes to stderr still arrives.

    Its logs are in the session's folder. (Its own switch, RAY_BACKEND_LOG_LEVEL, announces itself on every start.)
    """
    native, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    python, ours = sys.stderr, os.fdopen(os.dup(native), "w", buffering=1)
    os.dup2(nowhere, 2)
    sys.stderr = ours
    try:
        yield
    finally:
        if sys.stderr is ours:
            sys.stderr = python
        ours.close()
        os.dup2(native, 2)
        os.close(native)
        os.close(nowhere)


def resources() -> tuple[float, float]:
    """CPUs and GPUs of the cluster."""
    total = ray.cluster_resources()
    return total.get("CPU", 1.0), total.get("GPU", 0.0)


def of_this_machine() -> tuple[float, float]:
    """CPUs and GPUs that a local session would have."""
    import torch

    return float(os.cpu_count() or 1), float(torch.cuda.device_count())
