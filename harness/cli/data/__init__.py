"""``lram data``: trajectories to learn from; a file a subcommand."""

from __future__ import annotations

from cyclopts import App

from lram.harness.cli.data import export, import_, info, rebuild, verify

app = App(
    name="data",
    help="Trajectories to learn from: import and export data sets, look at a store, verify it, rebuild its "
    "index.",
)
app.command(export.export, name="export")
app.command(import_.import_, name="import")
app.command(info.info, name="info")
app.command(rebuild.rebuild, name="rebuild")
app.command(verify.verify, name="verify")
