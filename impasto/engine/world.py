"""The ranks: processes that train together, as one of them sees it.

Rank 0 leads. It alone opens run folders, decides what is next and writes; the others plan the same, then do what it
tells them (`impasto/engine/following.py`). What they say to each other goes over a store, a table of keys that all
can reach; numbers go through PyTorch's collectives, on the device by NCCL and on the host by gloo. Nobody ever waits
without looking whether the others are still there.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as pack_tensors
from torch import Tensor
from torch._C._distributed_c10d import TCPStore
from torch.distributed.distributed_c10d import PrefixStore

from impasto.engine.place import Place
from impasto.engine.watch import SILENCE, Watch, packed, unpacked
from impasto.errors import DeviceError, Problem, Stopped, UserError
from impasto.files import JSON

PATIENCE = 20.0
"""Seconds in which rank 0 waits at its end for the others to hear of it."""

SOON, LATER = 0.0002, 0.02
"""Seconds between two looks at what is awaited: at first, and after a while."""


class Ended(Exception):
    """Rank 0 has come to its end."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"rank 0 ended with {code}")


class World:
    """All ranks of a training, and this one among them."""

    def __init__(self, place: Place, patience: float, connect: Callable[[Place], Any] | None = None) -> None:
        """Meet the others. `patience` is how many seconds one rank may keep the others waiting within a step.

        Raises DeviceError (exit code 9) when they do not come together.
        """
        self.place, self.patience = place, patience
        self._base = (connect or _store)(place)
        self._store = PrefixStore(f"impasto/{place.attempt}", self._base)
        self._watch = Watch(
            PrefixStore(f"impasto/{place.attempt}", self._base.clone()), place.rank, place.size, place.parent
        )  # fmt: skip
        self._watch.start()
        self._told, self._meetings = count(), count()
        self._heard = count()
        self._buffer: Tensor | None = None
        self._broken = False

    @property
    def rank(self) -> int:
        """Which one this is."""
        return self.place.rank

    @property
    def size(self) -> int:
        """How many there are."""
        return self.place.size

    @property
    def leads(self) -> bool:
        """Whether this is the one that decides and writes."""
        return self.place.rank == 0

    @property
    def asked_to_stop(self) -> int | None:
        """The signal that came to any of the ranks; rank 0 knows it."""
        return self._watch.asked

    def check(self) -> None:
        """Raise DeviceError if another rank is gone, what it told if it told something, Ended if rank 0 has ended."""
        watch = self._watch
        if (told := watch.farewell) is not None:
            if not self.leads:
                raise Ended(int(str(told["code"])))
            if "error" in told:
                raise unpacked(told, f"on rank {told['rank']}", Problem)
            raise _lost(f"rank {told['rank']} has ended by itself")
        if watch.trouble is not None:
            raise _lost(watch.trouble)

    def cannot_look_up(self) -> None:
        """From here on this rank waits where it cannot look after the others: if one is gone, it is ended."""
        self._watch.blind = True

    # -- words -----------------------------------------------------------------------------------------------------

    def join(self, device: torch.device) -> None:
        """Make the collectives ready; all ranks come here. Raises DeviceError where the library for them is missing."""
        if dist.is_initialized():
            return
        on_gpu = device.type == "cuda"
        if on_gpu and not dist.is_nccl_available():
            fix = "install PyTorch for CUDA on Linux, which brings NCCL; or train on one GPU, without --nproc"
            raise DeviceError(Problem("E-RNK-005", "several GPUs work together by NCCL, which this PyTorch lacks",
                                      "device", fix))  # fmt: skip
        self.meet("join")  # nobody waits within the library for one that is late
        self._watch.blind = True
        try:
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if on_gpu else "gloo", store=PrefixStore("group", self._store),
                rank=self.rank, world_size=self.size, timeout=timedelta(seconds=self.patience + 120),
            )  # fmt: skip
        except RuntimeError as error:
            raise _lost(f"the ranks could not be connected ({_first(error)})") from error
        finally:
            self._watch.blind = False

    def meet(self, name: str, word: str = "") -> list[str]:
        """Wait until all ranks are here; returns the word of each. How long it takes does not matter."""
        key = f"meet/{next(self._meetings)}/{name}"
        self._store.set(f"{key}/{self.rank}", word)
        keys = [f"{key}/{rank}" for rank in range(self.size)]
        self._until(lambda: self._store.check(keys))
        return [each.decode() for each in self._store.multi_get(keys)]

    def tell(self, **message: JSON) -> None:
        """Rank 0 says what is next."""
        number = next(self._told)
        self._store.set(f"next/{number}", json.dumps(message))
        if number > 8:  # all have heard what was said before the last step
            self._store.delete_key(f"next/{number - 8}")

    def hear(self) -> dict[str, Any]:
        """What rank 0 says next; waits for it. How long it takes does not matter."""
        key = f"next/{next(self._heard)}"
        self._until(lambda: self._store.check([key]))
        found: dict[str, Any] = json.loads(self._store.get(key))
        return found

    def pass_on(self, number: int) -> None:
        """A signal came: rank 0 shall know."""
        self._store.set("signal", str(number))

    def complain(self, error: UserError) -> None:
        """Something went wrong with a run here, and the others go on: rank 0 will ask what it was."""
        self._store.set(f"complaint/{self.rank}", json.dumps(packed(error)))

    def complaint(self) -> UserError | None:
        """What another rank complained of."""
        for rank in range(self.size):
            if self._store.check([f"complaint/{rank}"]):
                return unpacked(json.loads(self._store.get(f"complaint/{rank}")), f"on rank {rank}", Problem)
        return None

    # -- numbers ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Make each tensor the sum of those of all ranks, the same to the bit everywhere: one collective for all."""
        size = sum(each.numel() for each in tensors)
        if self._buffer is None or self._buffer.numel() < size or self._buffer.device != tensors[0].device:
            self._buffer = torch.empty(size, device=tensors[0].device)
        joined = self._buffer[:size]
        parts = torch.split(joined, [each.numel() for each in tensors])
        for part, each in zip(parts, tensors, strict=True):
            part.copy_(each.reshape(-1))
        self._finish(dist.all_reduce(joined, async_op=True))
        for part, each in zip(parts, tensors, strict=True):
            each.copy_(part.view_as(each))

    def most(self, number: int) -> int:
        """The largest of the ranks' numbers."""
        found = torch.tensor(number)
        self._finish(dist.all_reduce(found, dist.ReduceOp.MAX, async_op=True))
        return int(found)

    def send(self, tensors: Mapping[str, Tensor], **words: JSON) -> None:
        """Rank 0 gives all others these tensors, with some words."""
        payload = torch.frombuffer(bytearray(pack_tensors({name: _dense(each) for name, each in tensors.items()})),
                                   dtype=torch.uint8)  # fmt: skip
        self.tell(bytes=len(payload), **words)
        self._finish(dist.broadcast(payload, 0, async_op=True))
        self.meet("sent")

    def receive(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What rank 0 sends."""
        words = self.hear()
        payload = torch.empty(words["bytes"], dtype=torch.uint8)
        self._finish(dist.broadcast(payload, 0, async_op=True))
        self.meet("sent")
        return parse_tensors(payload.numpy().tobytes()), words

    # -- the end ---------------------------------------------------------------------------------------------------

    @contextmanager
    def attending(self) -> Iterator[None]:
        """Whatever ends this rank is told to the others; rank 0 waits for them to hear it."""
        farewell: dict[str, JSON] = {"code": 1}
        try:
            yield
            farewell = {"code": 0}
        except UserError as error:
            farewell = packed(error)
            raise
        except Stopped as stopped:
            farewell = {"code": stopped.exit_code}
            raise
        except Ended as ended:
            farewell = {"code": ended.code}
            raise
        finally:
            self._close(farewell)

    def _close(self, farewell: Mapping[str, JSON]) -> None:
        try:
            self._store.set(f"farewell/{self.rank}", json.dumps(farewell))
            others = [f"farewell/{rank}" for rank in range(1, self.size)]
            end = time.monotonic() + PATIENCE
            while self.leads and time.monotonic() < end and not self._gone:
                if all(self._store.multi_get(others)):
                    break
                time.sleep(LATER)
        except RuntimeError:  # the store is gone, and whoever kept it
            pass
        self._watch.stop()
        if self._gone:  # PyTorch's libraries would wait for those that are lost, for as long as they may
            atexit.register(_leave, int(str(farewell["code"])))
        elif dist.is_initialized():
            dist.destroy_process_group()

    @property
    def _gone(self) -> bool:
        """Whether another rank is known to be lost."""
        return self._broken or self._watch.trouble is not None

    # -- waiting ---------------------------------------------------------------------------------------------------

    def _until(self, done: Callable[[], bool]) -> None:
        begun = time.monotonic()
        try:
            while not done():
                self.check()
                time.sleep(SOON if time.monotonic() - begun < 1 else LATER)
        except RuntimeError as error:
            self.check()
            raise _lost("rank 0, or whoever keeps the meeting point of the ranks, is gone") from error

    def _finish(self, work: Any) -> None:
        """Wait for a collective, with an eye on the others; nothing was changed yet when they are gone."""
        begun = time.monotonic()
        while not work.is_completed():
            self.check()
            if (waited := time.monotonic() - begun) > self.patience:
                what = f"another rank has kept this one waiting for {waited:.0f} seconds within a step"
                raise _lost(what, "look what it does; or raise device.rank_timeout")
            time.sleep(0.00005 if waited < 0.1 else 0.001)
        try:
            work.wait()
        except RuntimeError as error:
            self._broken = True
            self._settle()
            raise _lost("the connection to another rank broke") from error

    def _settle(self) -> None:
        """A connection broke: whoever is behind it may have said why, or is about to."""
        end = time.monotonic() + 3
        while time.monotonic() < end:
            self.check()
            time.sleep(LATER)


def _store(place: Place) -> Any:
    """The table of keys that all ranks can reach."""
    keeps = place.rank == 0 and not place.met
    try:
        return TCPStore(
            place.host, place.port, None, keeps, timedelta(seconds=SILENCE if keeps else 60), wait_for_workers=False
        )
    except RuntimeError as error:
        where = f"{place.host}:{place.port}"
        if keeps:
            fix = "start it again, and --nproc takes a free one; or give torchrun another --master-port"
            raise DeviceError(Problem("E-RNK-003", f"port {place.port} is busy or not allowed ({_first(error)})",
                                      where, fix)) from None  # fmt: skip
        fix = "is rank 0 running, is this its address, and does a firewall let the port through?"
        raise DeviceError(Problem("E-RNK-004", "rank 0 cannot be reached", where, fix)) from None


def _leave(code: int) -> None:
    """End now."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _dense(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu").contiguous().clone()


def _first(error: Exception) -> str:
    return str(error).splitlines()[0][:160]


def _lost(what: str, fix: str = "start the same command again; it goes on from the last checkpoint") -> UserError:
    return DeviceError(Problem("E-RNK-010", what, "ranks", fix))
