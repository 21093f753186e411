"""Detector files, ONNX and OpenVINO: every form of outputs gives the same boxes, and what is not clear is asked for."""

import json
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import box_iou

from vitreid.common.errors import MissingPackageError, UserError
from vitreid.tracking.detections import VideoFrame
from vitreid.tracking.detectors import DETECTORS, DetectorOptions, open_detector
from vitreid.tracking.detectors.detector import ClassFilter, RawBoxes, finish
from vitreid.tracking.detectors.frame_input import FrameInput
from vitreid.tracking.detectors.output_forms import FORMS, recognise_form

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
openvino = pytest.importorskip("openvino")

SIDE = 64  # of the square input
FRAME = np.random.default_rng(0).integers(
    0, 256, (48, 96, 3), dtype=np.uint8
)  # 96 x 48: shrunk to 64 x 32 in a letterbox
PERSON, CAR = (12.0, 16.0, 28.0, 44.0), (40.0, 18.0, 60.0, 30.0)  # x0, y0, x1, y1 in pixels of the input
NAMES = ("person", "bicycle", "car")


def write_onnx(path, outputs, batch=1, metadata=None, shape=None, kind=onnx.TensorProto.FLOAT):
    """A model that returns these arrays, whatever it sees: sides of the picture less themselves are added, since OpenVINO drops an unused input."""
    make, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    nodes, infos = [node("Shape", ["images"], ["sides"]), node("Sub", ["sides", "sides"], ["zeros"])], []
    nodes.append(node("ReduceMax", ["zeros"], ["zero"], keepdims=0))
    for name, array in outputs.items():
        dtype = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        nodes.append(node("Constant", [], [f"{name}_given"], value=onnx.numpy_helper.from_array(array)))
        nodes.append(node("Cast", ["zero"], [f"{name}_zero"], to=dtype))
        nodes.append(node("Add", [f"{name}_given", f"{name}_zero"], [name]))
        infos.append(make(name, dtype, array.shape))
    return _save(path, nodes, [make("images", kind, shape or [batch, 3, SIDE, SIDE])], infos, metadata)


def _save(path, nodes, inputs, outputs, metadata=None, weights=()):
    graph = onnx.helper.make_graph(nodes, "detector", inputs, outputs, list(weights))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.helper.set_model_props(model, metadata or {})
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def logit(score):
    return float(np.log(score / (1 - score)))


def centre(box, scale=1.0):
    x0, y0, x1, y1 = box
    return [(x0 + x1) / 2 * scale, (y0 + y1) / 2 * scale, (x1 - x0) * scale, (y1 - y0) * scale]


def scores_of(number, score, count=3, rest=0.02):
    values = [rest] * count
    values[number] = score
    return values


def yolo_table(objectness=False, rows=20):
    """(rows, 4 + C or 5 + C): the person twice, the second one moved by a pixel, and the car; the rest is nothing."""
    moved = tuple(value + 1 for value in PERSON)
    table = np.zeros((rows, 7 + objectness), np.float32)
    for row, (box, number, score) in enumerate([(PERSON, 0, 0.9), (moved, 0, 0.8), (CAR, 2, 0.7)]):
        table[row, :4] = centre(box)
        table[row, 4:] = (
            [0.5, *scores_of(number, score * 2, rest=0)] if objectness else scores_of(number, score, rest=0)
        )
    return table


