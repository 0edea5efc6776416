"""The trackers of a run: begun when it is ready, told of when they fail, closed when it is over."""

from __future__ import annotations

from collections.abc import Callable

from impasto import events
from impasto.config import RunConfig
from impasto.events import Event
from impasto.runs.folder import RunFolder
from impasto.track import tracker
from impasto.track.config import Where
from impasto.track.follow import Follow

_NAMES: dict[Where, str] = {"tensorboard": "TensorBoard", "wandb": "Weights & Biases"}


class Trackers:
    """Where the settings send a run's curves. Nothing that happens there happens to the training."""

    def __init__(self, config: RunConfig, folder: RunFolder, tell: Callable[[Event], None]) -> None:
        self._config = config
        self._folder = folder
        self._tell = tell
        self._following: dict[Where, Follow] = {}
        self._seen: set[Where] = set()

    def begin(self, step: int) -> None:
        """The run goes on from `step`, and has told so."""
        track, folder = self._config.track, self._folder
        settings = self._config.model_dump(mode="json")
        for where in track.to:
            made = tracker(where, track, folder.path, self._config.name, settings)
            self._following[where] = Follow(made, folder.events, folder.previews, step)

    def look(self) -> None:
        """Tell once of each where it is to be seen, and once if it has failed."""
        for where, each in list(self._following.items()):
            if each.place and where not in self._seen:
                self._seen.add(where)
                self._tell(events.Noted(text=f"curves in {_NAMES[where]}: {each.place}"))
            if each.failure:
                del self._following[where]
                text = f"{_NAMES[where]} gets no more of this run ({each.failure}); the run's folder has it all, and "
                text += f"`impasto runs export {self._config.name} --to {where}` sends it later"
                self._tell(events.Warned(code="W-TRK-001", text=text))

    def close(self) -> None:
        """The run is over: hand over the rest."""
        for each in self._following.values():
            each.close()
        self.look()
        self._following.clear()
