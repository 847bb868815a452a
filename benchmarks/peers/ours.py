"""Run ms-edge without its start-up: read paths from standard input and print a JSON line per file.

The argument is a model, or empty for the bundled one.
"""

import json
import sys

from ms_edge.classifier import Classifier

classifier = Classifier(sys.argv[1] or None, "cpu")
for line in sys.stdin:
    print(json.dumps(classifier.classify(line.rstrip("\n")).record()), flush=True)