def yolox_table():
    """The same as YOLOX leaves it: per cell of strides 8, 16, 32 the offset in cells, and logarithms of sizes."""
    cells = [(x, y, stride) for stride in (8, 16, 32) for y in range(SIDE // stride) for x in range(SIDE // stride)]
    table = np.zeros((len(cells), 8), np.float32)
    for row, (box, number, score) in {9: (PERSON, 0, 0.9), 70: (CAR, 2, 0.7)}.items():
        x, y, stride = cells[row]
        cx, cy, w, h = centre(box)
        table[row] = [
            cx / stride - x,
            cy / stride - y,
            np.log(w / stride),
            np.log(h / stride),
            1,
            *scores_of(number, score, rest=0),
        ]
    return table[None]


def corner_rows(*columns):
    """Rows with corners and further columns of both boxes, then empty rows."""
    return np.array([[*columns[0]], [*columns[1]], *[[0.0] * len(columns[0])] * 3], np.float32)


SSD_ROWS = [
    [0, 1, 0.9, *np.array(PERSON) / SIDE],
    [0, 3, 0.7, *np.array(CAR) / SIDE],
    [-1, 0, 0, 0, 0, 0, 0],
    [0, 1, 0.95, 0, 0, 1, 1],  # behind the end
]
CASES = {  # form: outputs
    "detr": {
        "logits": np.array(
            [[[logit(s) for s in scores_of(0, 0.9)], [logit(s) for s in scores_of(2, 0.7)]]], np.float32
        ),
        "pred_boxes": np.array([[centre(PERSON, 1 / SIDE), centre(CAR, 1 / SIDE)]], np.float32),
    },
    "yolo": {"output0": yolo_table().T[None].copy()},
    "yolo-objectness": {"output0": yolo_table(objectness=True)[None]},
    "yolox": {"output": yolox_table()},
    "ssd": {"detection_out": np.array([[SSD_ROWS]], np.float32)},
    "rows": {"output0": corner_rows([*PERSON, 0.9, 0], [*CAR, 0.7, 2])[None]},
    "labels": {
        "labels": np.array([[0, 2, 0]]),
        "boxes": np.array([[PERSON, CAR, (0, 0, 9, 9)]], np.float32),
        "scores": np.array([[0.9, 0.7, 0.1]], np.float32),
    },
    "scored": {"boxes": corner_rows([*PERSON, 0.9], [*CAR, 0.7]), "labels": np.array([0, 2, 0, 0, 0])},
}
AS_STATED = {"yolox": {"form": "yolox"}}


def to_openvino(path):
    """The same model as .xml and .bin."""
    openvino.save_model(openvino.Core().read_model(path), path.with_suffix(".xml"), compress_to_fp16=False)
    return path.with_suffix(".xml")


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_a_model_without_an_input_for_pictures_is_no_detector(tmp_path, kind):
    given = onnx.helper.make_node("Constant", [], ["boxes"], value=onnx.numpy_helper.from_array(np.ones((1, 4), "f4")))
    boxes = onnx.helper.make_tensor_value_info("boxes", onnx.TensorProto.FLOAT, (1, 4))
    path = _save(tmp_path / "people.onnx", [given], [], [boxes])
    with pytest.raises(UserError, match="people.*no input for pictures.*name a detector's file"):
        open_detector(to_openvino(path) if kind == "openvino" else path, options())


def options(*classes, **description):
    return DetectorOptions(
        classes=classes or NAMES, precision="fp32", description={"classes": list(NAMES), **description}
    )


def in_frame(box, resize):
    """The box in pixels of FRAME."""
    x0, y0, x1, y1 = box
    if resize == "stretch":
        return [x0 * 1.5, y0 * 0.75, x1 * 1.5, y1 * 0.75]
    top = 16 if resize == "letterbox" else 0
    return [x0 * 1.5, (y0 - top) * 1.5, x1 * 1.5, (y1 - top) * 1.5]


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_outputs_gives_the_boxes(tmp_path, form, kind):
    path = write_onnx(tmp_path / "people.onnx", CASES[form])
    detector = open_detector(
        to_openvino(path) if kind == "openvino" else path, options(resize="stretch", **AS_STATED.get(form, {}))
    )
    assert detector._form_name == form  # found from the shapes, except YOLOX's, which are those of YOLOv5
    (found,) = detector.detect([FRAME])
    assert found.labels == ("person", "car")
    assert found.scores == pytest.approx([0.9, 0.7], abs=1e-5)
    assert found.boxes == pytest.approx(np.array([in_frame(PERSON, "stretch"), in_frame(CAR, "stretch")]), abs=1e-3)


@pytest.mark.parametrize("resize", ["letterbox", "letterbox-corner"])
def test_a_letterbox_is_undone(tmp_path, resize):
    (found,) = open_detector(write_onnx(tmp_path / "a.onnx", CASES["yolo"]), options("car", resize=resize)).detect(
        [FRAME]
    )
    (expected,) = np.array([in_frame(CAR, resize)]).clip(0, [96, 48, 96, 48])
    assert found.boxes[0] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    "form, resize, channels, scale",
    [("detr", "stretch", "rgb", 1.0), ("yolo", "letterbox", "rgb", 1.0), ("ssd", "stretch", "bgr", 255.0), ("yolox", "letterbox-corner", "bgr", 255.0)],
)  # fmt: skip
def test_a_form_has_its_usual_input(tmp_path, form, resize, channels, scale):
    detector = open_detector(write_onnx(tmp_path / "a.onnx", CASES[form]), options(**AS_STATED.get(form, {})))
    assert (detector.input.resize, detector.input.channels, detector.input.scale) == (resize, channels, scale)


# --- how a file is described ----------------------------------------------------------------------------------------


def test_a_sidecar_describes_the_file_and_the_caller_comes_last(tmp_path):
    path = write_onnx(tmp_path / "a.onnx", CASES["detr"])
    sidecar = {"classes": ["a", "b", "c"], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "resize": "letterbox"}
    path.with_name("a.onnx.json").write_text(json.dumps(sidecar))
    detector = open_detector(path, DetectorOptions(classes=("a",), description={"resize": "stretch"}))
    assert (detector.input.mean, detector.input.resize) == ((0.5, 0.4, 0.3), "stretch")
    assert detector.detect([FRAME])[0].labels == ("a",)


def test_names_in_the_metadata_of_ultralytics_are_read(tmp_path):
    path = write_onnx(tmp_path / "a.onnx", CASES["yolo"], metadata={"names": "{0: 'person', 1: 'bicycle', 2: 'car'}"})
    assert open_detector(path, DetectorOptions(classes=("car",))).detect([FRAME])[0].labels == ("car",)


def test_a_folder_of_ultralytics_is_a_detector(tmp_path):
    """NAME_openvino_model/ has the model and metadata.yaml."""
    to_openvino(write_onnx(tmp_path / "a.onnx", CASES["yolo"]))
    (tmp_path / "metadata.yaml").write_text("names:\n  0: person\n  1: bicycle\n  2: car\n")
    with pytest.raises(UserError, match=r"nor one file .onnx or .xml, but 2 of them; give the file"):
        open_detector(tmp_path)
    (tmp_path / "a.onnx").unlink()
    assert open_detector(tmp_path, DetectorOptions(classes=("car",))).detect([FRAME])[0].labels == ("car",)


def test_an_export_of_rfdetr_is_recognised_by_its_names(tmp_path):
    """Its 91 classes have COCO's numbers: person is 1."""
    logits = np.full((1, 2, 91), -9, np.float32)
    logits[0, :, 1] = 2
    outputs = {"dets": CASES["detr"]["pred_boxes"], "labels": logits}
    detector = open_detector(write_onnx(tmp_path / "a.onnx", outputs))
    assert detector.input.mean == (0.485, 0.456, 0.406)
    assert detector.detect([FRAME])[0].labels == ("person", "person")


def test_the_files_of_transformers_next_to_an_export_are_read(tmp_path):
    path = write_onnx(tmp_path / "model.onnx", CASES["detr"])
    (tmp_path / "config.json").write_text(
        json.dumps({"id2label": {"2": "car", "0": "person", "1": "bicycle"}, "model_type": "rt_detr"})
    )
    processor = {"do_normalize": True, "image_mean": [0.1, 0.2, 0.3], "size": {"height": SIDE, "width": SIDE}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    detector = open_detector(path)
    assert detector.input.mean == (0.1, 0.2, 0.3)
    assert detector.detect([FRAME])[0].labels == ("person",)


def test_the_masks_of_a_segmentation_model_are_left_out(tmp_path):
    """Their coefficients stand behind the class scores, the masks in a second output."""
    table = np.concatenate([yolo_table(rows=50), np.full((50, 32), 5, np.float32)], axis=1)
    outputs = {"output0": table.T[None].copy(), "output1": np.zeros((1, 32, 16, 16), np.float32)}
    (found,) = open_detector(write_onnx(tmp_path / "a.onnx", outputs), options(form="yolo")).detect([FRAME])
    assert found.labels == ("person", "car")


def test_softmax_scores_have_a_last_class_for_nothing(tmp_path):
    """It is no class, even where it is the most likely one."""
    logits = np.log(np.array([[[0.6, 0.1, 0.1, 0.2], [0.1, 0.1, 0.3, 0.5]]], np.float32))
    outputs = {**CASES["detr"], "logits": logits}
    settings = replace(options(scores="softmax"), confidence=0.25)
    (found,) = open_detector(write_onnx(tmp_path / "a.onnx", outputs), settings).detect([FRAME])
    assert found.labels == ("person", "car")
    assert found.scores == pytest.approx([0.6, 0.3], abs=1e-6)


def test_a_detector_of_one_class_needs_no_names(tmp_path):
    path = write_onnx(tmp_path / "a.onnx", {"detection_out": CASES["ssd"]["detection_out"][:, :, :1]})
    assert open_detector(path).detect([FRAME])[0].labels == ("person",)


def test_several_classes_without_names_are_refused(tmp_path):
    detector = open_detector(write_onnx(tmp_path / "a.onnx", CASES["ssd"]))
    with pytest.raises(UserError, match=r'finds the classes 1, 3, but states no names.*state "classes" in a.onnx.json'):
        detector.detect([FRAME])
    with pytest.raises(UserError, match=r'has 3 classes without names; state "classes" in a.onnx.json'):
        open_detector(write_onnx(tmp_path / "a.onnx", CASES["yolo"]))


def test_outputs_of_an_unknown_form_list_those_known(tmp_path):
    path = write_onnx(tmp_path / "a.onnx", {"heat": np.zeros((1, 2, 3, 4, 5), np.float32)})
    with pytest.raises(
        UserError,
        match=r'the form of its outputs is not clear \(heat 1x2x3x4x5\); state "form" in a.onnx.json.*yolox: ',
    ):
        open_detector(path)


@pytest.mark.parametrize(
    "shapes, classes, form",
    [
        ({"o": (1, 84, 8400)}, None, "yolo"),  # Ultralytics, COCO
        ({"o": (None, 84, None)}, None, None),  # the number of boxes is free: not clear
        ({"o": (1, 25200, 85)}, None, "yolo-objectness"),  # YOLOv5, COCO
        ({"o": (1, 8400, 84)}, None, "yolo"),
        ({"o": (1, 5, 8400)}, 1, "yolo"),
        ({"o": (1, 25200, 6)}, 1, "yolo-objectness"),
        ({"o": (1, 300, 6)}, None, "rows"),
        ({"o": (1, 1, 200, 7)}, None, "ssd"),
        ({"logits": (1, 300, 80), "boxes": (1, 300, 4)}, None, "detr"),
        ({"labels": (1, 300), "boxes": (1, 300, 4), "scores": (1, 300)}, None, "labels"),
        ({"boxes": (100, 5), "labels": (100,)}, None, "scored"),
    ],
)
def test_forms_are_recognised_from_shapes(shapes, classes, form):
    assert recognise_form(shapes, classes) == form


@pytest.mark.parametrize(
    "description, message",
    [
        ({"form": "yolov8"}, r"detector form: unknown value 'yolov8'; choose from detr, labels"),
        ({"sise": [64, 64]}, r"unknown key 'sise'; choose from channels, classes"),
        ({"mean": [0.5]}, r"mean is \[0.5\]; expected 3 numbers"),
        ({"size": 640}, r"size is 640; expected 2 numbers"),
        ({"scale": "a"}, r"scale is 'a'; expected 1 number"),
        ({"size": [32, 32]}, r"size 32x32 is stated, but the file's input has 64x64"),
        ({"channels": "GBR"}, r"channels 'gbr'; choose from rgb, bgr"),
        ({"resize": "crop"}, r"resize 'crop'; choose from stretch, letterbox"),
        ({"classes": "coco80"}, r"has 3 classes, but 80 names from number 0 on are stated"),
        ({"classes": ["a", "b", "c", "d"]}, r"has 3 classes, but 4 names from number 0 on are stated"),
    ],
)
def test_a_wrong_description_is_refused(tmp_path, description, message):
    with pytest.raises(UserError, match=message):
        open_detector(write_onnx(tmp_path / "a.onnx", CASES["detr"]), DetectorOptions(description=description))


def test_texts_of_a_command_line_describe_a_file_too(tmp_path):
    path = write_onnx(tmp_path / "a.onnx", CASES["detr"], shape=[1, 3, "height", "width"])
    texts = {"classes": "a, b,c", "size": "384x672", "mean": "0.5,0.4,0.3", "scale": "255", "channels": "BGR"}
    detector = open_detector(path, DetectorOptions(classes=("a",), description=texts))
    assert (detector.input.size, detector.input.mean) == ((384, 672), (0.5, 0.4, 0.3))
    assert (detector.input.scale, detector.input.channels) == (255, "bgr")


def test_a_sidecar_that_is_no_json_is_refused(tmp_path):
    path = write_onnx(tmp_path / "a.onnx", CASES["detr"])
    path.with_name("a.onnx.json").write_text("classes: person")
    with pytest.raises(UserError, match=r"a.onnx.json is not readable JSON"):
        open_detector(path)


@pytest.mark.parametrize("name", ["a.onnx", "a.xml"])
def test_a_damaged_file_is_one_message(tmp_path, name):
    (tmp_path / name).write_bytes(b"<net>")
    (tmp_path / "a.bin").write_bytes(b"")
    with pytest.raises(UserError, match=f"{name}: .*cannot read this file"):
        open_detector(tmp_path / name)


def test_an_xml_file_needs_its_bin_file(tmp_path):
    path = to_openvino(write_onnx(tmp_path / "a.onnx", CASES["detr"]))
    path.with_suffix(".bin").unlink()
    with pytest.raises(UserError, match=r"a.bin with the weights is missing next to it"):
        open_detector(path)


@pytest.mark.parametrize(
    "module, name",
    [("onnxruntime", "a.onnx"), ("openvino", "a.xml"), ("transformers", "owner/model"), ("rfdetr", "rfdetr:nano")],
)
def test_a_missing_package_names_the_command_that_installs_it(tmp_path, monkeypatch, module, name):
    monkeypatch.setitem(sys.modules, module, None)
    if name.startswith("a."):
        (tmp_path / name).write_text("")
        name = str(tmp_path / name)
    command = "'rfdetr'" if module == "rfdetr" else r"'vitreid\[video\]'"
    with pytest.raises(MissingPackageError, match=f"needs {module}: pip install {command}"):
        open_detector(name)


@pytest.mark.parametrize(
    "name, message",
    [
        ("yolo", r"unknown 'yolo'; choose from motion, onnx, openvino, rfdetr, torchvision, transformers"),
        ("yolo11n.pt", r"'yolo11n.pt' holds weights only; export the model to ONNX"),
        ("rfdetr:tiny", r"detector rfdetr: unknown value 'tiny'; choose from large, medium, nano, small"),
        ("motion:flow", r"motion: unknown value 'flow'; choose from knn, mog2"),
        ("torchvision:resnet50", r"detector torchvision: unknown value 'resnet50'; choose from fasterrcnn_"),
        ("fcos_resnet50_fpn", r"torchvision:fcos_resnet50_fpn: needs the file with its weights"),
    ],
)
def test_an_unknown_detector_lists_what_is_accepted(name, message):
    with pytest.raises(UserError, match=message):
        open_detector(name)


def test_a_missing_model_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"no file 'people.onnx'"):
        open_detector("people.onnx")
    assert set(DETECTORS) == {"motion", "onnx", "openvino", "rfdetr", "torchvision", "transformers"}


# --- batches --------------------------------------------------------------------------------------------------------


def write_brightness(path, batch):
    """A YOLO file of two classes whose first box's scores are the mean of the red and of the blue plane."""
    boxes = 8
    weights = np.zeros((3, 6 * boxes), np.float32)
    weights[0, 4 * boxes], weights[2, 5 * boxes] = 1, 1
    fixed = np.zeros(6 * boxes, np.float32)
    fixed[: 4 * boxes].reshape(4, boxes)[:, 0] = centre(PERSON)
    arrays = {"axes": np.array([2, 3]), "weights": weights, "fixed": fixed, "shape": np.array([-1, 6, boxes])}
    nodes = [
        onnx.helper.make_node("ReduceMean", ["images"], ["mean"], axes=[2, 3], keepdims=0),
        onnx.helper.make_node("MatMul", ["mean", "weights"], ["product"]),
        onnx.helper.make_node("Add", ["product", "fixed"], ["sum"]),
        onnx.helper.make_node("Reshape", ["sum", "shape"], ["output0"]),
    ]
    image = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, [batch, 3, SIDE, SIDE])
    output = onnx.helper.make_tensor_value_info("output0", onnx.TensorProto.FLOAT, [batch, 6, boxes])
    return _save(
        path,
        nodes,
        [image],
        [output],
        weights=[onnx.numpy_helper.from_array(array, name) for name, array in arrays.items() if name != "axes"],
    )


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
@pytest.mark.parametrize("batch", ["batch", 1, 2])
def test_frames_in_batches_equal_frames_one_by_one(tmp_path, kind, batch):
    """A free batch size, and fixed ones that the last batch does not fill."""
    path = write_brightness(tmp_path / "a.onnx", batch)
    path = to_openvino(path) if kind == "openvino" else path
    described = {"classes": ["person", "car"], "resize": "stretch"}
    detector = open_detector(
        path, DetectorOptions(("person", "car"), 0.1, precision="fp32", batch_size=2, description=described)
    )
    assert detector.batch_size == (2 if batch == "batch" else batch)
    frames = [np.full((30, 40, 3), (60 + 20 * number, 0, 150 - 20 * number), np.uint8) for number in range(5)]  # BGR
    together = detector.detect(frames)
    streamed = list(detector.stream(VideoFrame(number, 0.0, frame) for number, frame in enumerate(frames)))
    assert [frame.number for frame, _ in streamed] == list(range(5))
    for number, (frame, batched, (_, passed)) in enumerate(zip(frames, together, streamed)):
        (alone,) = detector.detect([frame])
        red, blue = (150 - 20 * number) / 255, (60 + 20 * number) / 255
        assert alone.scores == pytest.approx([max(red, blue)], abs=1e-4)
        assert alone.labels == (("person" if red > blue else "car"),)
        for other in (batched, passed):
            assert np.array_equal(other.boxes, alone.boxes) and np.array_equal(other.scores, alone.scores)


