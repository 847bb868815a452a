"""Model files: check one, read its metadata, and run it with onnxruntime.

`check` decides whether onnxruntime may see a file. It uses `protobuf` (the wire format),
`onnx_messages` (the fields of an ONNX file) and `operators` (the allowed operators). `metadata`
parses the metadata, `providers` chooses a device, and `session` loads and runs a model. These
modules may import `ms_edge.arrays`, `ms_edge.errors`, `ms_edge.features` and each other. To allow
another operator, begin with `operators`; to add metadata, with `metadata`.
"""
