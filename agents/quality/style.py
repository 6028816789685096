"""The style sheet of the page: light and dark, no font or picture from outside. `page` puts it into the head."""

STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1b1f24; --soft: #57606a; --paper: #ffffff; --sheet: #f6f8fa; --line: #d0d7de;
  --data: #1f6fb2; --alert: #b3420a; --ok: #1a6b34; --ok-paper: #dff3e4; --alert-paper: #fde8dc;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e6edf3; --soft: #9aa5b1; --paper: #0f141a; --sheet: #171d25; --line: #333c47;
    --data: #58a6e6; --alert: #ff9a5c; --ok: #6fd08c; --ok-paper: #143122; --alert-paper: #40220f;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 72rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { margin: 0 0 .5rem; font-size: 1.6rem; overflow-wrap: anywhere; }
h2 { margin: 2rem 0 .5rem; font-size: 1.15rem; }
p { margin: .25rem 0 .75rem; color: var(--soft); }
dl { display: flex; flex-wrap: wrap; gap: .25rem 2rem; margin: 0; }
dt { color: var(--soft); font-size: .85rem; }
dd { margin: 0; overflow-wrap: anywhere; }
.table, .drawing { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }
.long { max-height: 30rem; overflow-y: auto; }
.table:focus-visible, .drawing:focus-visible, summary:focus-visible {
  outline: 2px solid var(--data); outline-offset: 2px; }
table { width: 100%; border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
th, td { padding: .35rem .75rem; text-align: left; vertical-align: top; border-top: 1px solid var(--line); }
thead th { position: sticky; top: 0; background: var(--sheet); border-top: 0; white-space: nowrap; }
tbody th { font-weight: 600; white-space: nowrap; }
.badge { display: inline-block; padding: 0 .6rem; border-radius: 1rem; white-space: nowrap;
  border: 1px solid currentColor; }
.ok { color: var(--ok); background: var(--ok-paper); }
.look { color: var(--alert); background: var(--alert-paper); font-weight: 600; }
.unknown { color: var(--soft); }
details { margin-top: .75rem; }
summary { cursor: pointer; padding: .25rem 0; }
svg { display: block; width: 100%; min-width: 44rem; height: auto; font: 12px system-ui, sans-serif; }
svg text { fill: var(--soft); }
svg .title { fill: var(--ink); font-weight: 600; }
svg .value { text-anchor: end; }
svg .time { text-anchor: middle; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .axis { stroke: var(--soft); stroke-width: 1; }
svg .bars, svg .band { fill: var(--data); }
svg .band { stroke: var(--data); stroke-width: .75; }
svg .mark, svg .stretch { fill: var(--alert); }
svg .pick { fill: transparent; }
svg .pick:hover { fill: var(--ink); fill-opacity: .08; }
footer { margin-top: 2rem; font-size: .85rem; }
@media print { .long { max-height: none; } }
"""
