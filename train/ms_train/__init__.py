"""Train Keras models that tell speech from music, and measure them.

`datasets` reads recordings, `augment` makes training windows of them, `recipes` defines networks
and `scores` measures their outputs. `training` writes run folders, `evaluation` measures these,
`search` looks for better settings, and `cli` is the program `ms-train`. The modules directly in
this package serve all of them. All may import `ms_edge`. Each package says what else it may import
and where to add to it.
"""
