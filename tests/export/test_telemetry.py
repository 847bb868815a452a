"""onnxruntime reports nothing when the exporter imports it. Here and not in tests/edge: the
exporter needs Keras.
"""

from __future__ import annotations

import pytest
from test_model import require_no_report


@pytest.mark.slow
def test_onnxruntime_sends_no_telemetry(tmp_path):
    require_no_report(tmp_path, "ms_export.network")