def test_a_free_input_size_is_stated_or_640(tmp_path):
    free = {"shape": [1, 3, "height", "width"]}
    path = write_onnx(tmp_path / "a.onnx", CASES["detr"], **free)
    assert open_detector(path, options()).input.size == (640, 640)
    assert open_detector(path, options(size=[96, 64])).input.size == (96, 64)


def test_channels_last_and_uint8_inputs_are_found(tmp_path):
    path = write_onnx(tmp_path / "a.onnx", CASES["detr"], shape=[1, SIDE, 32, 3], kind=onnx.TensorProto.UINT8)
    found = open_detector(path, options()).input
    assert (found.size, found.last, found.dtype, found.scale) == ((SIDE, 32), True, "uint8", 255.0)


# --- input, filter, suppression -------------------------------------------------------------------------------------


def test_the_input_is_scaled_and_normalised_per_channel():
    made = FrameInput((2, 2), mean=(0.5, 0.25, 0), std=(0.5, 1, 2))
    tensor, _ = made.batch([np.full((4, 4, 3), (0, 51, 255), np.uint8)])  # blue 0, green 0.2, red 1
    assert tensor.shape == (1, 3, 2, 2)
    assert tensor[0, :, 0, 0] == pytest.approx([1, -0.05, 0], abs=1e-6)


