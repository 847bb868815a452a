"""A model repository that Triton's schema accepts, and the documented client against a server that
holds it to that repository.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from ms_edge.audio.file import read_mono
from ms_edge.classifier import Classifier
from ms_edge.cli import main as edge_cli
from ms_edge.model.session import BUNDLED, Model
from ms_export import cli

NAME = Model.load().metadata.recipe
PAGE = (Path(__file__).parent.parent.parent / "docs" / "triton.md").read_text("utf-8")


@pytest.fixture(scope="module")
def repository(waveform_model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("triton") / "models"
    assert cli.main(["triton", str(folder), "--model", str(waveform_model)]) == 0
    return folder


def parsed(folder: Path) -> model_config_pb2.ModelConfig:
    return text_format.Parse((folder / "config.pbtxt").read_text("utf-8"), model_config_pb2.ModelConfig())


def test_repository_has_the_layout_of_triton(repository, waveform_model):
    found = sorted(path.relative_to(repository).as_posix() for path in repository.rglob("*") if path.is_file())
    assert found == [f"{NAME}/1/model.onnx", f"{NAME}/config.pbtxt", f"{NAME}/labels.txt"]
    assert (repository / NAME / "1" / "model.onnx").read_bytes() == waveform_model.read_bytes()
    assert (repository / NAME / "labels.txt").read_text() == "speech\nmusic\n"


def test_config_follows_published_schema_and_fits_model(repository):
    config = parsed(repository / NAME)
    session = onnxruntime.InferenceSession(repository / NAME / "1" / "model.onnx")
    assert (config.name, config.platform) == (NAME, "onnxruntime_onnx")
    assert config.max_batch_size == 64
    assert config.HasField("dynamic_batching")
    assert 0 < config.dynamic_batching.max_queue_delay_microseconds <= 10_000
    assert not config.HasField("version_policy"), "the default: the latest"
    for described, served in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        (value,), (tensor,) = described, served
        assert value.name == tensor.name
        assert value.data_type == model_config_pb2.TYPE_FP32
        assert list(value.dims) == tensor.shape[1:], "where requests are batched the batch is not among the dimensions"
    assert config.output[0].label_filename == "labels.txt"
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, 64]
    for warmup in config.model_warmup:
        given = warmup.inputs["waveform"]
        assert (given.data_type, list(given.dims), given.zero_data) == (model_config_pb2.TYPE_FP32, [16_000], True)


def test_model_can_have_another_name(repository, waveform_model, tmp_path):
    assert cli.main(["triton", str(tmp_path), "--model", str(waveform_model), "--name", "speech-music.2"]) == 0
    assert parsed(tmp_path / "speech-music.2").name == "speech-music.2"


@pytest.mark.parametrize("name", ["", "../a", "a/b", ".hidden", 'a"b', "a b", "x" * 101])
def test_invalid_name_is_refused(waveform_model, tmp_path, capsys, name):
    arguments = ["triton", str(tmp_path / "models"), "--model", str(waveform_model), f"--name={name}"]
    assert cli.main(arguments) == 2
    assert "no valid model name" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_features_model_is_refused(tmp_path, capsys):
    assert cli.main(["triton", str(tmp_path / "models"), "--model", str(BUNDLED)]) == 2
    printed = capsys.readouterr().err
    assert "--input waveform" in printed
    assert len(printed.splitlines()) == 1
    assert not (tmp_path / "models").exists()


def test_existing_folder_is_not_overwritten(waveform_model, tmp_path, capsys):
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "precious").write_text("mine")
    assert cli.main(["triton", str(tmp_path), "--model", str(waveform_model)]) == 2
    assert "already exists" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == [NAME, "precious"]


def test_full_disk_leaves_nothing(waveform_model, tmp_path, monkeypatch, capsys):
    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr("ms_export.triton.shutil.copyfile", full)
    assert cli.main(["triton", str(tmp_path), "--model", str(waveform_model)]) == 1
    assert "no space left" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("model", "status"), [("absent.onnx", 1), ("text.onnx", 1)])
def test_file_that_is_no_model_is_refused(tmp_path, capsys, model, status):
    (tmp_path / "text.onnx").write_text("text")
    assert cli.main(["triton", str(tmp_path / "models"), "--model", str(tmp_path / model)]) == status
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "models").exists()


# The client


@pytest.fixture(scope="module")
def server(repository):
    """The address of a KServe v2 server of the repository, which refuses what its configuration
    does not describe.
    """
    models = {}
    for folder in repository.iterdir():
        config = parsed(folder)
        assert config.name == folder.name
        session = onnxruntime.InferenceSession(folder / "1" / "model.onnx", providers=["CPUExecutionProvider"])
        models[config.name] = (config, session)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                status, answer = 200, infer(self.path, json.loads(body))
            except (AssertionError, LookupError, ValueError) as error:
                status, answer = 400, {"error": f"{type(error).__name__}: {error}"}
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    def infer(path: str, request: dict) -> dict:
        name = re.fullmatch(r"/v2/models/([^/]+)/infer", path)[1]
        config, session = models[name]
        assert request.keys() <= {"id", "parameters", "inputs", "outputs"}
        assert len(request["inputs"]) == len(config.input)
        feed = {}
        for given, expected in zip(request["inputs"], config.input, strict=True):
            assert given.keys() == {"name", "datatype", "shape", "data"}, given.keys()
            assert given["name"] == expected.name
            assert f"TYPE_{given['datatype']}" == model_config_pb2.DataType.Name(expected.data_type)
            assert given["shape"][1:] == list(expected.dims), f"shape {given['shape']}"
            assert 1 <= given["shape"][0] <= config.max_batch_size, f"batch of {given['shape'][0]}"
            assert len(given["data"]) == math.prod(given["shape"])
            feed[expected.name] = np.array(given["data"], np.float32).reshape(given["shape"])
        wanted = [output["name"] for output in request["outputs"]]
        assert set(wanted) <= {output.name for output in config.output}
        outputs = [
            {"name": output, "datatype": "FP32", "shape": list(found.shape), "data": found.ravel().tolist()}
            for output, found in zip(wanted, session.run(wanted, feed), strict=True)
        ]
        return {"model_name": name, "model_version": "1", "outputs": outputs}

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture(scope="module")
def client(tmp_path_factory) -> Path:
    """Return the client that docs/triton.md shows."""
    (source,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len(source.splitlines()) <= 30
    path = tmp_path_factory.mktemp("client") / "client.py"
    path.write_text(source, "utf-8")
    return path


def ask(client: Path, server: str, recording: Path) -> dict[str, float]:
    run = subprocess.run([sys.executable, client, server, recording], capture_output=True, text=True, check=True)
    return {line.split()[0]: float(line.split()[1]) for line in run.stdout.splitlines()}


def test_documented_client_gets_the_same_scores(client, server, samples):
    own_rate = [path for path in samples if soundfile.info(path).samplerate == 16_000]
    assert len(own_rate) >= 4
    for path in own_rate:
        found = ask(client, server, path)
        assert max(found, key=found.get) == path.name.partition("_")[0]
        assert found == pytest.approx(Classifier().classify(path).scores, abs=1e-4)


@pytest.mark.parametrize("seconds", [0.4, 1.0, 1.7, 40.0])
def test_documented_client_cuts_the_same_windows(client, server, samples, tmp_path, seconds):
    """What is short is repeated, the last window is at the end, what is more than a batch goes in
    several.
    """
    audio = np.resize(read_mono(samples[0], 16_000), round(seconds * 16_000))
    soundfile.write(tmp_path / "a.wav", audio, 16_000, subtype="PCM_16")
    expected = Classifier().classify(tmp_path / "a.wav").scores
    assert ask(client, server, tmp_path / "a.wav") == pytest.approx(expected, abs=1e-4)


def test_output_in_the_page_is_real(client, server, samples):
    (recording,) = [path for path in samples if f"tests/data/{path.name}" in PAGE]
    (shown,) = re.findall(r"```text\n(\w+ 0.*?)```", PAGE, re.S)
    assert ask(client, server, recording) == pytest.approx(
        {line.split()[0]: float(line.split()[1]) for line in shown.splitlines()}, abs=1e-4
    )


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"name": "samples"}, "samples"),
        ({"datatype": "FP64"}, "TYPE_FP64"),
        ({"shape": [1, 8_000], "data": [0.0] * 8_000}, "shape"),
        ({"shape": [65, 16_000]}, "batch of 65"),
        ({"shape": [16_000]}, "shape"),
    ],
)
def test_fake_server_refuses_what_configuration_lacks(server, change, complaint):
    waveform = {"name": "waveform", "datatype": "FP32", "shape": [1, 16_000], "data": [0.0] * 16_000, **change}
    body = json.dumps({"inputs": [waveform], "outputs": [{"name": "scores"}]}).encode()
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(urllib.request.Request(f"{server}/v2/models/{NAME}/infer", body))
    assert caught.value.code == 400
    assert complaint in caught.value.read().decode()


def test_repository_copy_runs_in_ms_edge(repository, samples, capsys):
    model = repository / NAME / "1" / "model.onnx"
    assert edge_cli.main(["classify", "--model", str(model), str(samples[0])]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[0] == Classifier().classify(samples[0]).label
