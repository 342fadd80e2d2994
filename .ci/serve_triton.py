"""Asks a server by tritonclient, in every way that the protocol has for pictures, and compares with what `pbas predict` says.

    serve_triton.py URL MODEL OURS.jsonl
"""

import base64
import json
import sys

import numpy
import tritonclient.http as triton
from PIL import Image
from tritonclient.utils import InferenceServerException


def main():
    url, model, ours = sys.argv[1:]
    client = triton.InferenceServerClient(url.removeprefix("http://"))
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(model)
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    about = client.get_model_metadata(model)
    assert [output["name"] for output in about["outputs"]] == ["image_score", "verdict", "p_value", "threshold", "score_map"]
    assert not client.is_model_ready("nothing")
    asked = 0
    for line in open(ours):
        expected = json.loads(line)
        file = open(expected["path"], "rb").read()
        pixels = numpy.asarray(Image.open(expected["path"]).convert("RGB"))
        files = numpy.array([file], dtype=object)
        text = numpy.array([base64.b64encode(file)], dtype=object)
        ways = [
            ("BYTES", files, True),
            ("BYTES", text, False),
            ("UINT8", pixels, True),
            ("UINT8", pixels[None], False),
            ("FP32", pixels[None].astype(numpy.float32), True),
            ("FP32", pixels.astype(numpy.float32), False),
            ("FP32", pixels.transpose(2, 0, 1)[None].astype(numpy.float32), True),
        ]
        for datatype, value, binary in ways:
            for binary_out in (True, False):
                image = triton.InferInput("image", value.shape, datatype)
                image.set_data_from_numpy(value, binary_data=binary)
                names = ["image_score", "verdict", "p_value", "threshold", "score_map"]
                outputs = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in names]
                answer = client.infer(model, [image], outputs=outputs, request_id="part 7", timeout=2_000_000)
                assert answer.get_response()["id"] == "part 7"
                for name in ("image_score", "p_value", "threshold"):
                    found = answer.as_numpy(name)
                    assert found.shape == (1,) and found[0] == expected[name], (name, found, expected)
                verdict = answer.as_numpy("verdict")[0]
                assert (verdict.decode() if isinstance(verdict, bytes) else verdict) == expected["verdict"], verdict
                score_map = answer.as_numpy("score_map")
                assert list(score_map.shape) == [1, *about["outputs"][4]["shape"][1:]] and numpy.isfinite(score_map).all()
                asked += 1
    several = numpy.array([file, file], dtype=object)
    image = triton.InferInput("image", several.shape, "BYTES")
    image.set_data_from_numpy(several)
    assert client.infer(model, [image]).as_numpy("image_score").shape == (2,)
    for bad, said in [(b"no picture", "is not a picture"), (b"", "is empty")]:
        value = numpy.array([bad], dtype=object)
        image = triton.InferInput("image", value.shape, "BYTES")
        image.set_data_from_numpy(value)
        try:
            client.infer(model, [image])
        except InferenceServerException as error:
            assert said in str(error), error
        else:
            raise AssertionError(f"{bad}: expected an error")
    print(f"tritonclient: {asked} requests in 14 ways, the same scores, p-values and verdicts as `pbas predict`")


main()
