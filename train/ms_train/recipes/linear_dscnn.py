"""`linear_dscnn`: `mel_dscnn`'s network on the linear spectrum it is made from: what the mel bands are worth.

The 257 bins of the same transform instead of 48 bands of them, the same logarithm, floor, network, augmentation and training. The network
is the same layer for layer; only its dense layer is larger, since more bands reach it.
"""

from __future__ import annotations

import dataclasses
from functools import partial

from ms_train.recipes import mel_dscnn

SPEC = dataclasses.replace(mel_dscnn.SPEC, mel=None)


build_model = partial(mel_dscnn.network, SPEC, "linear_dscnn")  # (batch, 49, 257) -> (batch, labels)

RECIPE = dataclasses.replace(mel_dscnn.RECIPE, name="linear_dscnn", spec=SPEC, build_model=build_model)
