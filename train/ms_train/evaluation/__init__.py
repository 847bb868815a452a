"""Evaluation: how good a model is, as numbers, pictures and tables; and pictures of its training data.

`evaluate`, `crossvalidate`, `compare` and `show` each do the work of a command or option of
`ms-train`. `subject` loads the model, `scoring` collects its answers, `report` computes numbers from
them, `markdown` and `report_plots` show the numbers. These modules may import `ms_edge`, all of
`ms_train` except `search` and `cli`, and each other. To add a number to the report, begin with
`report`.
"""
