"""A sweep on a Ray cluster: runs that share a base are one task, on whichever node has what they ask for.

The folder here has one conductor, this process. It watches the tasks; where a node is lost, its group goes on elsewhere
from its last checkpoint. The nodes either see the sweep's folder themselves (a shared disk), or work on copies that
travel by a storage (impasto.sweeps.mirror).
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from impasto import files
from impasto.engine.config import Device
from impasto.engine.session import Show
from impasto.engine.signals import StopRequest
from impasto.engine.sweeping import train_group
from impasto.errors import ConfigError, DeviceError, LockedError, Problem, Stopped, UserError
from impasto.runs.group import Ended, GroupFolder
from impasto.sweeps import expand
from impasto.sweeps.folder import SweepFolder
from impasto.sweeps.mirror import Mirror, Superseded

PAUSE, PULL = 0.5, 10.0
"""Seconds between two looks at the tasks, and at the storage."""

TRIES = 4
"""A group that was lost so often in a row with nothing new saved is not tried again."""

FAREWELL = 120.0
"""Seconds for tasks to save when they are asked to stop."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Order:
    """What a task is to do, in words that travel."""

    number: int
    folder: str
    settings: bytes
    state: bytes
    storage: str | None
    place: str
    attempt: int
    strict: bool
    shows: Callable[[], Show] | None


@dataclass
class _Task:
    """A group that trains somewhere."""

    order: Order
    group: GroupFolder
    mirror: Mirror | None
    folders: list[str]
    asks: dict[str, float]
    saved: int
    vain: int = field(default=0)
    """How often it was lost in a row with nothing new saved."""

    def look(self, root: Path) -> None:
        """Bring what the storage has to this machine."""
        if self.mirror is not None:
            self.mirror.pull(root, self.folders)


def train(
    folder: SweepFolder,
    address: str | None,
    tell: Tell,
    *,
    strict: bool = False,
    shows: Callable[[], Show] | None = None,
) -> None:
    """Train all of a sweep that is left to do on a cluster, and wait until it is done.

    `address` is the cluster's; None: the one that this machine is part of, else one that lives as long as this process.
    `shows` makes what is called with every event, where the task runs. Raises what ended a group, or DeviceError for
    one that was lost too often.
    """
    ray = _library()
    stop = StopRequest()
    with folder.hold(), _connected(ray, address), stop.listening(), stop.training():  # Ray must not be interrupted
        runs = folder.runs()
        tasks = []
        for number, (own, group) in enumerate(zip(expand.groups(runs), folder.make_groups(runs), strict=True)):
            task = _task(ray, folder, number, group, [each.name for each in own], own[0].config.device, strict, shows)
            if not group.is_done:
                task.look(folder.path)
            if not group.is_done:
                tasks.append(task)
        _conduct(ray, folder.path, tasks, tell, stop)
    for task in tasks:
        if (ended := task.group.ended()) is not None and (error := ended.error()) is not None:
            raise error


def _task(
    ray: Any, folder: SweepFolder, number: int, group: GroupFolder, names: list[str], device: Device, strict: bool,
    shows: Callable[[], Show] | None,
) -> _Task:  # fmt: skip
    settings, storage = files.read(folder.settings), folder.plan().sweep.storage
    place = f"{folder.path.name}-{hashlib.sha256(settings).hexdigest()[:8]}/{number}"
    folders = [group.path.relative_to(folder.path).as_posix(), *names]
    mirror = None if storage is None else Mirror(storage, place)
    if mirror is not None and mirror.newest() is None:
        mirror.push(folder.path, folders)  # what was trained here before
    state = files.read(folder.names)
    order = Order(number, str(folder.path), settings, state, storage, place, _attempts(mirror), strict, shows)
    return _Task(order, group, mirror, folders, request(device, ray.cluster_resources()), group.state().saved or 0)


def _attempts(mirror: Mirror | None) -> int:
    """How many attempts the storage knows of."""
    newest = None if mirror is None else mirror.newest()
    return 0 if newest is None else newest.attempt


def request(device: Device, cluster: dict[str, float]) -> dict[str, float]:
    """What a task asks of a node. Raises DeviceError where no node can ever give it."""
    gpu = device.name.startswith(("cuda", "xpu")) or (device.name == "auto" and cluster.get("GPU", 0) >= 1)
    asks: dict[str, float] = (
        {"num_cpus": device.threads or 1, "num_gpus": 1} if gpu else {"num_cpus": device.threads or 1}
    )
    if gpu and cluster.get("GPU", 0) < 1:
        fix = 'device.name = "cpu", or a cluster with GPUs'
        raise DeviceError(
            Problem("E-SWP-012", f"no node of the cluster has a GPU for {device.name}", "device.name", fix)
        )
    if asks["num_cpus"] > cluster.get("CPU", 0):
        fix = f"device.threads = {int(cluster.get('CPU', 1)) or 1}"
        what = (
            f"the cluster has {cluster.get('CPU', 0):.0f} processors in all, and a run asks for {device.threads or 1}"
        )
        raise DeviceError(Problem("E-SWP-012", what, "device.threads", fix))
    return asks


