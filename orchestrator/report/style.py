"""How an HTML report looks: one style sheet, inline, light and dark, on paper too.

Nothing is fetched: fonts are the reader's own. Blue and green differ in lightness as well as in hue, and by the kind of
line; no state is told by colour alone.
"""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #fff; --ink: #17202c; --soft: #55606e; --edge: #dfe3e8; --bar: #17202c; --on-bar: #fff;
  --blue: #2160c4; --green: #15803d; --other: #9333a8; --limit: #a15c00; --fail: #c2410c; --pass: #7a3ea8;
  --good: #dcf5e3; --on-good: #14602f; --bad: #fde3e1; --on-bad: #98201a; --open: #fdf0cd; --on-open: #734a02;
  --info: #dfeafd; --on-info: #1d4694; --none: #e8ebef; --on-none: #48525f; --warm: #e9edf1; --mark: #17202c;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #11161d; --card: #1a212b; --ink: #e7ebf0; --soft: #a3adba; --edge: #323b47; --bar: #0b0f14;
    --blue: #6ba6ff; --green: #4cc274; --other: #d38be3; --limit: #f0b04a; --fail: #ff8552; --pass: #c79bf0;
    --good: #173d25; --on-good: #9be3b3; --bad: #4d1f1d; --on-bad: #ffb3ac; --open: #46360f; --on-open: #f7d684;
    --info: #1b3157; --on-info: #a9c9ff; --none: #2b333e; --on-none: #c0c8d2; --warm: #263040; --mark: #fff;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", Roboto, Helvetica, Arial, sans-serif;
}
header.bar { background: var(--bar); color: var(--on-bar); padding: 10px max(20px, calc(50% - 570px)); display: flex;
  gap: 4px 20px; justify-content: space-between; flex-wrap: wrap; }
header.bar span { opacity: .75; }
main { max-width: 1180px; margin: 0 auto; padding: 20px; }
h1 { font-size: 25px; line-height: 1.25; margin: 4px 0 6px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 0 0 10px; overflow-wrap: anywhere; }
h3 { font-size: 16px; margin: 0; overflow-wrap: anywhere; }
p { margin: 6px 0; overflow-wrap: anywhere; }
.soft, .note-line { color: var(--soft); }
.small { font-size: 13px; }
.card { background: var(--card); border: 1px solid var(--edge); border-radius: 10px; padding: 16px 18px;
  margin: 16px 0; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 16px; }
.pair .card { margin: 0; }
.pill { display: inline-block; border-radius: 11px; padding: 1px 10px; font-size: 13px; font-weight: 600;
  white-space: nowrap; vertical-align: 2px; background: var(--none); color: var(--on-none); }
.pill + .pill { margin-left: 4px; }
.pill.good { background: var(--good); color: var(--on-good); }
.pill.bad { background: var(--bad); color: var(--on-bad); }
.pill.open { background: var(--open); color: var(--on-open); }
.pill.info { background: var(--info); color: var(--on-info); }
code, pre, .mono { font-family: ui-monospace, "SFMono-Regular", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: 13px; }
code { overflow-wrap: anywhere; }
pre { margin: 8px 0 0; padding: 12px; background: var(--page); border: 1px solid var(--edge); border-radius: 6px;
  white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.45; }
