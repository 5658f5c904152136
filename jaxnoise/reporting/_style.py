"""What a page looks like: one sheet for light and dark, narrow and wide."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="jaxnoise-format-version" content="{version}">
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
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p, figcaption { max-width: 46rem; }
.soft, figcaption, .caption { color: var(--soft); font-size: .9rem; }
.warning { border-left: 4px solid #d55e00; padding: .5rem .8rem; background: var(--card); }
.grid { display: grid; gap: 1.2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(24rem, 100%), 1fr)); }
.cards { grid-template-columns: repeat(auto-fit, minmax(min(11rem, 100%), 1fr)); gap: .8rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
  padding: .8rem 1rem; }
.card b { display: block; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
.card span { color: var(--soft); font-size: .85rem; }
figure { margin: 0; }
svg { width: 100%; max-width: 36rem; height: auto; display: block; }
.wide { overflow-x: auto; max-width: 100%; }
.wide tr > :first-child { position: sticky; left: 0; background: var(--paper); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
.caption { margin: .8rem 0 .2rem; }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
tbody th { font-weight: 400; }
thead th { border-bottom: 1px solid var(--line); font-weight: 600; }
.heat td { min-width: 3.2rem; padding: .25rem .3rem; text-align: center;
  border: 1px solid var(--paper); }
.heat th { text-align: center; font-weight: 500; }
.heat th:first-child { text-align: left; min-width: 0; }
.heats { grid-template-columns: repeat(auto-fill, minmax(min(28rem, 100%), 1fr)); }
.means tr > :last-child, .means tbody tr:last-child > * { font-weight: 700; }
.facts th, .facts td, .settings th, .settings td { text-align: left; vertical-align: top; }
.facts td { white-space: normal; overflow-wrap: anywhere; }
.scores small { display: block; color: var(--soft); font-size: .8rem; }
.scores td { vertical-align: top; }
.scores tbody th { vertical-align: top; white-space: normal; min-width: 8rem; }
.scores thead th { white-space: normal; vertical-align: bottom; min-width: 6rem; }
.scores thead th:last-child { min-width: 0; }
.strip img { display: block; height: 4.2rem; width: auto; max-width: none;
  image-rendering: pixelated; }
.strip td { text-align: left; padding: .15rem .6rem; }
.strip tbody th { vertical-align: middle; }
.strip .heads { display: flex; }
.strip .heads span { flex: 1; text-align: center; font-weight: 500; font-size: .85rem; }
.pairs td:nth-child(2), .pairs th:nth-child(2) { text-align: left; }
.pair { display: flex; flex-wrap: wrap; gap: 1.2rem 3rem; align-items: start; }
.pair > div { max-width: 100%; }
.bar { display: block; width: 7rem; height: .7rem; background: var(--line); border-radius: .2rem; }
.bar i { display: block; height: 100%; background: var(--series-0, #0072b2); border-radius: .2rem; }
.samples { display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fill, minmax(5rem, 1fr)); }
.samples img { width: 100%; display: block; border-radius: .2rem; }
.small img { image-rendering: pixelated; }
.samples figcaption { font-size: .8rem; line-height: 1.3; padding-top: .2rem; color: var(--ink);
  overflow-wrap: anywhere; }
.wrong img { outline: 2px dashed #d55e00; outline-offset: 1px; }
@media (max-width: 32rem) {
  .heat { font-size: .8rem; }
  .heat th, .heat td { padding: .2rem .1rem; min-width: 2.2rem; }
  .wide tbody th { white-space: normal; min-width: 5rem; max-width: 9rem; }
  .numbers tbody th { min-width: 8rem; }
  .bar { width: 4rem; }
}
summary { cursor: pointer; margin: .6rem 0; }
pre { overflow-x: auto; background: var(--card); padding: .8rem; border-radius: .5rem;
  font-size: .82rem; line-height: 1.4; }
"""
