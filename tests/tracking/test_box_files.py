"""Boxes from elsewhere: in each form the crop is the box, and wrong files are refused with line and reason."""

import json

import cv2
import numpy as np
import pytest
import yaml
from films import HEIGHT, NUM_FRAMES, WIDTH, noise_frames, write_folder, write_video
from hypothesis import given
from hypothesis import strategies as st

from vitreid.common.errors import UserError
from vitreid.common.pictures import cut_box
from vitreid.datasets.box_columns import BOXES, BoxColumns
from vitreid.tracking.box_files import (
    BOX_FORMATS,
    BoxesOfVideo,
    boxes_of_pictures,
    read_boxes,
    recognise_boxes,
    select_classes,
)
from vitreid.tracking.box_files.cvat_xml import KeyFrame, Task, interpolated
from vitreid.tracking.box_files.mot_text import mot_line
from vitreid.tracking.detections import Detections
from vitreid.tracking.frames import open_frames

FRAME, X, Y, W, H = 3, 13, 7, 20, 30  # the box of the tests: in the fourth frame
CORNERS = (X, Y, X + W, Y + H)


@pytest.fixture(scope="module")
def frames():
    return noise_frames()


@pytest.fixture(scope="module")
def img1(frames, tmp_path_factory):
    """A folder of frames as in MOTChallenge, 000001.png to 000006.png."""
    return write_folder(tmp_path_factory.mktemp("film") / "img1", frames)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def fractions(x0=X, y0=Y, x1=X + W, y1=Y + H):
    return f"{(x0 + x1) / 2 / WIDTH!r} {(y0 + y1) / 2 / HEIGHT!r} {(x1 - x0) / WIDTH!r} {(y1 - y0) / HEIGHT!r}"


def cvat_video(*boxes, size=NUM_FRAMES, more=""):
    inner = "\n".join(
        f'<box frame="{f}" outside="{int(out)}" occluded="0" keyframe="1" xtl="{a:.2f}" ytl="{b:.2f}" xbr="{c:.2f}" '
        f'ybr="{d:.2f}" z_order="0"></box>'
        for f, (a, b, c, d), out in boxes
    )
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta><task><size>{size}</size>{more}'
        f"<original_size><width>{WIDTH}</width><height>{HEIGHT}</height></original_size></task></meta>\n"
        f'<track id="4" label="person" source="manual">\n{inner}\n</track></annotations>'
    )


