"""Tables as HTML, for notebooks: what they hold is escaped, and what is hidden in it is shown."""

from __future__ import annotations

from collections.abc import Sequence

from lram.harness.words import visible

_TEMPLATE = """\
<table>
<caption style="text-align: left">{{ caption }}</caption>
<thead><tr>{% for head in header %}<th style="text-align: left">{{ head }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in rows -%}
<tr>{% for cell in row %}<td style="text-align: left">{{ cell }}</td>{% endfor %}</tr>
{% endfor -%}
</tbody>
</table>
{% for note in notes -%}
<p>{{ note }}</p>
{% endfor -%}
"""


def html_table(
    caption: str, header: Sequence[str], rows: Sequence[Sequence[object]], notes: Sequence[str] = ()
) -> str:
    """Return a table with a caption above and notes below it, all of them as text."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(_TEMPLATE).render(
        caption=visible(caption),
        header=[visible(head) for head in header],
        rows=[[visible(str(cell)) for cell in row] for row in rows],
        notes=[visible(note) for note in notes],
    )
