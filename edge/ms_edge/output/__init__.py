"""Output: results as text, records and tracks, and the files they are written to.

`writers` and `tracks` turn results into text and `formats` lists them, `destination` writes the
text to standard output, a file or a directory, and `journal` continues a file that an earlier run
left unfinished. `records` reads the records that `writers` wrote. These modules may import
`ms_edge.errors`, `ms_edge.results`, `ms_edge.audio` and each other. To add a format, write a
subclass of `writers.Writer` and add it to `formats.FORMATS`.
"""
