"""What a page looks like: one sheet for light and dark, narrow and wide."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{sheet}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""

SHEET = """
:root { --paper: #ffffff; --ink: #1b1f24; --soft: #59616b; --line: #d5dae0; --card: #f5f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171a; --ink: #e8eaed; --soft: #a2abb5; --line: #3a4149; --card: #1d2226;
    --series-0: #4aa8e0; --series-1: #f0884a; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
p, figcaption { max-width: 46rem; }
.soft, figcaption, caption { color: var(--soft); font-size: .9rem; }
.warning { border-left: 4px solid #d55e00; padding: .5rem .8rem; background: var(--card); }
.grid { display: grid; gap: 1.2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(19rem, 100%), 1fr)); }
.cards { grid-template-columns: repeat(auto-fit, minmax(min(11rem, 100%), 1fr)); gap: .8rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .8rem 1rem; }
.card b { display: block; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
.card span { color: var(--soft); font-size: .85rem; }
figure { margin: 0; }
svg { width: 100%; max-width: 36rem; height: auto; display: block; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
caption { text-align: left; padding-bottom: .4rem; }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 1px solid var(--line); font-weight: 600; }
.heat td { min-width: 3.2rem; text-align: center; border: 1px solid var(--paper); }
.heat th { text-align: center; font-weight: 500; }
.heat th:first-child { text-align: left; min-width: 0; }
@media (max-width: 32rem) {
  .heat { font-size: .8rem; }
  .heat th, .heat td { padding: .2rem .1rem; min-width: 2.2rem; }
}
.heat tr > :last-child, .heat tbody tr:last-child > * { font-weight: 700; }
.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; vertical-align: top; }
.facts th { text-align: left; font-weight: 500; vertical-align: top; }
summary { cursor: pointer; }
pre { overflow-x: auto; background: var(--card); padding: .8rem; border-radius: .5rem;
  font-size: .82rem; line-height: 1.4; }
"""
