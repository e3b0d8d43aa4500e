"""One file that tells a rollout's story to somebody who was not there: what, when, why, and the evidence for it.

Read in this order: `story` (all that is told, as plain values), `series` (a gate's figures, poll by poll), `telling`
(who did what, and what went wrong), `charts` and `captions` (what is drawn, and said of it), then the two faces,
`markdown` and `html` with `svg`. All of these are pure; `gather` reads the store, and `file` writes the report.
"""
