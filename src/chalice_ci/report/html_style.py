"""How `report.html` looks, in light and in dark."""

from __future__ import annotations

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Nothing is fetched and nothing runs."""

CSS = """
:root {
  color-scheme: light dark;
  --ink: #1f2328; --dim: #59636e; --page: #ffffff; --panel: #f6f8fa; --line: #d1d9e0;
  --added: #1a7f37; --changed: #9a6700; --removed: #d1242f; --link: #0969da;
  --own: #2f6fdb; --tone0: #57606a; --tone1: #6e5494; --tone2: #1b7c83; --tone3: #8a5a1f;
  --tone4: #3e7a3e; --tone5: #94496a; --tone6: #4b6a9b; --tone7: #7a6a2f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e6edf3; --dim: #9198a1; --page: #0d1117; --panel: #151b23; --line: #3d444d;
    --added: #3fb950; --changed: #d29922; --removed: #f85149; --link: #4493f8;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
main { max-width: 1140px; margin: 0 auto; padding: 24px 20px 60px; }
h1 { font-size: 26px; margin: 0; }
h1.failed, h1.findings { color: var(--removed); }
h2 { font-size: 20px; margin: 36px 0 4px; padding-top: 14px; border-top: 2px solid var(--line); }
h3 { font-size: 16px; margin: 22px 0 6px; }
h4 { font-size: 15px; margin: 16px 0 4px; }
p { margin: 4px 0; overflow-wrap: anywhere; }
a { color: var(--link); }
.dim { color: var(--dim); font-size: 13px; }
.note { border-left: 3px solid var(--link); padding-left: 10px; }
code, pre { font: 13px/1.45 ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace; }
code { background: var(--panel); padding: 1px 4px; border-radius: 4px; overflow-wrap: anywhere; }
pre {
  background: var(--panel); margin: 6px 0; padding: 8px 10px; border-radius: 6px;
  white-space: pre-wrap; overflow-wrap: anywhere;
}
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: 8px 0; }
th, td { text-align: left; vertical-align: top; padding: 5px 10px; border: 1px solid var(--line); }
th { background: var(--panel); font-weight: 600; }
del { color: var(--removed); } ins { color: var(--added); text-decoration: none; }
.alert {
  border: 1px solid var(--line); border-left: 4px solid var(--link); border-radius: 6px;
  padding: 8px 12px; margin: 8px 0;
}
.alert.error { border-left-color: var(--removed); }
.alert.warning { border-left-color: var(--changed); }
.key { font-weight: 700; margin-right: 12px; } td > .key { margin: 0; }
td:has(> .key:only-child) { width: 34px; }
.key.added { color: var(--added); } .key.changed { color: var(--changed); }
.key.removed { color: var(--removed); }
svg { width: 100%; height: auto; display: block; margin: 8px 0; }
svg text { font: 11px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
.graph text { fill: var(--ink); } .graph text.column { fill: var(--dim); font-weight: 600; }
.graph .edge { fill: none; stroke: var(--dim); stroke-opacity: .45; }
.graph .node rect { fill: var(--panel); stroke: var(--line); }
.graph .added rect { stroke: var(--added); stroke-width: 2; }
.graph .changed rect { stroke: var(--changed); stroke-width: 2; }
.graph .removed rect { stroke: var(--removed); stroke-width: 2; stroke-dasharray: 5 3; }
.graph .added text { fill: var(--added); } .graph .changed text { fill: var(--changed); }
.graph .removed text { fill: var(--removed); text-decoration: line-through; }
.treemap rect.group { fill: var(--fill); stroke: var(--page); stroke-width: 2; }
.treemap rect.part { fill: #ffffff; fill-opacity: .13; stroke: var(--page); stroke-opacity: .6; }
.treemap text { fill: #ffffff; } .treemap text.head { font-weight: 600; }
.treemap .own { --fill: var(--own); }
.treemap .tone0 { --fill: var(--tone0); } .treemap .tone1 { --fill: var(--tone1); }
.treemap .tone2 { --fill: var(--tone2); } .treemap .tone3 { --fill: var(--tone3); }
.treemap .tone4 { --fill: var(--tone4); } .treemap .tone5 { --fill: var(--tone5); }
.treemap .tone6 { --fill: var(--tone6); } .treemap .tone7 { --fill: var(--tone7); }
@media print { main { max-width: none; } section { break-inside: auto; } }
"""
