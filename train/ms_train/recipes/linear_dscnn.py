"""`linear_dscnn`: the network of `mel_dscnn` on the linear spectrum, to measure the value of the
mel bands.

The features are the 257 bins of the same transform instead of 48 mel bands. Logarithm, floor,
network, augmentation and training are the same. Only the dense layer is larger, because it has more
inputs.
"""

from __future__ import annotations

import dataclasses
from functools import partial

from ms_train.recipes import mel_dscnn

SPEC = dataclasses.replace(mel_dscnn.SPEC, mel=None)


build_model = partial(mel_dscnn.network, SPEC, "linear_dscnn")  # (batch, 49, 257) -> (batch, labels)

RECIPE = dataclasses.replace(mel_dscnn.RECIPE, name="linear_dscnn", spec=SPEC, build_model=build_model)
