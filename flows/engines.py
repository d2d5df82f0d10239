"""Where tasks run: in this machine's lanes, or on the worker processes of a Dask or Ray cluster.

The flows are the same. On a cluster a unit of work runs inside the worker process itself, which
loads a model once and keeps it. A worker that dies is replaced by the cluster, which also hands
its task to another; receipts make that harmless. Dask and Ray are imported when they are asked for.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from prefect import Task
from prefect.futures import PrefectFuture
from prefect.settings import get_current_settings
from prefect.task_runners import TaskRunner

from storage.errors import ConfigurationError
from storage.exclusive import check_exclusive
from storage.receipts import Receipt
from storage.urls import redact
from tasks.lanes import open_lanes
from tasks.options import LaneOptions, required

_current: list[TaskRunner[Any]] = []
TRIES = 3
"""How often a task may lose its worker before its shard counts as failed."""
ANSWERS_WITHIN = 10
"""Seconds that a cluster may take to let us in."""


@contextmanager
def open_workers(options: LaneOptions, root: str) -> Iterator[None]:
    """The lanes and the cluster that are open already, or else new ones for the block.

    Raises ConfigurationError where workers could not reach a Prefect server, where no cluster
    answers, or where the store of `root` cannot tell several writers apart.
    """
    if options.lanes > 1 or options.kind != "local":
        check_exclusive(root)
    with ExitStack() as stack:
        stack.enter_context(open_lanes(options.lanes, options.timeout))
        if options.kind != "local" and not _current:
            check_server(options.kind)
            required(options.kind)
            if options.kind == "ray" and options.address:
                stack.enter_context(_joined_ray(options))
            runner = _dask(options) if options.kind == "dask" else _ray(options)
            stack.enter_context(runner)
            stack.enter_context(_remote_options(options))
            _current.append(runner)
            stack.callback(_current.remove, runner)
        yield


def check_server(kind: str) -> None:
    """Refuse a cluster without a server: each of its processes would start one of its own."""
    if kind != "local" and not get_current_settings().api.url:
        raise ConfigurationError(
            f"--engine {kind} needs a Prefect server that its workers reach: "
            "run prefect server start, and set PREFECT_API_URL to its address"
        )


def on_cluster() -> bool:
    """Whether tasks run elsewhere, so that their progress is heard shard by shard."""
    return bool(_current)


def submit(unit: Task[Any, Receipt], job: Any) -> PrefectFuture[Receipt]:
    """Start `unit` on `job` wherever tasks run now."""
    if _current:
        return _current[-1].submit(unit, {"job": job})  # type: ignore[no-any-return]
    return unit.submit(job)


def settled(future: PrefectFuture[Receipt]) -> Any:
    """What a finished task came to: its receipt, or what failed it, its worker's loss included."""
    state = future.state
    if state.is_final():
        return state.result(raise_on_failure=False)
    wrapped = getattr(future, "wrapped_future", None)
    lost = wrapped.exception() if wrapped is not None and hasattr(wrapped, "exception") else None
    return lost or ConnectionError("its worker was lost")


def _dask(options: LaneOptions) -> TaskRunner[Any]:
    import dask
    from prefect_dask.task_runners import DaskTaskRunner

    dask.config.set({"distributed.scheduler.allowed-failures": TRIES})
    if options.address:
        _check_dask(options)
        return _untyped(DaskTaskRunner(address=options.address))
    cluster = {
        "n_workers": max(1, options.lanes),
        "threads_per_worker": 1,
        "processes": True,
        "dashboard_address": None,
        "memory_limit": 0,
    }
    return _untyped(DaskTaskRunner(cluster_kwargs=cluster))


def _ray(options: LaneOptions) -> TaskRunner[Any]:
    from prefect_ray.task_runners import RayTaskRunner

    if options.address:
        return _untyped(RayTaskRunner())  # it takes the one that is joined
    start = {"num_cpus": max(1, options.lanes), "include_dashboard": False, "log_to_driver": False}
    return _untyped(RayTaskRunner(init_kwargs=start))


def _check_dask(options: LaneOptions) -> None:
    from distributed import Client

    join: Any = Client  # untyped, and perhaps not installed
    try:
        join(options.address, timeout=ANSWERS_WITHIN, set_as_default=False).close()
    except (OSError, ValueError) as error:
        raise _unanswered(options) from error


@contextmanager
def _joined_ray(options: LaneOptions) -> Iterator[None]:
    """Be in the cluster at the address: prefect-ray takes `auto` for a wish to start one."""
    import ray

    start: Any = ray.init  # untyped, and perhaps not installed
    try:
        start(address=options.address, log_to_driver=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise _unanswered(options) from error
    try:
        yield
    finally:
        ray.shutdown()


def _unanswered(options: LaneOptions) -> ConfigurationError:
    return ConfigurationError(
        f"--engine {options.kind}@{redact(options.address)}: no such cluster answers; start it, "
        f"or give --engine {options.kind} alone for one of {options.lanes} processes here"
    )


def _untyped(runner: Any) -> TaskRunner[Any]:
    """What comes from an extra that a type checker may not find."""
    made: TaskRunner[Any] = runner
    return made


@contextmanager
def _remote_options(options: LaneOptions) -> Iterator[None]:
    """What Ray is told of every task: one worker process serves any number, and one GPU each."""
    if options.kind != "ray":
        yield
        return
    import ray
    from prefect_ray.context import remote_options

    resources: Any = ray.cluster_resources  # untyped, and perhaps not installed
    gpu = {"num_gpus": 1} if resources().get("GPU") else {}
    with remote_options(num_cpus=1, max_calls=0, max_retries=TRIES, **gpu):
        yield