def _conduct(ray: Any, root: Path, tasks: list[_Task], tell: Tell, stop: StopRequest) -> None:
    """Hand out all tasks, again where one is lost, until each has come to its end."""
    out: dict[Any, _Task] = {}
    try:
        for task in tasks:
            out[_handed(ray, task)] = task
            tell(f"{task.group.name}: asks for {_words(task.asks)}")
        looked = time.monotonic()
        while out:
            stop.poll()
            done, _ = ray.wait(list(out), timeout=PAUSE)
            for each in done:
                task = out.pop(each)
                ended = _outcome(ray, each, task, tell)
                task.look(root)
                if ended is None or ended.code == LockedError.exit_code:
                    _count(task, ended)
                    out[_handed(ray, task)] = task
                else:
                    task.group.end(ended)
                    tell(f"{task.group.name}: {'; '.join(map(str, ended.problems)) or 'done'}")
            if time.monotonic() - looked > PULL:
                for task in out.values():
                    task.look(root)
                looked = time.monotonic()
    except BaseException:
        _farewell(ray, root, out)
        raise


def _handed(ray: Any, task: _Task) -> Any:
    task.order = replace(task.order, attempt=task.order.attempt + 1)
    remote = ray.remote(_train).options(max_retries=0, name=task.group.name, **task.asks)
    return remote.remote(task.order)


def _outcome(ray: Any, reference: Any, task: _Task, tell: Tell) -> Ended | None:
    """What became of a task; None for one that was lost on the way."""
    try:
        ended: Ended | None = ray.get(reference)
    except (
        ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError,
        ray.exceptions.LocalRayletDiedError, ray.exceptions.TaskUnschedulableError,
    ) as error:  # fmt: skip
        tell(f"{task.group.name}: lost, {str(error).splitlines()[0]}")
        return None
    if ended is None:
        tell(f"{task.group.name}: its node asked it to stop")
    return ended


def _count(task: _Task, ended: Ended | None) -> None:
    """Give a lost group up where it gets nowhere."""
    saved = task.group.state().saved or 0
    task.vain = 0 if saved > task.saved else task.vain + 1
    task.saved = saved
    if task.vain >= TRIES:
        what = f"{task.group.name} was lost {TRIES} times with nothing new saved"
        fix = "the cluster's logs say why; the same command tries again"
        raise (ended and ended.error()) or DeviceError(Problem("E-SWP-008", what, str(task.group.path), fix))
    if ended is not None:  # held by a process that is about to go
        time.sleep(2.0**task.vain)


def _farewell(ray: Any, root: Path, out: dict[Any, _Task]) -> None:
    """Ask all tasks to stop, and wait until they have saved."""
    if not out or not ray.is_initialized():
        return
    for each in out:
        ray.cancel(each)
    ray.wait(list(out), num_returns=len(out), timeout=FAREWELL)
    for task in out.values():
        task.look(root)


def _train(order: Order) -> Ended | None:
    """On a node: train a group, and say what became of it. None: it was asked to stop, and is saved."""
    import ray

    with ExitStack() as held:
        if order.storage is None:
            folder, kept = _shared(Path(order.folder)), lambda: None
        else:
            root = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="impasto-"))) / Path(order.folder).name
            folder = SweepFolder.copied(root, order.settings, order.state)
            names = [run.path.name for run in folder.make_groups(folder.runs())[order.number].runs()]
            folders = [f"groups/{order.number}", *names]
            node = ray.get_runtime_context().get_node_id()
            mirror = Mirror(order.storage, order.place, order.attempt, node)
            mirror.pull(root, folders)
            mirror.push(root, folders)  # from here on it is ours
            kept = lambda: mirror.push(root, folders)  # noqa: E731
        show = order.shows() if order.shows else None
        try:
            train_group(folder, order.number, strict=order.strict, show=show, kept=kept)
        except (Stopped, Superseded):
            return None
        except UserError as error:
            return Ended.by(error)
        finally:
            _at_last(kept)
        return folder.group(order.number).ended()


def _at_last(kept: Callable[[], None]) -> None:
    try:
        kept()
    except Superseded:
        return


def _shared(path: Path) -> SweepFolder:
    folder = SweepFolder(path)
    if not folder.settings.is_file():
        fix = "put output.folder on a disk that all nodes share, or name a storage: sweep.storage=s3://bucket/sweeps"
        raise ConfigError(Problem("E-SWP-011", "a node of the cluster does not see the sweep's folder", str(path), fix))
    return folder


@contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[None]:
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(address=address, logging_level="WARNING")
    except (ConnectionError, ImportError, ValueError) as error:
        fix = "is it there (`ray status`)? if it wants a token, is RAY_AUTH_MODE=token set here, too?"
        what = f"the cluster cannot be reached: {str(error).splitlines()[0]}"
        raise DeviceError(Problem("E-SWP-013", what, address or "--on ray", fix)) from error
    try:
        yield
    finally:
        ray.shutdown()


def _library() -> Any:
    try:
        import ray
    except ImportError:
        what, fix = "Ray is not installed", "`pip install 'impasto[ray]'`, here and on every node"
        raise ConfigError(Problem("E-CFG-046", what, "--on ray", fix)) from None
    return ray


def _words(asks: dict[str, float]) -> str:
    return " and ".join(f"{count:g} {name.removeprefix('num_').rstrip('s').upper()}" for name, count in asks.items())
