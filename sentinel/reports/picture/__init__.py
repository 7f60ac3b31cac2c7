"""A run as a page: what the health log holds, told by charts, tables and sentences.

`told` gathers one run from the log, the modules beside it make rows for charts and sections,
`whole_page` puts them into one HTML file that needs no network and no script.
"""
