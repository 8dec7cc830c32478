"""Tasks that need a memory, each with one dial and with scores known beforehand: ``memory/tmaze-50``.

:mod:`.domain` has the table, the protocols and the names; :mod:`.recall`, :mod:`.tracking`, :mod:`.bandit`
and :mod:`.keydoor` have the families; :mod:`.layout` is the vector that all of them are seen in.
``docs/explanation/memory-tasks.md`` tells what is asked, what chance and the best earn, and what theory
expects.
"""
