"""Features: what a network is given of the samples.

`spec` holds a front end as data, `frontend` computes it, `windows` cuts a stream of samples into windows. These modules may
import `ms_edge.errors` and each other. To add a kind of spectrum, begin with `spec`; `ms_train.frontend` computes the same.
"""
