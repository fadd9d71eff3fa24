"""The style of verify_page.py's page: light and dark by the reader's setting, nothing loaded."""

STYLE = """
:root { color-scheme: light dark; --ink: #1a1d21; --soft: #5b636d; --paper: #fbfbf9;
  --card: #ffffff; --line: #e2e3df; --good: #1a7f4b; --bad: #c02b2b; --idle: #8a9099;
  --tint: #fdf0ee; --c0: #2563c9; --c1: #c2620a; --c2: #12805c; --c3: #8a3fc0; --c4: #b8326f;
  --c5: #0b7f95; --ours: #2563c9; --theirs: #a9b0b9; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e9ec; --soft: #9ba3ad; --paper: #14171a;
  --card: #1c2024; --line: #31363c; --good: #4cc38a; --bad: #ff7b72; --idle: #79808a;
  --tint: #33201f; --c0: #6ea8fe; --c1: #f0a04b; --c2: #4fd1a5; --c3: #c792ea; --c4: #f28ab2;
  --c5: #56cfe1; --ours: #6ea8fe; --theirs: #59616b; } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif }
main { max-width: 920px; margin: 0 auto; padding: 32px 20px 64px }
h1 { font-size: 32px; line-height: 1.2; margin: 8px 0; overflow-wrap: anywhere }
h2 { font-size: 20px; margin: 0 0 6px } h3 { font-size: 15px; margin: 18px 0 6px }
p { margin: 8px 0 } .lead { font-size: 17px } .note { color: var(--soft); font-size: 14.5px }
.badge { display: inline-block; margin: 0; padding: 4px 14px; border-radius: 999px; color: #fff;
  font-weight: 650; background: #6b7280 }
.proved .badge { background: #1a7f4b } .refused .badge { background: #c02b2b }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 20px 22px; margin-top: 18px }
.tiles { display: grid; gap: 12px; margin-top: 20px;
  grid-template-columns: repeat(auto-fit, minmax(135px, 1fr)) }
.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 12px 14px }
.tiles b { display: block; font-size: 22px; white-space: nowrap;
  font-variant-numeric: tabular-nums }
.tiles span { color: var(--soft); font-size: 13px; line-height: 1.3; display: block }
pre, code { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace }
code { overflow-wrap: anywhere }
pre { background: var(--paper); border: 1px solid var(--line); border-radius: 8px;
  padding: 10px 12px; margin: 6px 0; white-space: pre-wrap; overflow-wrap: anywhere }
.found { border-left: 4px solid var(--bad) }
.row { display: grid; grid-template-columns: 118px minmax(0, 1fr) 62px; gap: 10px;
  align-items: center; font-size: 14px }
.label { overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
.value { font-variant-numeric: tabular-nums; color: var(--soft); white-space: nowrap }
.value.bad, .bad { color: var(--bad) } .value.bad { font-weight: 650 }
.good { color: var(--good) } .idle { color: var(--idle) }
.track { width: 100%; height: 24px; display: block; overflow: visible }
.tick { stroke: var(--line) } .bound { stroke: var(--bad); stroke-width: 2 }
.beyond { fill: var(--tint) }
.mark { stroke: var(--card); stroke-width: 1; opacity: .92 }
.c0 { fill: var(--c0) } .c1 { fill: var(--c1) } .c2 { fill: var(--c2) } .c3 { fill: var(--c3) }
.c4 { fill: var(--c4) } .c5 { fill: var(--c5) }
.keys { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 10px 0 0; font-size: 14px }
.entry { display: inline-flex; align-items: center; gap: 6px }
.ticks { position: relative; height: 20px; font-size: 12px; color: var(--soft) }
.ticks span { position: absolute; transform: translateX(-50%); white-space: nowrap }
.ours { fill: var(--ours) } .theirs { fill: var(--theirs) }
.floor { stroke: var(--ink); stroke-width: 2; stroke-dasharray: 3 2 }
figure { margin: 14px 0 } figcaption { font-size: 14px; margin-bottom: 10px }
.grid { width: 100%; display: block } rect.bad { fill: var(--bad) }
rect.good { fill: var(--good); opacity: .35 }
.key { display: inline-block; width: 11px; height: 11px; border-radius: 3px }
.key.bad { background: var(--bad) } .key.good { background: var(--good); opacity: .45 }
.wide { overflow-x: auto; margin-top: 10px }
table { border-collapse: collapse; font-size: 14px; width: 100% }
th { text-align: left; color: var(--soft); font-weight: 600 }
td, th { padding: 6px 10px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top }
figure td { font-variant-numeric: tabular-nums; white-space: nowrap }
.num { white-space: nowrap; font-variant-numeric: tabular-nums; padding-left: 8px }
.checks td:first-child { min-width: 190px }
th.num { white-space: normal }
.checks td span { color: var(--soft) } .checks td .good { color: var(--good) }
.checks td .bad { color: var(--bad) } .checks td .idle { color: var(--idle) }
summary { cursor: pointer; color: var(--soft); font-size: 14px; margin-top: 10px }
ul { padding-left: 20px; margin: 8px 0 } li { margin: 4px 0 } li i { color: var(--soft) }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 4px 16px;
  font-size: 14px; margin: 12px 0 0 }
dt { color: var(--soft) } dd { margin: 0; overflow-wrap: anywhere }
@media (max-width: 560px) { main { padding: 20px 12px 40px } h1 { font-size: 25px }
  section { padding: 16px 14px } .row { grid-template-columns: 92px minmax(0, 1fr) 52px; gap: 8px }
  .label, .value { font-size: 13px } figure table { font-size: 12px }
  figure td, figure th { padding-right: 6px }
  dl { grid-template-columns: 1fr } dd { margin-bottom: 6px } }
"""