@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from(["stretch", "letterbox", "letterbox-corner"]))
def test_a_box_comes_back_to_the_frame(height, width, resize):
    """The whole frame is the whole frame again."""
    tensor, (place,) = FrameInput((48, 64), resize=resize).batch([np.zeros((height, width, 3), np.uint8)])
    own = np.array([[place.left, place.top, place.left + width * place.scale_x, place.top + height * place.scale_y]])
    assert tensor.shape == (1, 3, 48, 64)
    assert place.to_frame(own)[0] == pytest.approx([0, 0, width, height], abs=1e-3)


boxes_of_a_frame = st.lists(
    st.tuples(*[st.integers(-20, 60)] * 2, *[st.integers(0, 60)] * 2, st.integers(0, 10), st.integers(0, 2)),
    max_size=12,
)


@given(boxes_of_a_frame, st.booleans())
def test_kept_boxes_are_wanted_clipped_sure_and_apart(rows, suppress):
    x, y, w, h, score, number = np.array(rows, np.float32).reshape(-1, 6).T
    raw = RawBoxes(np.stack([x, y, x + w, y + h], axis=1), score / 10, number.astype(np.int64))
    settings = DetectorOptions(("person", "car"), 0.3, 0.5)
    found = finish(raw, ClassFilter(NAMES, settings.classes, "here"), settings, (40, 50), suppress)
    assert set(found.labels) <= {"person", "car"}
    assert (found.scores >= 0.3).all() and (np.diff(found.scores) <= 0).all()
    assert ((found.boxes >= 0) & (found.boxes <= (50, 40, 50, 40))).all()
    assert (found.boxes[:, 2:] - found.boxes[:, :2] >= 2).all()
    if suppress and len(found):
        overlap = box_iou(*[torch.from_numpy(found.boxes)] * 2).numpy()
        same = np.array(found.labels)[:, None] == np.array(found.labels)
        assert not (same & (overlap > 0.5) & ~np.eye(len(found), dtype=bool)).any()


