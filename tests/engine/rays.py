"""A sweep on a Ray cluster of two nodes, one of which is killed while it trains; as a program, for tests.

python -m tests.engine.rays FOLDER
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import ray
import torch
from ray.cluster_utils import Cluster

from impasto import events
from impasto.engine import on_ray
from impasto.engine.sweeping import train_group
from impasto.families import tiny
from impasto.sweeps.folder import Rung, SweepFolder
from impasto.sweeps.mirror import Mirror
from impasto.weights import file
from tests.engine import forks, sweeps

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}
STEPS = 100


def main(folder: Path) -> None:
    """Two bases, a node for each. One node dies; what comes out is what comes out where none does."""
    torch.set_num_threads(1)
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")  # the nodes' too
    bases = [tiny.stable_diffusion(folder / name, seed=seed) for seed, name in enumerate(("one", "two"))]
    pictures = forks.pictures(folder / "pictures")
    forks.pictures(folder / "held", 2)
    given = [
        f"model.path={bases[0]},{bases[1]}",
        "adapter.rank=2,3",
        "sweep.halving.eta=2",
        "sweep.halving.rungs=[60]",
    ]
    given += [f"train.steps={STEPS}"]
    begun = time.monotonic()
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    other = cluster.add_node(**NODE)
    ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
    print(f"two nodes after {time.monotonic() - begun:.0f} s", flush=True)
    settings = sweeps.settings(folder, bases[0], pictures, name="rays")
    far = sweeps.begun(settings, [*given, f"sweep.storage={folder / 'storage'}"])
    doomed = str(other.node_id)
    killed: list[int] = []
    killer = threading.Thread(target=_kill, args=(far, doomed, lambda: cluster.remove_node(other), killed))
    killer.start()
    told: list[str] = []
    on_ray.train(far, None, lambda text: (told.append(text), print(text, flush=True))[0])
    killer.join()
    ray.shutdown()
    cluster.shutdown()
    print(f"trained after {time.monotonic() - begun:.0f} s", flush=True)

    assert killed, "nothing was killed"
    (number,) = killed
    assert any("lost" in text for text in told), told
    group = far.group(number)
    assert group.is_done
    resumed = [
        each.step
        for run in group.runs()
        for each in events.read(run.events)
        if isinstance(each, events.Resumed) and each.step > 0
    ]
    assert resumed, "the lost group began anew"
    near = sweeps.begun(sweeps.settings(folder, bases[0], pictures, name="near"), given)
    near.make_groups(near.runs())
    train_group(near, number, cache=folder / "cache")
    _same(near, far, number)
    print(f"node lost; group {number} went on from step {max(resumed)} elsewhere; the same weights and decisions")


def _kill(folder: SweepFolder, node: str, kill: object, killed: list[int]) -> None:
    """Kill a node as soon as the group that trains on it has kept something."""
    until = time.monotonic() + 200
    plan = folder.plan()
    assert plan.sweep.storage
    while time.monotonic() < until:
        for place in sorted(Path(plan.sweep.storage).glob("*/*")):
            newest = Mirror(plan.sweep.storage, f"{place.parent.name}/{place.name}").newest()
            if newest is None or newest.by != node or not any("/checkpoints/" in name for name in newest.files):
                continue
            assert not any(name.endswith("ended.json") for name in newest.files), "it was too quick to be killed"
            killed.append(int(place.name))
            kill()  # type: ignore[operator]
            return
        time.sleep(0.02)


def _same(near: SweepFolder, far: SweepFolder, number: int) -> None:
    """The group decided the same for the same reasons, and ended the same to the bit."""
    finals = [
        {run.name.removeprefix(folder.plan().name): run.final for run in folder.group(number).runs()}
        for folder in (near, far)
    ]
    assert finals[0].keys() == finals[1].keys()
    whole = [name for name, path in finals[0].items() if path.is_file()]
    assert len(whole) == 1
    for name in finals[0]:
        assert finals[0][name].is_file() == finals[1][name].is_file()
    assert forks.same(*(file.load(each[whole[0]])[0] for each in finals))
    one, other = (folder.decided(number).rungs for folder in (near, far))
    assert list(map(_anonymous, one)) == list(map(_anonymous, other))
    assert len(one) == 1


def _anonymous(rung: Rung) -> tuple[object, ...]:
    return rung.step, list(rung.losses.values()), list((rung.dropped or {}).values())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
