"""Output: results as text, records and tracks, and the files they go to.

`writers` and `tracks` turn a result into text, `destination` puts the text where it belongs, and `journal` goes on with a file
that a run before left unfinished. These modules may import `ms_edge.errors`, `ms_edge.results`, `ms_edge.audio` and each
other. To add a format, begin with `writers`.
"""
