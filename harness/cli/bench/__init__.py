"""``lram bench``: how fast models decide and are trained; a file a subcommand."""

from __future__ import annotations

from cyclopts import App

from lram.harness.cli.bench import model, train

app = App(
    name="bench",
    help="Measure how fast models decide and are trained, on this machine.",
    help_flags=["--help", "-h"],
)
app.command(model.model, name="model")
app.command(train.train, name="train")
