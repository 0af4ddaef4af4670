"""The page around a report: its skeleton and its style."""

from __future__ import annotations

from yais.load.chart_style import DARK, LIGHT
from yais.load.markup import escape

__all__ = ["page"]

_STYLE = """\
:root {
  color-scheme: light dark;
  --ground: #f4f6fa; --card: #ffffff; --ink: #1c2430; --faint: #596273; --edge: #dfe4ec;
  --good: #1a7f4e; --bad: #c62828; --unsent: #a85f00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #0e1219; --card: #161b24; --ink: #e8ecf3; --faint: #a3adbd; --edge: #2c3442;
    --good: #4cc38a; --bad: #ff7b72; --unsent: #f0b35a;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2rem clamp(0.75rem, 3vw, 2rem) 3rem; max-width: 76rem;
  background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  font-variant-numeric: tabular-nums;
}
h1 { margin: 0; font-size: 1.6rem; line-height: 1.25; overflow-wrap: anywhere; }
h2 { margin: 0 0 0.25rem; font-size: 1.05rem; }
p { margin: 0; }
.faint, figcaption p { color: var(--faint); font-size: 0.875rem; }
.card {
  background: var(--card); border: 1px solid var(--edge); border-radius: 0.75rem; padding: 1rem 1.125rem;
  min-width: 0; margin: 0; overflow-x: auto;
}
.grid { display: grid; gap: 1rem; margin-top: 1rem; }
.tiles { grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); }
.pairs { grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr)); }
.card.figure { display: flex; flex-direction: column; }
.figure svg { margin-top: auto; padding-top: 0.5rem; }
.tile b { display: block; font-size: 1.6rem; line-height: 1.3; font-weight: 650; white-space: nowrap; }
.tile.bad b { color: var(--bad); }
.verdict {
  margin-top: 0.75rem; padding: 0.5rem 0.875rem; border-left: 0.3rem solid; border-radius: 0.375rem;
  background: var(--card); font-weight: 600;
}
.verdict.kept { color: var(--good); }
.verdict.missed { color: var(--bad); }
.remarks { margin: 0.75rem 0 0; padding-left: 1.2rem; }
svg { display: block; width: 100%; height: auto; }
.bar {
  display: flex; gap: 2px; height: 1.5rem; margin: 0.75rem 0; border-radius: 0.375rem; overflow: hidden;
}
.bar span { min-width: 3px; }
.ok { background: var(--good); }
.failed { background: var(--bad); }
.unsent { background: var(--unsent); }
.swatch {
  display: inline-block; width: 0.7rem; height: 0.7rem; border-radius: 0.2rem; margin-right: 0.5rem;
}
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; }
th, td { padding: 0.3rem 0.6rem; text-align: left; vertical-align: top; }
tr > * { border-bottom: 1px solid var(--edge); }
th { font-weight: 500; color: var(--faint); }
tr:last-child > * { border-bottom: 0; }
.number { text-align: right; white-space: nowrap; }
th[scope="row"] { white-space: nowrap; }
.text { overflow-wrap: anywhere; }
.message { padding: 0 0.6rem 0.5rem 1.8rem; color: var(--faint); }
.said > * { border-bottom: 0; }
summary { cursor: pointer; font-weight: 600; }
details[open] summary { margin-bottom: 0.75rem; }
.at > * { visibility: hidden; }
.at rect { visibility: visible; fill: none; pointer-events: all; }
.at:hover > * { visibility: visible; }
@media (max-width: 70rem) {
  .tiles { grid-template-columns: repeat(3, 1fr); }
}
@media (max-width: 34rem) {
  .card { padding: 0.75rem; }
  .grid { gap: 0.75rem; margin-top: 0.75rem; }
  .tiles { grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); }
  .tile b { font-size: 1.35rem; }
  th, td { padding: 0.3rem 0.25rem; }
  svg text { font-size: 17px; }
  .at text { font-size: 14px; }
}
@media print {
  body { background: none; padding: 0; }
  .card { break-inside: avoid; }
}
"""


def page(title: str, body: str) -> str:
    """Return a page that needs nothing besides itself, in HTML that is XML, too.

    Parameters
    ----------
    title
        As text.
    body
        As HTML.
    """
    return f"""<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml" lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"/>
<title>{escape(title)}</title>
<style>
{LIGHT}@media (prefers-color-scheme: dark) {{
{DARK}}}
{_STYLE}</style>
</head>
<body>
{body}
</body>
</html>
"""