def coco(name="000004.png", **more):
    return {
        "images": [{"id": 9, "file_name": name, "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [{"id": 1, "image_id": 9, "category_id": 1, "bbox": [X, Y, W, H], **more}],
    }


CORNER_KEYS = {"x1": X, "y1": Y, "x2": X + W, "y2": Y + H}
SUPERVISION = {
    "x_min": X,
    "y_min": Y,
    "x_max": X + W,
    "y_max": Y + H,
    "class_id": "0",
    "confidence": "0.75",
    "tracker_id": "4",
}
VIDEO_FORMS = {  # name: (file, content, form); each states the box of the tests as track 4, where the form has tracks
    "csv of sizes": ("b.csv", f"frame,x,y,width,height,track\n3,{X},{Y},{W},{H},4\n", "csv"),
    "csv of corners": ("b.csv", f"label;track_id;x2;y2;x1;y1;frame_id\nperson;4;{X + W};{Y + H};{X};{Y};3\n", "csv"),
    "csv of seconds": ("b.csv", f"seconds,xmin,ymin,xmax,ymax,id\n0.12,{X},{Y},{X + W},{Y + H},4\n", "csv"),
    "csv of fractions": (
        "b.csv",
        f"frame,cx,cy,w,h,track\n3,{fractions().replace(' ', ',')},4\n",
        "csv",
    ),
    "csv of supervision": (
        "b.csv",
        f"x_min,y_min,x_max,y_max,class_id,confidence,tracker_id,class_name,frame_number\n{X},{Y},{X + W},{Y + H},0,0.75,4,person,3\n",
        "csv",
    ),
    "json of supervision": ("b.json", [{**SUPERVISION, "class_name": "person", "frame_index": 3}], "results"),
    "json of ultralytics": (
        "b.json",
        [[], [], [], [{"name": "person", "class": 0, "confidence": 0.75, "box": CORNER_KEYS, "track_id": 4}]],
        "results",
    ),
    "csv of ultralytics": (
        "b.csv",
        f'frame,name,class,confidence,box,track_id\n3,person,0,0.75,"{CORNER_KEYS}",4\n',
        "csv",
    ),
    "mot ground truth": ("gt.txt", f"4,4,{X + 1},{Y + 1},{W},{H},1,1,0.9\n", "mot"),
    "mot results": ("b.txt", f"4, 4, {X + 1}, {Y + 1}, {W}, {H}, 0.75, -1, -1, -1\n", "mot"),
    "coco": ("b.json", coco(track_id=4), "coco"),
    "coco of cvat": ("b.json", coco(attributes={"track_id": 4, "occluded": False}), "coco"),
    "cvat for video": ("b.xml", cvat_video((3, CORNERS, False), (4, CORNERS, True)), "cvat"),
}


def crops(boxes_of_video, source):
    """(frame, track, crop) of every box."""
    return [
        (frame.number, int(track), cut_box(frame.pixels, x0, y0, x1 - x0, y1 - y0))
        for frame, found in boxes_of_video.stream(source.frames())
        for (x0, y0, x1, y1), track in zip(found.boxes, found.tracks)
    ]


def single_crop(path, img1, **options):
    source = open_frames(img1, fps=25)
    (found,) = crops(BoxesOfVideo(read_boxes(path), source, **options), source)
    return found


@pytest.mark.parametrize("form", VIDEO_FORMS)
def test_the_crop_is_the_box(form, tmp_path, img1, frames):
    name, content, expected = VIDEO_FORMS[form]
    path = write(tmp_path / name, content)
    assert recognise_boxes(path) == expected
    number, track, crop = single_crop(path, img1)
    assert (number, track) == (FRAME, 4)
    assert np.array_equal(crop, frames[FRAME, Y : Y + H, X : X + W])


def test_every_form_has_a_test():
    assert {form for _, _, form in VIDEO_FORMS.values()} | {"yolo"} == set(BOX_FORMATS)


@pytest.mark.parametrize("names, kind", BOXES, ids=lambda one: one if isinstance(one, str) else "-".join(one))
def test_all_sets_of_columns_state_the_same_box(names, kind):
    values = {"corners": CORNERS, "size": (X, Y, W, H), "centre": (X + W / 2, Y + H / 2, W, H)}[kind]
    columns = BoxColumns.find(["frame", *names])
    assert columns.corners(dict(zip(names, values)), "here") == CORNERS


# --- YOLO -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more, score, track", [("", 1, -1), (" 0.75", 0.75, -1), (" 0.75 4", 0.75, 4), (" 4", 1, 4)], ids=str
)
def test_yolo_labels_of_frames(tmp_path, img1, frames, more, score, track):
    """The label file has the name of its frame."""
    write(tmp_path / "labels" / "000004.txt", f"0 {fractions()}{more}\n")
    write(tmp_path / "labels" / "000005.txt", "")
    boxes = read_boxes(tmp_path / "labels", class_names=["person"])
    assert boxes.detections.scores.tolist() == [score]
    source = open_frames(img1, 25)
    ((number, found_track, crop),) = crops(BoxesOfVideo(boxes, source), source)
    assert (number, found_track) == (FRAME, track)
    assert np.array_equal(crop, frames[FRAME, Y : Y + H, X : X + W])


def test_ultralytics_text_of_a_video_counts_from_1(tmp_path, frames, small_video):
    """save_txt writes VIDEO_FRAME.txt, and no file for a frame without boxes."""
    write(tmp_path / "labels" / f"{small_video.stem}_4.txt", f"0 {fractions()} 0.75 4\n")
    source = open_frames(small_video)
    ((number, track, _),) = crops(BoxesOfVideo(read_boxes(tmp_path / "labels"), source), source)
    assert (number, track) == (FRAME, 4)


def test_yolo_labels_of_still_pictures(tmp_path, frames):
    """images/ and labels/ lie next to each other, with the names of classes above."""
    write(tmp_path / "set" / "labels" / "a.txt", f"1 {fractions()}\n")
    write(tmp_path / "set" / "data.yaml", yaml.safe_dump({"names": {0: "car", 1: "person"}}))
    write_folder(tmp_path / "set" / "images", frames[:1], pattern="a.png")
    ((path, found),) = boxes_of_pictures(read_boxes(tmp_path / "set" / "labels"))
    x0, y0, x1, y1 = found.boxes[0]
    assert found.labels == ("person",)
    assert np.array_equal(cut_box(cv2.imread(str(path)), x0, y0, x1 - x0, y1 - y0), frames[0, Y : Y + H, X : X + W])


def test_a_polygon_becomes_the_rectangle_around_it(tmp_path):
    path = write(tmp_path / "a.txt", "0 0.1 0.2 0.5 0.1 0.3 0.6 0.2 0.4\n")
    assert read_boxes(path, "yolo").detections.boxes == pytest.approx(np.array([[0.1, 0.1, 0.5, 0.6]]))


def test_whole_sixth_values_of_0_or_1_are_not_clear(tmp_path):
    write(tmp_path / "labels" / "a.txt", f"0 {fractions()} 1\n")
    with pytest.raises(UserError, match=r"a.txt:1: the sixth values are all 0 or 1"):
        read_boxes(tmp_path / "labels")


# --- still pictures -------------------------------------------------------------------------------------------------

STILLS = {
    "csv": ("b.csv", f"path,x,y,width,height\nstills/a.png,{X},{Y},{W},{H}\n"),
    "coco": ("b.json", coco("stills/a.png")),
    "supervision": ("b.json", [{**SUPERVISION, "image_path": "stills/a.png"}]),
    "cvat for images": (
        "b.xml",
        '<annotations><version>1.1</version><image id="0" name="stills/a.png" width="96" height="64"><box label="person" '
        f'occluded="0" xtl="{X}" ytl="{Y}" xbr="{X + W}" ybr="{Y + H}" z_order="0"></box></image></annotations>',
    ),
}


@pytest.mark.parametrize("form", STILLS)
def test_the_crop_of_a_still_picture_is_the_box(form, tmp_path, frames):
    """Paths start at the file's folder."""
    write_folder(tmp_path / "stills", frames[:1], pattern="a.png")
    name, content = STILLS[form]
    ((path, found),) = boxes_of_pictures(read_boxes(write(tmp_path / name, content)))
    x0, y0, x1, y1 = found.boxes[0]
    assert np.array_equal(cut_box(cv2.imread(str(path)), x0, y0, x1 - x0, y1 - y0), frames[0, Y : Y + H, X : X + W])


def test_a_picture_as_a_video_of_one_frame_has_its_boxes(tmp_path, frames):
    write_folder(tmp_path, frames[:1], pattern="a.png")
    path = write(tmp_path / "b.csv", f"path,x,y,width,height\na.png,{X},{Y},{W},{H}\n")
    source = open_frames(tmp_path / "a.png")
    ((number, _, crop),) = crops(BoxesOfVideo(read_boxes(path), source), source)
    assert number == 0 and np.array_equal(crop, frames[0, Y : Y + H, X : X + W])


def test_missing_pictures_are_counted(tmp_path):
    path = write(tmp_path / "b.csv", "path,x,y,width,height\na.png,1,2,3,4\nb.png,1,2,3,4\n")
    with pytest.raises(FileNotFoundError, match=r"2 of its 2 pictures are missing .*a.png"):
        list(boxes_of_pictures(read_boxes(path)))


def test_boxes_in_frames_need_a_video(tmp_path):
    path = write(tmp_path / "b.csv", "frame,x,y,width,height\n0,1,2,3,4\n")
    with pytest.raises(UserError, match="give the video as well"):
        list(boxes_of_pictures(read_boxes(path)))


# --- frames that do not fit -----------------------------------------------------------------------------------------


def place(tmp_path, img1, content, name="b.csv", **options):
    return BoxesOfVideo(read_boxes(write(tmp_path / name, content)), open_frames(img1, 25), **options)


def test_frames_counted_from_1_are_noticed(tmp_path, img1):
    """Frame 0 has no box, and the last box lies in frame 6 of 6."""
    rows = "frame,x,y,width,height\n" + "".join(f"{number},1,2,30,40\n" for number in range(1, NUM_FRAMES + 1))
    with pytest.raises(UserError, match=r"up to frame 6, counted from 0.*has 6: .*--first-frame 1"):
        place(tmp_path, img1, rows)
    assert place(tmp_path, img1, rows, first_frame=1)


def test_frames_of_a_longer_video_are_noticed(tmp_path, img1):
    """Frames 500 to 505 of the whole, and a video of these six."""
    rows = "frame,x,y,w,h\n500,1,2,30,40\n505,1,2,30,40\n"
    with pytest.raises(
        UserError, match=r"has 6: if the video's first frame is number 500 there, give --first-frame 500"
    ):
        place(tmp_path, img1, rows)
    assert place(tmp_path, img1, rows, first_frame=500)


def test_times_outside_the_video_are_refused(tmp_path, img1):
    """Such as seconds since 1970."""
    with pytest.raises(UserError, match=r"from second 0.1 to 1769846400; .* has 0.2 s: times count from the start"):
        place(tmp_path, img1, "timestamp,x,y,w,h\n0.1,1,2,30,40\n1769846400,1,2,30,40\n")


def test_a_box_behind_the_end_names_both_counts(tmp_path, img1):
    with pytest.raises(UserError, match=r"up to frame 8, counted from 0, and covers 9 frames.*has 6"):
        place(tmp_path, img1, "frame,x,y,w,h\n0,1,2,3,4\n8,1,2,3,4\n")


def test_a_video_shorter_than_its_container_states_is_noticed_at_its_end(tmp_path):
    """Its header says 60 frames; the file is cut off before the box in frame 50."""
    video = write_video(tmp_path / "cut.avi", noise_frames(60))
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    source = open_frames(video)
    boxes = BoxesOfVideo(read_boxes(write(tmp_path / "b.csv", "frame,x,y,w,h\n1,2,3,30,40\n50,2,3,30,40\n")), source)
    with pytest.raises(UserError, match=r"has boxes up to frame 50, .* has \d\d: check"):
        list(boxes.stream(source.frames()))
    assert source.count_frames() < 50


def test_motchallenge_knows_no_frame_0(tmp_path, img1):
    with pytest.raises(UserError, match=r"b.txt:2: frame 0; .*count from 1"):
        place(tmp_path, img1, "1,1,1,2,3,4,1,-1,-1,-1\n0,1,1,2,3,4,1,-1,-1,-1\n", "b.txt")


def test_a_list_longer_than_the_video_is_refused(tmp_path, img1):
    """Also where the last lists are empty."""
    with pytest.raises(UserError, match=r"covers 7 frames; .* has 6"):
        place(tmp_path, img1, [[{"name": "person", "box": CORNER_KEYS}], *[[]] * 6], "b.json")


def test_boxes_of_larger_frames_are_refused(tmp_path, img1):
    source = open_frames(img1, 25)
    boxes = place(tmp_path, img1, "frame,x,y,w,h\n0,700,300,60,90\n1,720,300,60,90\n")
    with pytest.raises(UserError, match=r"most boxes lie outside the frames of 96 x 64 pixels"):
        list(boxes.stream(source.frames()))


def test_the_frame_size_that_a_file_states_has_to_be_the_videos(tmp_path, img1):
    text = cvat_video((0, CORNERS, False)).replace(f"<width>{WIDTH}", "<width>1920")
    with pytest.raises(UserError, match=r"1920 x 64 pixels, those of the video have 96 x 64"):
        list(place(tmp_path, img1, text, "b.xml").stream(open_frames(img1, 25).frames()))


def test_pictures_that_are_not_in_the_folder_of_frames(tmp_path, img1):
    with pytest.raises(UserError, match=r"1 of its 1 pictures are not among the 6 .*000009.png"):
        place(tmp_path, img1, coco("000009.png"), "b.json")


def test_the_first_frame_of_named_pictures_may_be_unclear(tmp_path, small_video):
    """Numbers from 4 on: nobody knows whether the first frame is 0 or 1."""
    boxes = read_boxes(write(tmp_path / "b.json", coco("frame_000004.png")))
    with pytest.raises(UserError, match=r"names 1 frames, from number 4 on; state with --first-frame"):
        BoxesOfVideo(boxes, open_frames(small_video))
    source = open_frames(small_video)
    assert [number for number, _, _ in crops(BoxesOfVideo(boxes, source, first_frame=1), source)] == [3]


def test_boxes_of_several_videos_are_separated_by_name(tmp_path, img1):
    rows = "video,frame,x,y,width,height\ndoor.mp4,900,1,2,30,40\nfilm/img1,2,13,7,20,30\n"
    assert place(tmp_path, img1, rows)
    with pytest.raises(UserError, match=r"holds no box of img1, but of door.mp4, hall.mp4"):
        place(tmp_path, img1, rows.replace("film/img1", "hall.mp4"))


def test_pictures_of_several_folders_are_separated_by_folder(tmp_path, img1):
    """As in MOTChallenge converted to COCO: each sequence has an img1/000004.png."""
    data = coco("other/img1/000004.png")
    data["images"].append({"id": 10, "file_name": f"{img1.parent.name}/img1/000002.png"})
    data["annotations"].append({**data["annotations"][0], "image_id": 10, "bbox": [1, 2, 30, 40]})
    source = open_frames(img1, 25)
    ((number, _, crop),) = crops(place(tmp_path, img1, data, "b.json"), source)
    assert (number, crop.shape) == (1, (40, 30, 3))


# --- wrong files ----------------------------------------------------------------------------------------------------

WRONG = {
    "b.csv": [
        ("frame,x,y,width\n1,2,3,4\n", r"no known form of boxes, starts with 'frame,x,y,width'"),
        ("x,y,width,height\n1,2,3,4\n", r"b.csv:1: expected .* one of frame, seconds, path; found x, y"),
        ("frame,x,y,width,height\n1,2,3,4,5\n1,2,3\n", r"b.csv:3: 3 values; the first line names 5"),
        ("frame,x,y,width,height\n1,2,3,4,5\n\n1,2,,4,5\n", r"b.csv:4: y: expected a number, found nothing"),
        ("frame,x,y,width,height\n1,2,3,nan,5\n", r"b.csv:2: width: expected a number, found 'nan'"),
        ("frame,x,y,width,height\n1.5,2,3,4,5\n", r"b.csv:2: frame: expected a whole number, found '1.5'"),
        ("frame,x,y,width,height\n,2,3,4,5\n", r"b.csv:2: the frame is empty"),
        ("frame,x1,y1,x2,y2\n1,30,30,20,40\n", r"b.csv:2: the box 30, 30, 20, 40 has no area; expected x0, y0, x1, y1"),
    ],
    "b.txt": [
        ("1,1,2,3,4,5,1,-1,-1,-1\n1,1,2,3,4\n", r"b.txt:2: 5 values; MOTChallenge's lines have 6 to 10"),
        ("1,1,2,3,4,5,1,-1,-1,-1\n1,1,2,3,4,5,1\n", r"b.txt:2: 7 values; the lines before have 10"),
        ("1,1,2,3,4,0,1,-1,-1,-1\n", r"b.txt:1: the box .* has no area; expected x, y, width, height"),
        ("1,1,2,3,a,5,1,-1,-1,-1\n", r"b.txt: no known form of boxes, starts with '1,1,2,3,a,5"),
        ("hello\n", r"no known form of boxes, starts with 'hello'"),
    ],
    "b.json": [
        ('[{"x_min": 1,\n "x_max": }]', r"b.json:2: not JSON"),
        ({"annotations": []}, r"expected an object with images and annotations"),
        (coco(bbox=[1, 2, 3]), r"annotations\[0\]: bbox is \[1, 2, 3\]; expected \[x, y, width, height\]"),
        (coco(image_id=5), r"annotations\[0\]: image_id 5 is not among the 1 images"),
        (coco(category_id=5), r"annotations\[0\]: category_id 5 is not among the categories"),
        ([{"name": "person", "box": CORNER_KEYS}], r"entry 0: expected a list of boxes with a frame"),
        ([[], {"box": CORNER_KEYS}], r"entry 1 is no list"),
        (
            [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}],
            r"entry 0: expected .*found the keys image_id",
        ),
        ("7", r"no known form"),
    ],
    "b.xml": [
        ("<annotations>\n<track></annotations>", r"b.xml:2: not XML"),
        ("<a>\n<!-- <annotations -->\n</a>", r"starts with <a>; expected"),
        (cvat_video((2, CORNERS, False), (2, CORNERS, False)), r"track 4: has two boxes in frame 2"),
        (cvat_video((7, CORNERS, False)), r"track 4: has a box in frame 7; the last frame of the task is 5"),
        (cvat_video((2, (9, 9, 3, 12), False)), r"track 4, frame 2: the box .* has no area"),
        (
            cvat_video((2, CORNERS, False)).replace("ytl=", "y="),
            r"track 4, frame 2: ytl: expected a number, found nothing",
        ),
    ],
}


