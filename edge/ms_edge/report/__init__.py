"""Reports: pages, totals and cut recordings, made from results.

`summary` adds up results, `summary_tables` and `summary_chart` write the totals; `cut` copies the
parts of recordings that have a label. These modules may import everything in `ms_edge` except
`scoring` and `cli`.
"""
