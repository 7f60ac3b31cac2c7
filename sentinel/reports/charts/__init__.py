"""Pictures of a run as Vega-Lite specifications: one chart in one file.

Each chart function takes plain rows and a `Theme` and returns a specification as a dict;
`sentinel.reports.charts.drawing` turns it into SVG or PNG. What is drawn from where in the health
log is told in `sentinel.reports.picture`.
"""
