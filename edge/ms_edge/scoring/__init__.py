"""Scoring: compare classified recordings with references of speech and music.

`references` reads what people annotated, `measures` compares two answers for one recording, `score`
puts the two together for many recordings and prints the result. This package uses NumPy only, and may
import everything up to `ms_edge.output`. To read another format of references, add a reader to
`references`; to add a measure, add what it counts to `measures.Counts`.
"""