@pytest.mark.parametrize(
    "name, content, message", [(name, *case) for name, cases in WRONG.items() for case in cases], ids=str
)
def test_a_wrong_file_is_refused_with_line_and_reason(tmp_path, name, content, message):
    with pytest.raises(UserError, match=message):
        read_boxes(write(tmp_path / name, content))


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UserError, match="no known form of boxes"):
        read_boxes(tmp_path / "b.csv")
    (tmp_path / "c.csv").write_bytes(b"frame,x,y,w,h\n" + b"1,2,3,4,5\n" * 9000 + b"\xff\n")
    with pytest.raises(UserError, match="c.csv:9002: not UTF-8"):
        read_boxes(tmp_path / "c.csv")


def test_a_form_stated_wrongly_lists_those_accepted(tmp_path):
    with pytest.raises(UserError, match="boxes: unknown value 'voc'; choose from coco, csv, cvat, mot, results, yolo"):
        read_boxes(write(tmp_path / "b.csv", ""), "voc")


# --- MOTChallenge ---------------------------------------------------------------------------------------------------


def test_ignored_boxes_of_ground_truth_are_left_out(tmp_path):
    """Confidence 0 marks them; the class stands in the eighth column."""
    rows = "1,1,5,5,20,30,1,1,1\n1,2,5,5,20,30,0,1,1\n2,3,5,5,20,30,1,3,0.5\n2,4,5,5,20,30,1,7,0.5\n"
    boxes = read_boxes(write(tmp_path / "gt.txt", rows))
    assert boxes.detections.labels == ("person", "car", "static person")
    assert boxes.detections.tracks.tolist() == [1, 3, 4]
    assert len(select_classes(boxes, ("person",))) == 1


