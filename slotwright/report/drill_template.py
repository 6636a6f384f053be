"""The words of the page of a drill around its numbers: a Jinja template that is also well-formed XML."""

from __future__ import annotations

TEMPLATE = """\
{%- macro table(rows, heads, numbers=(), cls="") %}
<div class="wide"><table class="{{ cls }}">
<thead><tr>{% for h in heads %}<th{% if loop.index0 in numbers %} class="number"{% endif %}>{{ h }}</th>{% endfor -%}
</tr></thead>
<tbody>
{% for row in rows -%}
<tr>{% for c in row %}<td{% if loop.index0 in numbers %} class="number"{% endif %}
{%- if c.title and c.text %} title="{{ c.title }}"{% endif %}>
{%- if c.alarm %}<span class="alarm">{{ c.text }}</span>{% else %}{{ c.text or c }}{% endif %}</td>{% endfor %}</tr>
{% endfor -%}
</tbody></table></div>
{%- endmacro -%}
{%- macro bullets(title, lines, cls="") %}{% if lines %}
<section class="{{ cls }}"><h2>{{ title }}</h2>
<ul>{% for line in lines %}<li>{{ line }}</li>{% endfor %}</ul></section>
{%- endif %}{% endmacro -%}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>Drill {{ drill.id }}: {{ drill.verdict }}</title>
<style>{{ style | safe }}</style>
</head>
<body><main>
<header><h1 class="{{ drill.verdict }}">{{ mark }} {{ drill.verdict | upper }}</h1>
<div><p class="what">{{ sentence }}</p>
<p class="soft">{{ struck }}</p></div></header>
<div class="figures">
{% for f in figures -%}
<div class="figure {{ f.state }}"><h2>{{ f.title }}</h2>
<span class="state">{{ {"met": "✓ ", "missed": "✗ "}[f.state] }}{{ f.word }}</span>
<div class="big">{{ f.measured }}{% if f.note %} <small>{{ f.note }}</small>{% endif %}</div>
<dl><dt>objective</dt><dd>{{ f.objective }}</dd><dt>predicted</dt><dd>{{ f.predicted }}</dd></dl></div>
{% endfor -%}
</div>
{{- bullets(why, drill.reasons, "reasons" if drill.verdict != "passed") }}
{{- bullets("Findings", drill.findings) }}
<section class="timeline"><h2>What clients saw</h2>
{% if timeline -%}
<div class="legend">
<span><svg width="22" height="12"><rect class="bar-ok" width="22" height="12"/></svg>answered</span>
<span><svg width="22" height="12"><rect class="bar-bad" width="22" height="12"/></svg>only failures</span>
<span><svg width="22" height="12"><rect class="bar-ok" width="22" height="12"/>
<rect class="bar-bad" y="7" width="22" height="5"/></svg>some failed</span>
<span><svg width="22" height="12"><rect class="bar-idle" y="5" width="22" height="2"/></svg>nothing tried</span>
<span>upper row of a shard: writes, lower row: reads</span></div>
<div class="wide">{{ timeline | safe }}</div>
{%- else %}<p class="soft">Nothing was measured over time.</p>{% endif %}
</section>
<section><h2>Where the roles were</h2>
{% if pictures -%}
<div class="legend">
<span><svg width="22" height="12" class="node master"><rect x="1" y="1" width="20" height="10" rx="2"/></svg>
{#- #}master</span>
<span><svg width="22" height="12" class="node master new"><rect x="1" y="1" width="20" height="10" rx="2"/></svg>
{#- #}▲ master since the fault</span>
<span><svg width="22" height="12" class="node"><rect x="1" y="1" width="20" height="10" rx="2"/></svg>replica</span>
<span><svg width="22" height="12" class="node down"><rect x="1" y="1" width="20" height="10" rx="2"/>
<path class="cross" d="M7 2l8 8m0 -8l-8 8"/></svg>down</span>
<span>each line is a shard</span></div>
<div class="topology{{ ' broad' if broad }}">
{% for phase, svg in pictures %}<div><h3>{{ phase | capitalize }}</h3>{{ svg | safe }}</div>
{% endfor %}</div>
{%- else %}<p class="soft">The roles were not looked at.</p>{% endif %}
</section>
<section><h2>Shards</h2>{{ table(shards, shard_heads, shard_numbers, "shards") }}
{% if errors %}<p>Errors that clients got:</p><ul>{% for e in errors %}<li>{{ e }}</li>{% endfor %}</ul>{% endif %}
</section>
<section><h2>Lost and altered writes</h2>
<p>{{ totals }}</p>
{% if losses %}{{ table(losses, ("key", "what", "written at (UTC)", "after the fault", "shard"), (3,)) }}{% endif %}
{% if more_losses %}<p class="soft">and {{ more_losses }} more keys</p>{% endif %}
</section>
<section><h2>Prediction and measurement</h2>
{% if predicted %}<p>{{ predicted }}</p>{% endif %}
{{ table(beside, ("", "predicted", "measured", "difference"), (1, 2, 3)) }}
{% if drill.prediction.lines %}<ul>{% for l in drill.prediction.lines %}<li>{{ l }}</li>{% endfor %}</ul>{% endif %}
</section>
<section><h2>Log</h2>
{% if log %}{{ table(log, ("time (UTC)", "after the fault", "what"), (1,)) }}
{%- else %}<p class="soft">Nothing was written down.</p>{% endif %}
</section>
{% if history -%}
<section><h2>Former drills, and this one</h2>{{ table(history, history_heads, (4, 5, 6)) }}</section>
{% endif -%}
</main></body>
</html>
"""