dl.facts { display: grid; grid-template-columns: fit-content(40%) minmax(0, 1fr); gap: 4px 16px; margin: 0; }
dl.facts dt { color: var(--soft); } dl.facts dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; font-weight: 600; color: var(--soft); font-size: 13px; white-space: nowrap; }
th, td { padding: 6px 10px 6px 0; border-bottom: 1px solid var(--edge); vertical-align: top; }
tr:last-child td { border-bottom: 0; }
td.num, th.num { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.when { white-space: nowrap; font-variant-numeric: tabular-nums; color: var(--soft); }
td.text { white-space: pre-wrap; overflow-wrap: anywhere; }
td .soft { display: block; font-size: 13px; max-width: 60ch; overflow-wrap: anywhere; white-space: pre-wrap; }
td.nowrap { white-space: nowrap; }
tr.chapter td { font-weight: 600; }
.swatch { display: inline-block; width: 9px; height: 9px; border-radius: 2px; margin-right: 6px; }
.swatch.blue { background: var(--blue); } .swatch.green { background: var(--green); }
.swatch.other { background: var(--other); }
ol.line { list-style: none; display: flex; flex-wrap: wrap; row-gap: 14px; margin: 18px 0 20px; padding: 0; }
ol.line li { position: relative; flex: 1 1 118px; text-align: center; padding: 0 6px; font-size: 14px;
  overflow-wrap: anywhere; }
ol.line li + li::before { content: ""; position: absolute; top: 15px; right: calc(50% + 16px); width: calc(100% - 32px);
  border-top: 2px solid var(--edge); }
ol.line li.passed + li:not(.waiting)::before { border-color: var(--on-good); }
ol.line .dot { display: flex; align-items: center; justify-content: center; width: 32px; height: 32px;
  margin: 0 auto 6px; border-radius: 50%; border: 2px solid var(--edge); background: var(--card); font-weight: 700;
  color: var(--soft); position: relative; }
ol.line .passed .dot { background: var(--green); border-color: var(--green); color: var(--card); }
ol.line .failed .dot { background: var(--on-bad); border-color: var(--on-bad); color: var(--card); }
ol.line .undone .dot { background: var(--limit); border-color: var(--limit); color: var(--card); }
ol.line .running .dot { border-color: var(--blue); color: var(--ink); box-shadow: 0 0 0 4px var(--info); }
ol.line .skipped .dot { border-style: dashed; }
ol.line .waiting, ol.line .skipped { color: var(--soft); } ol.line .running { font-weight: 700; }
.gate { border-top: 1px solid var(--edge); margin-top: 14px; padding-top: 14px; }
.gate .head { display: flex; flex-wrap: wrap; gap: 4px 12px; align-items: baseline; }
.gate table { width: auto; margin: 8px 0 4px; } .gate td, .gate th { padding-right: 26px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 360px), 1fr)); gap: 12px 28px; }
figure { margin: 10px 0 0; min-width: 0; break-inside: avoid; }
.chart-title { font-weight: 600; font-size: 14px; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: 13px; color: var(--soft); margin: 2px 0 4px; }
.legend span { display: inline-flex; align-items: center; gap: 6px; }
svg.chart { display: block; width: 100%; height: auto; max-width: 620px; overflow: visible; }
figcaption { margin-top: 6px; font-size: 12.5px; color: var(--soft); max-width: 620px; }
svg text { font-family: inherit; font-size: 11.5px; fill: var(--soft); }
svg .end { text-anchor: end; } svg .middle { text-anchor: middle; }
svg .note { font-size: 11px; paint-order: stroke; stroke: var(--card); stroke-width: 3px; }
svg text.bound, svg text.tolerated { fill: var(--limit); } svg text.needed, svg text.alone { fill: var(--ink); }
.grid { stroke: var(--edge); stroke-width: 1; fill: none; } .axis { stroke: var(--soft); stroke-width: 1; fill: none; }
.warm-up { fill: var(--warm); }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; stroke: var(--other); }
.line.blue { stroke: var(--blue); } .line.green { stroke: var(--green); }
.line.candidate { stroke-dasharray: 5 4; }
.line.bound { stroke: var(--limit); stroke-width: 1.5; }
.line.tolerated { stroke: var(--limit); stroke-width: 1.5; stroke-dasharray: 1 4; }
.line.fail { stroke: var(--fail); } .line.pass { stroke: var(--pass); stroke-dasharray: 8 4; }
.line.needed { stroke: var(--mark); stroke-width: 1.5; } .line.alone { stroke: var(--mark); stroke-width: 1;
  stroke-dasharray: 2 3; }
.spread { fill: none; opacity: .2; stroke: var(--other); } .spread.blue { stroke: var(--blue); }
.spread.green { stroke: var(--green); } .spread.fail { stroke: var(--fail); } .spread.pass { stroke: var(--pass); }
.spread.tolerated { stroke: none; }
.hit rect { fill: transparent; } .hit:hover rect { fill: var(--soft); opacity: .22; }
footer { color: var(--soft); font-size: 13px; padding: 8px 0 30px; }
@media (max-width: 640px) {
  main { padding: 12px; } .card { padding: 14px; } h1 { font-size: 21px; }
  ol.line { flex-direction: column; row-gap: 10px; }
  ol.line li { flex: none; display: flex; align-items: center; gap: 12px; text-align: left; }
  ol.line .dot { margin: 0; flex: none; }
  ol.line li + li::before { top: -12px; left: 21px; right: auto; width: 0; height: 12px; border-top: 0;
    border-left: 2px solid var(--edge); }
  dl.facts { grid-template-columns: 1fr; gap: 0; } dl.facts dd { margin-bottom: 8px; }
  .gate td, .gate th { padding-right: 14px; }
  svg text { font-size: 13px; } svg .note { font-size: 12px; }
  table.steps, table.steps tbody, table.steps tr, table.steps td { display: block; }
  table.steps thead { display: none; }
  table.steps tr { border-bottom: 1px solid var(--edge); padding: 8px 0; }
  table.steps td { border: 0; padding: 1px 0; white-space: normal; text-align: left; }
  table.steps td:empty { display: none; }
  table.steps td.lead { display: inline-block; margin-right: 8px; vertical-align: top; }
  table.steps td[data-is]::before { content: attr(data-is) ": "; color: var(--soft); }
  table.log td { display: inline; border: 0; padding: 0 6px 0 0; }
  table.log tr { display: block; border-bottom: 1px solid var(--edge); padding: 4px 0; }
  table.log thead { display: none; }
}
@media print {
  :root { --page: #fff; }
  body { font-size: 9.5pt; } main { max-width: none; padding: 0; } h1 { font-size: 16pt; } h2 { font-size: 12pt; }
  header.bar { background: none; color: #000; padding: 0 0 6px; }
  .card { padding: 10px 12px; margin: 10px 0; border-color: #bbb; } .gate { margin-top: 8px; padding-top: 8px; }
  .pair, .charts { grid-template-columns: 1fr 1fr; gap: 10px 18px; } ol.line li { flex-basis: 76px; }
  svg text { font-size: 13px; }
  table, pre, code, figcaption, .small, .pill, td .soft, .legend, th { font-size: 8pt; }
  th, td { padding-bottom: 3px; }
  .gate, .pair .card, tr, figure { break-inside: avoid; } h2, h3, h2 + p { break-after: avoid; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
}
"""
