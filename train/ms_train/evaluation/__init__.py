"""Evaluation: the quality of a model as numbers, pictures and tables, and pictures of its training
data.

`evaluate`, `crossvalidate`, `compare` and `show` each implement a command of `ms-train`. `subject`
is the model that is evaluated, `scoring` collects its answers, `report` computes the numbers of
`results` from them, and `markdown` and `report_plots` show these. These modules may import
`ms_edge`, all of `ms_train` except `search` and `cli`, and each other. To add a number to the
report, begin with `results`.
"""
