"""The commands: parse, call, print. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

from collections.abc import Sequence

from cyclopts import App, CycloptsError, Parameter

from impasto import __version__
from impasto.cli import (
    about,
    bench,
    branching,
    comparing,
    compat,
    data,
    exporting,
    files,
    layers,
    plan,
    queue,
    runs,
    scoring,
    sweep,
    training,
    ui,
    weights,
)
from impasto.cli.usage import PlainHelp
from impasto.errors import ConfigError, Problem

EPILOGUE = "Settings: `impasto explain`. Every command takes --help, and --debug to show where an error came from."

app = App(
    name="impasto",
    help="Train LoRA adapters for text-to-image diffusion models.",
    help_epilogue=EPILOGUE,
    help_formatter=PlainHelp(),
    version=__version__,
    default_parameter=Parameter(negative=(), consume_multiple=False),
    result_action="return_value",
)
for command in (
    about.new,
    training.train,
    training.resume,
    sweep.app,
    plan.plan,
    data.app,
    training.plot,
    runs.app,
    runs.show,
    runs.stop,
    runs.save,
    runs.preview,
    queue.app,
    queue.worker,
    files.sample,
    comparing.compare,
    scoring.score,
    comparing.diff,
    branching.fork,
    branching.rerun,
    branching.pack,
    files.inspect,
    weights.app,
    files.cache,
    layers.layers,
    compat.export_kohya,
    about.explain,
    about.schema,
    about.doctor,
    bench.app,
    about.quickstart,
    about.version,
    ui.ui,
):
    app.command(command)
runs.app.command(exporting.export)
app.command(compat.import_, name="import")
app.command(comparing.count, name="votes")


def run(arguments: Sequence[str]) -> None:
    """Carry out one command line. A usage error becomes a ConfigError (exit code 2)."""
    try:
        app(list(arguments), exit_on_error=False, print_error=False)
    except CycloptsError as error:
        what = " ".join(str(error).split())
        command = " ".join(error.command_chain or ())
        fix = f"see `impasto {command} --help`" if command else "see `impasto --help`"
        raise ConfigError(Problem("E-CLI-001", what, "command line", fix)) from None
