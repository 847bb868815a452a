"""Features: turn samples into the input of a network.

`spec` describes a front end as data, `frontend` computes it, and `windows` cuts a stream of samples
into windows. These modules may import `ms_edge.arrays`, `ms_edge.errors` and each other. To add a
kind of spectrum, begin with `spec`; `ms_train.frontend` computes the same features in TensorFlow
and must change with it.
"""