def test_detections_have_no_track(tmp_path):
    boxes = read_boxes(write(tmp_path / "det.txt", "1,-1,5,5,20,30,0.4\n2,-1,5,5,20,30,0.9\n"))
    assert boxes.detections.tracks.tolist() == [-1, -1]
    assert boxes.detections.scores == pytest.approx([0.4, 0.9])


@pytest.mark.parametrize("stated, scores", [((-1, -1), (1, 1)), ((-0.5, 1.5), (0, 1)), ((40, 90), (0, 1))])
def test_confidences_come_to_lie_in_0_to_1(tmp_path, stated, scores):
    rows = "".join(f"{number},-1,5,5,20,30,{value},-1,-1,-1\n" for number, value in enumerate(stated, 1))
    assert read_boxes(write(tmp_path / "det.txt", rows)).detections.scores.tolist() == list(scores)


@given(
    st.lists(st.integers(0, 40000), min_size=4, max_size=4), st.integers(0, 9999), st.integers(-1, 99), st.floats(0, 1)
)
def test_what_is_written_as_motchallenge_is_read_again(tmp_path_factory, hundredths, number, track, score):
    x, y, w, h = (value / 100 for value in hundredths)
    before = Detections.of([[x, y, x + w + 1, y + h + 1]], [score], tracks=[track])
    path = write(tmp_path_factory.mktemp("mot") / "b.txt", mot_line(number, before, 0))
    after = read_boxes(path)
    assert (after.frames - after.first_frame).tolist() == [number]
    assert after.detections.tracks.tolist() == [track]
    assert after.detections.boxes == pytest.approx(before.boxes, abs=0.011)
    assert after.detections.scores == pytest.approx(before.scores, abs=1e-4)


