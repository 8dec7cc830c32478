"""``lram env list``: the interpreters that are installed."""

from __future__ import annotations

from dataclasses import asdict

from lram.agents.shown import few
from lram.harness.cli.options import JsonOption
from lram.harness.cli.printing.output import print_json, print_table


def list_(*, json: JsonOption = False) -> None:
    """List the interpreters that are installed, and what is left of installs that did not end."""
    from lram.harness.data_folder import data_folder
    from lram.harness.interpreters.folder import places
    from lram.harness.interpreters.sources import short_commit
    from lram.harness.interpreters.state import state

    found = places()
    if json:
        print_json(
            [
                {"domain": one.domain, "folder": str(one.folder), "state": state(one)}
                | (asdict(one.interpreter) if one.interpreter is not None else {})
                for one in found
            ]
        )
        return
    if not found:
        print(f"none in {data_folder()}; 'lram env install DOMAIN' installs one")
        return
    rows = []
    for one in found:
        its = one.interpreter
        shown = f"{its.python}: {few(its.requirements, 3)}" if its is not None else ""
        rows.append((one.domain, state(one), shown, str(one.folder)))
    print_table(("domain", "state", "python and requirements", "folder"), rows)
    for one in found:
        for source in one.interpreter.sources if one.interpreter is not None else ():
            commit = short_commit(source.commit)
            print(f"\n{one.domain} uses {source.module} in {source.path} ({commit}; {source.licence})")
