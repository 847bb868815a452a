"""How right models are, on audio they were never trained on, beside other systems.

Each module that measures something is a program: `python -m benchmarks.quality.accuracy --help`, and likewise `timelines`,
`bars`, `validation`, `shortcuts`, `learning` and `cleaning`; `card` writes docs/model-card.md of what they found. The others make
the audio they use. These modules may import `ms_edge`, `ms_train`, `benchmarks.peers` and `benchmarks.speed`. To add a
test, begin with `testsets`.
"""
