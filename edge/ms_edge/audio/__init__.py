"""Audio in: files, standard input, file objects and arrays as mono float32 blocks at one sample rate.

`file` begins with a path or an open file, `source` with what yields samples; `opening` finds out what a file is, and
`riff`, `mpeg`, `parts`, `containers` and `raw` each know one thing about formats. These modules may import `ms_edge.errors`
and each other. To read another format, begin with `containers`.
"""