# --- CVAT -----------------------------------------------------------------------------------------------------------

AT = [(0.0, 0.0, 10.0, 10.0), (8.0, 4.0, 18.0, 14.0)]


def shown(keys, last=9, step=1):
    return dict(interpolated(keys, Task(last, step, None), "here"))


def test_between_key_frames_a_box_moves_in_a_straight_line():
    found = shown([KeyFrame(2, AT[0], False), KeyFrame(6, AT[1], False)], last=7)
    assert found[3] == (2.0, 1.0, 12.0, 11.0)
    assert found[5] == (6.0, 3.0, 16.0, 13.0)
    assert sorted(found) == [2, 3, 4, 5, 6, 7]  # up to the end of the task


def test_outside_ends_a_box_until_the_next_key_frame():
    found = shown(
        [KeyFrame(1, AT[0], False), KeyFrame(3, AT[1], True), KeyFrame(6, AT[1], False), KeyFrame(8, AT[1], True)]
    )
    assert sorted(found) == [1, 2, 6, 7]


def test_a_task_of_every_third_frame_has_boxes_there_only():
    assert sorted(shown([KeyFrame(0, AT[0], False), KeyFrame(6, AT[1], False)], last=9, step=3)) == [0, 3, 6, 9]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6, unique=True), st.data())
