"""``lram domains``: the domains that can be played, and their protocols."""

from __future__ import annotations

from lram.envs import registry
from lram.envs.errors import SelectionError
from lram.envs.protocol_id import ProtocolId
from lram.harness.cli.options import JsonOption
from lram.harness.cli.printing.output import print_json, print_table


def domains(*, json: JsonOption = False) -> None:
    """List the domains that can be played, and their protocols; the first is the default."""
    from lram.envs.availability import missing_requirements
    from lram.harness.interpreters import installed
    from lram.harness.interpreters.readiness import ways_to_install

    own = installed()
    adapters, broken = [], []
    for name in registry.domain_names():
        try:
            adapters.append(registry.load_domain(name))
        except SelectionError as error:
            broken.append(str(error))
    broken += registry.file_problems()
    if json:
        print_json(
            [
                {
                    "domain": domain.name,
                    "installed": domain.name in own or not missing_requirements(domain),
                    "interpreter": own[domain.name].path if domain.name in own else None,
                    "install": domain.install,
                    "protocols": [
                        {
                            "name": p.name,
                            "version": p.version,
                            "summary": p.summary,
                            "options": dict(p.options),
                            "versions": dict(p.versions),
                        }
                        for p in domain.protocols
                    ],
                }
                for domain in adapters
            ]
        )
        return
    print_table(
        ("domain", "protocol", "what it is"),
        [
            (domain.name, ProtocolId.parse(p.id(domain.name)).versioned_name, p.summary)
            for domain in adapters
            for p in domain.protocols
        ],
    )
    for domain in adapters:
        if domain.name in own:
            print(f"\n{domain.name} has an interpreter of its own: {own[domain.name].path}")
        elif missing_requirements(domain):
            print(f"\n{domain.name} is not installed here: {ways_to_install(domain)}")
    for problem in broken:
        print(f"\n{problem}")
