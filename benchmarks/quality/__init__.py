"""Measure how often models are right, beside other systems, on audio that they were never trained
on.

Each module that measures is a program: `python -m benchmarks.quality.accuracy --help`, and likewise
`timelines`, `levels`, `bars`, `validation`, `corrections`, `shortcuts`, `learning` and `cleaning`;
`card` writes docs/model-card.md from their results. The other modules make the audio. These modules may import
`ms_edge`, `ms_train`, `benchmarks.peers` and `benchmarks.speed`. To add a test, begin with
`testsets`.
"""
