"""Evaluation: how good a model is, as numbers, pictures and tables; and pictures of what it is trained on.

`evaluate`, `crossvalidate`, `compare` and `show` each do what a command of `ms-train` asks for. `subject` is the model that is
asked, `scoring` asks it, `report` makes numbers of the answers, `markdown` and `report_plots` show them. These modules may import
`ms_edge`, all of `ms_train` but `search` and `cli`, and each other. To add a number to the report, begin with `report`.
"""