def test_interpolated_lines_that_cvat_writes_change_nothing(numbers, data):
    """A dump with a line for each frame and one with key frames only are the same boxes."""
    keys = [KeyFrame(number, data.draw(st.sampled_from(AT)), data.draw(st.booleans())) for number in sorted(numbers)]
    boxes = shown(keys, last=30)
    dense = [KeyFrame(number, box, False) for number, box in boxes.items()] + [key for key in keys if key.outside]
    assert shown(dense, last=30).keys() == boxes.keys()
    for number, box in shown(dense, last=30).items():
        assert box == pytest.approx(boxes[number])


def test_a_rotated_box_becomes_the_rectangle_around_it(tmp_path):
    text = cvat_video((2, (10, 20, 30, 60), False)).replace("z_order", 'rotation="90.00" z_order')
    boxes = read_boxes(write(tmp_path / "b.xml", text)).detections.boxes
    assert boxes[0] == pytest.approx([0, 30, 40, 50], abs=1e-4)


def test_start_and_filter_of_a_task_are_read(tmp_path):
    """A task of 3 frames from frame 1 on, every second one."""
    more = "<start_frame>1</start_frame><frame_filter>step=2</frame_filter>"
    boxes = read_boxes(write(tmp_path / "b.xml", cvat_video((1, CORNERS, False), size=3, more=more)))
    assert boxes.frames.tolist() == [1, 3, 5]


