"""``lram env``: interpreters of a domain's own; a file a subcommand."""

from __future__ import annotations

from cyclopts import App

from lram.harness.cli.env import check, install, list, remove

app = App(name="env", help="Interpreters of a domain's own: install, list, remove and check them.")
app.command(check.check, name="check")
app.command(install.install, name="install")
app.command(list.list_, name="list")
app.command(remove.remove, name="remove")
