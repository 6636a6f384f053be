"""How the page of a drill looks. Colours are those of Okabe and Ito, told apart by colour-blind people; dark ones are
lighter shades of the same. Nothing here is loaded from anywhere."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1a1f26; --soft: #545d69; --line: #d5dae1; --faint: #e9ecf0;
  --ok: #009e73; --bad: #d55e00; --stripe: #ffffff; --idle: #a9b1bc; --window: #e69f00; --window-ink: #7a4f00;
  --master: #0072b2; --on-master: #ffffff; --new: #e69f00; --new-ink: #1a1f26; --struck: #b34700; --other: #0072b2;
  --passed: #00694d; --failed: #b03a00; --incomplete: #6b5200; }
@media (prefers-color-scheme: dark) { :root {
  --page: #12161c; --card: #1b2129; --ink: #e8ecf1; --soft: #a8b3c0; --line: #36404c; --faint: #262e38;
  --ok: #1fbf92; --bad: #ff7f2a; --stripe: #1b2129; --idle: #6b7684; --window: #e69f00; --window-ink: #f5c04d;
  --master: #56b4e9; --on-master: #0c1116; --new: #f5c04d; --new-ink: #0c1116; --struck: #ff9a5c; --other: #56b4e9;
  --passed: #00795a; --failed: #b84300; --incomplete: #7d6100; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 14px/1.45 system-ui, "DejaVu Sans", sans-serif; }
main { max-width: 1260px; margin: 0 auto; padding: 20px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 14px 18px;
  margin-top: 14px; }
h2 { font-size: 16px; margin: 0 0 8px; }
p { margin: 6px 0; }
.soft { color: var(--soft); }
.wide { overflow-x: auto; }
header { display: flex; align-items: center; gap: 18px; flex-wrap: wrap; }
h1 { font-size: 26px; letter-spacing: .04em; margin: 0; padding: 8px 20px; border-radius: 8px; color: #ffffff; }
h1.passed { background: var(--passed); } h1.failed { background: var(--failed); }
h1.incomplete { background: var(--incomplete); }
header div { flex: 1 1 400px; overflow-wrap: anywhere; }
header p { margin: 0; } header .what { font-size: 18px; font-weight: 600; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(255px, 1fr)); gap: 14px; margin-top: 14px; }
.figure { background: var(--card); border: 1px solid var(--line); border-left: 7px solid var(--idle);
  border-radius: 8px; padding: 10px 16px; }
.figure.met { border-left-color: var(--ok); } .figure.missed { border-left-color: var(--bad); }
.figure h2 { font-size: 14px; font-weight: 600; margin: 0; }
.figure .big { font-size: 32px; font-weight: 700; line-height: 1.2; }
.figure small { font-size: 13px; font-weight: 400; color: var(--soft); }
.figure .state { float: right; font-size: 14px; font-weight: 700; margin-top: 12px; }
.figure dl { display: grid; grid-template-columns: auto 1fr; gap: 1px 10px; margin: 4px 0 0; }
dt { color: var(--soft); } dd { margin: 0; }
.reasons { border-left: 7px solid var(--bad); }
ul { margin: 4px 0; padding-left: 20px; overflow-wrap: anywhere; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 10px 4px 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--faint); }
td { max-width: 640px; overflow-wrap: anywhere; }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; border-bottom-color: var(--line); }
.number { text-align: right; white-space: nowrap; overflow-wrap: normal; }
.shards { font-size: 13px; } .shards td { white-space: nowrap; } .shards th { white-space: normal; }
.shards td:nth-child(2) { white-space: normal; min-width: 104px; max-width: 190px; }
.alarm { color: var(--struck); font-weight: 700; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 20px; color: var(--soft); margin: 0 0 8px; }
.legend svg { vertical-align: -2px; margin-right: 6px; }
.topology { display: grid; grid-template-columns: repeat(auto-fit, minmax(330px, 1fr)); gap: 14px 26px; }
.topology.broad { grid-template-columns: 1fr; }
.topology h3 { font-size: 14px; margin: 0 0 4px; }
svg { max-width: 100%; height: auto; } .timeline .wide svg { min-width: 1000px; display: block; }
svg text { font: 12px system-ui, "DejaVu Sans", sans-serif; fill: var(--ink); }
svg .tick, svg .head, svg .caption { fill: var(--soft); } svg .tick { font-size: 11.5px; }
svg .group { font-weight: 600; } svg .small { font-size: 11.5px; }
.grid { stroke: var(--line); stroke-width: .6; } .frame { fill: none; stroke: var(--line); }
.window { fill: var(--window); fill-opacity: .17; } svg .window-word { fill: var(--window-ink); font-weight: 600; }
.moment { stroke: var(--ink); stroke-width: 1; stroke-dasharray: 3 2; } svg .moment-word { font-weight: 600; }
svg .window-word, svg .moment-word, svg .group { paint-order: stroke; stroke: var(--card); stroke-width: 3px; }
.bar-ok { fill: var(--ok); } .bar-idle { fill: var(--idle); } .bar-bad { fill: url(#hatch); }
.bad { fill: var(--bad); } .stripe { fill: var(--stripe); }
.line-struck, .line-other { fill: none; stroke-width: 1.8; }
.line-struck { stroke: var(--struck); } .line-other { stroke: var(--other); stroke-dasharray: 4 2; }
.zone { fill: var(--faint); } .zone.struck { fill: var(--window); fill-opacity: .25; stroke: var(--bad); }
svg .zone-word { font-weight: 600; }
.node rect { fill: var(--card); stroke: var(--master); stroke-width: 1.5; }
.master rect { fill: var(--master); } .master text { fill: var(--on-master); font-weight: 600; }
.new rect { fill: var(--new); stroke: var(--new-ink); } .new text { fill: var(--new-ink); }
.down rect { stroke: var(--bad); stroke-dasharray: 4 2; } .down text { fill: var(--soft); }
.down .cross { stroke: var(--bad); stroke-width: 2.2; fill: none; }
.unclear rect { stroke: var(--idle); stroke-dasharray: 1 2; }
@media print { body { background: #ffffff; } section, .figure { break-inside: avoid; } }
"""