# --- a real detector ------------------------------------------------------------------------------------------------


def test_the_real_detector_finds_the_boxes_that_openvino_returns(assets):
    """Computed naively: one frame at a time, one request."""
    path = assets / "models" / "pedestrian-detection-adas-0002.xml"
    capture, frames = cv2.VideoCapture(str(assets / "video" / "people-detection.264")), []
    for number in range(400):
        assert capture.grab()
        if number in (60, 200, 207, 360, 398):
            frames.append(VideoFrame(number, 0.0, capture.retrieve()[1]))
    model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    detector = open_detector(path, DetectorOptions(precision="fp32", threads=1))
    counts = []
    for frame, found in detector.stream(iter(frames)):
        tensor = cv2.resize(frame.pixels, (672, 384)).transpose(2, 0, 1)[None].astype(np.float32)
        rows = model(tensor)[0].reshape(200, 7)
        rows = rows[rows[:, 2] >= 0.5]
        expected = (rows[:, 3:] * (768, 432, 768, 432)).clip(0, (768, 432, 768, 432))
        order = np.argsort(-rows[:, 2], kind="stable")
        assert found.boxes == pytest.approx(expected[order], abs=0.05)
        assert found.scores == pytest.approx(rows[order, 2], abs=1e-3)
        counts.append(len(found))
    assert counts[1] >= 2 and counts[3] >= 3  # people by eye: two in frame 200, three in frame 360