def test_several_tasks_in_one_file_are_refused(tmp_path):
    text = '<annotations><track id="0" label="person" task_id="1"/><track id="1" label="person" task_id="2"/></annotations>'
    with pytest.raises(UserError, match="holds several tasks"):
        read_boxes(write(tmp_path / "b.xml", text))


# --- classes --------------------------------------------------------------------------------------------------------


def test_class_numbers_get_their_names(tmp_path):
    path = write(tmp_path / "b.csv", "frame,x,y,w,h,class\n0,1,2,3,4,0\n0,1,2,3,4,2\n")
    assert read_boxes(path, class_names="coco80").detections.labels == ("person", "car")


def test_a_class_that_no_box_has_is_an_error(tmp_path):
    """Numbers without names would otherwise leave nothing, without a word."""
    path = write(tmp_path / "b.csv", "frame,x,y,w,h,class,score\n0,1,2,3,4,0,0.9\n0,1,2,3,4,2,0.2\n")
    with pytest.raises(UserError, match=r"no box of the class person; its classes are 0, 2"):
        select_classes(read_boxes(path), ("person",))
    assert len(select_classes(read_boxes(path), ("0", "2"), 0.5)) == 1


@given(st.lists(st.tuples(st.integers(0, NUM_FRAMES - 1), *[st.integers(0, 31)] * 4), max_size=20))
def test_every_box_of_a_file_arrives_in_its_frame(tmp_path_factory, img1, rows):
    """Lines in any order; nothing is lost or doubled."""
    lines = "".join(f"{f},{x},{y},{x + w + 1},{y + h + 1}\n" for f, x, y, w, h in rows)
    path = write(tmp_path_factory.mktemp("csv") / "b.csv", "frame,x1,y1,x2,y2\n" + lines)
    source = open_frames(img1, 25)
    found = [
        (frame.number, *box)
        for frame, detections in BoxesOfVideo(read_boxes(path), source).stream(source.frames())
        for box in detections.boxes.tolist()
    ]
    assert sorted(found) == sorted((f, x, y, x + w + 1, y + h + 1) for f, x, y, w, h in rows)
