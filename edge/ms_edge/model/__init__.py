"""Model files: what one may contain, what it says of itself, and a session that runs it.

`check` reads a file's bytes before onnxruntime does (with `protobuf` and `operators`), `metadata` reads what the file says of
itself, `providers` chooses a device, and `session` holds a model at work. These modules may import `ms_edge.errors`,
`ms_edge.features` and each other. To allow another operator, begin with `operators`; to add metadata, with `metadata`.
"""
