"""Frames: their numbers and times, strides, folders, and what is said of files that cannot be read."""

import functools
import http.server
import threading

import cv2
import numpy as np
import pytest
from films import HEIGHT, NUM_FRAMES, WIDTH, noise_frames, write_folder, write_video

from vitreid.common.errors import UserError
from vitreid.tracking.frames import CorruptVideoError, FrameFolder, LiveStream, StillPicture, open_frames


def numbers(source, **options):
    return [frame.number for frame in source.frames(**options)]


def decoded(path):
    """All frames as OpenCV reads them."""
    capture, found = cv2.VideoCapture(str(path)), []
    while (result := capture.read())[0]:
        found.append(result[1])
    return found


@pytest.fixture(scope="module")
def mp4(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("mp4") / "hall.mp4", noise_frames(40), 10, "mp4v")


@pytest.fixture
def raw(tmp_path):
    """A raw stream: JPEG pictures in a row, without timestamps or count."""
    path = tmp_path / "hall.mjpeg"
    path.write_bytes(b"".join(cv2.imencode(".jpg", frame)[1].tobytes() for frame in noise_frames(7)))
    return path


def test_frames_have_numbers_times_and_pixels(mp4):
    source = open_frames(mp4)
    assert (source.fps, source.num_frames, source.live) == (10, 40, False)
    frames = list(source.frames())
    assert [frame.number for frame in frames] == list(range(40))
    assert [frame.seconds for frame in frames] == pytest.approx([number / 10 for number in range(40)])
    assert np.array_equal([frame.pixels for frame in frames], decoded(mp4))


def test_a_source_can_be_read_twice(mp4):
    source = open_frames(mp4)
    assert numbers(source) == numbers(source)


@pytest.mark.parametrize(
    "every, start, expected", [(10, 0, [0, 10, 20, 30]), (7, 8, [14, 21, 28, 35]), (1, 38, [38, 39])]
)
def test_every_nth_frame_is_the_same_from_any_start(mp4, every, start, expected):
    """Numbers are multiples of the stride, so a pass that is resumed reads the same frames."""
    frames = list(open_frames(mp4).frames(every, start))
    assert [frame.number for frame in frames] == expected
    everything = decoded(mp4)
    assert all(np.array_equal(frame.pixels, everything[frame.number]) for frame in frames)


@pytest.mark.parametrize("every, start", [(0, 0), (1, -1)])
def test_a_stride_below_1_is_refused(mp4, every, start):
    with pytest.raises(UserError, match="give a stride of 1 or more"):
        next(open_frames(mp4).frames(every, start))


def test_a_stated_rate_replaces_the_timestamps(mp4):
    assert [frame.seconds for frame in open_frames(mp4, fps=20).frames(every=20)] == [0, 1]
    with pytest.raises(UserError, match=r"--fps: 0; give"):
        open_frames(mp4, fps=0)


def test_a_raw_stream_has_neither_times_nor_count(raw, caplog):
    source = open_frames(raw)
    assert source.num_frames is None
    assert source.count_frames() == 7
    assert "states no frame rate; 25 frames/s are assumed: set --fps" in caplog.text
    assert [frame.seconds for frame in open_frames(raw, fps=5).frames()] == [number / 5 for number in range(7)]


def test_the_real_raw_stream(assets):
    source = open_frames(assets / "video" / "people-detection.264", fps=12)
    assert source.num_frames is None
    assert source.count_frames() == 596
    assert next(source.frames(start=300)).seconds == 25


# --- files that cannot be read --------------------------------------------------------------------------------------


def test_a_file_without_frames_says_why(tmp_path, mp4):
    cases = {"empty.mp4": (b"", "the file is empty"), "text.mp4": (b"hello\n", "cannot open it as a video")}
    cases["cut.mp4"] = (mp4.read_bytes()[:-2000], r"the index \(moov\) of this MP4 file is missing")
    for name, (content, reason) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CorruptVideoError, match=f"{name}: .*{reason}"):
            open_frames(tmp_path / name)


def test_a_container_without_a_decodable_frame_says_so(tmp_path, small_video):
    """The header of an AVI file with nothing behind it."""
    content = small_video.read_bytes()
    (tmp_path / "head.avi").write_bytes(content[: content.index(b"movi") + 4])
    with pytest.raises(CorruptVideoError, match="head.avi: .*no frame of it can be decoded|cannot open it"):
        open_frames(tmp_path / "head.avi")


def test_a_truncated_file_gives_its_frames_and_a_warning(tmp_path, caplog):
    path = write_video(tmp_path / "hall.avi", noise_frames(60))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 3])
    source = open_frames(path)
    read = numbers(source)
    assert 10 < len(read) < 30
    assert f"hall.avi: {len(read)} of 60 frames could be decoded" in caplog.text
    assert source.count_frames() == len(read)


def test_a_missing_file_lists_what_is_accepted():
    with pytest.raises(
        FileNotFoundError, match=r"'hall.mp4' does not exist; expected a video file, a folder of frames"
    ):
        open_frames("hall.mp4")


# --- folders and pictures -------------------------------------------------------------------------------------------


def test_a_folder_of_frames_is_ordered_by_number(tmp_path):
    frames = noise_frames(12)
    source = open_frames(write_folder(tmp_path / "img1", frames, first=1, pattern="frame{}.png"), fps=4)
    assert isinstance(source, FrameFolder)
    assert source.first_file_number == 1
    found = list(source.frames())
    assert [frame.number for frame in found] == list(range(12))
    assert [frame.seconds for frame in found] == [number / 4 for number in range(12)]
    assert np.array_equal([frame.pixels for frame in found], frames)


def test_missing_files_are_missing_frames(tmp_path):
    """Every fifth frame of a video, say: frame 5 stays frame 5."""
    frames = noise_frames(3)
    for number, frame in zip((10, 15, 25), frames):
        write_folder(tmp_path, frame[None], first=number)
    source = open_frames(tmp_path, fps=5)
    assert numbers(source) == [0, 5, 15]
    assert source.num_frames == source.count_frames() == 16
    assert [frame.seconds for frame in source.frames()] == [0, 1, 3]


def test_a_folder_without_numbers_is_ordered_by_name(tmp_path):
    for name in ("b.png", "a.png"):
        write_folder(tmp_path, noise_frames(1, seed=ord(name[0])), pattern=name)
    first, second = open_frames(tmp_path, fps=1).frames()
    assert np.array_equal(first.pixels, noise_frames(1, seed=ord("a"))[0])
    assert second.number == 1


def test_the_rate_of_motchallenge_is_read(tmp_path):
    (tmp_path / "seqinfo.ini").write_text("[Sequence]\nname=MOT16-02\nframeRate=30\nseqLength=6\n")
    assert open_frames(write_folder(tmp_path / "img1", noise_frames(2))).fps == 30


def test_two_files_of_one_number_are_refused(tmp_path):
    write_folder(write_folder(tmp_path, noise_frames(1)), noise_frames(1), pattern="b_{}.png")
    with pytest.raises(UserError, match=r"000001.png and b_1.png are both frame 1"):
        open_frames(tmp_path)


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no image files"):
        open_frames(tmp_path)


def test_a_picture_is_a_video_of_one_frame(tmp_path):
    write_folder(tmp_path, noise_frames(1), pattern="door.png")
    source = open_frames(tmp_path / "door.png")
    assert isinstance(source, StillPicture)
    assert np.array_equal(next(source.frames()).pixels, noise_frames(1)[0])
    assert numbers(source, start=1) == []


# --- live sources ---------------------------------------------------------------------------------------------------


@pytest.fixture
def url(small_video):
    """A server that sends the small video once, as a camera would."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(small_video.parent))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://user:secret@127.0.0.1:{server.server_port}/{small_video.name}"
    server.shutdown()
    server.server_close()


def test_a_live_source_is_read_once_and_hides_its_password(url):
    source = open_frames(url)
    assert isinstance(source, LiveStream)
    assert source.live and source.num_frames is None
    assert "secret" not in source.name
    frames = list(source.frames())
    assert [frame.number for frame in frames] == list(range(NUM_FRAMES))
    assert frames[0].pixels.shape == (HEIGHT, WIDTH, 3)
    assert frames[0].seconds == 0
    with pytest.raises(UserError, match="a live source is read once"):
        next(source.frames())


def test_a_closed_live_source_ends_its_loop(url):
    source = open_frames(url)
    seen = []
    for frame in source.frames():
        seen.append(frame.number)
        source.close()
    assert seen == [0]


def test_a_slow_reader_of_a_live_source_loses_the_oldest_frames(url, monkeypatch):
    """So that it never lags behind; the numbers show what is missing."""
    monkeypatch.setattr("vitreid.tracking.frames.live_stream.WAITING", 2)
    frames = open_frames(url).frames()
    first = next(frames).number
    for reader in [thread for thread in threading.enumerate() if thread.name == "live stream"]:
        reader.join()  # now at the latest the camera has sent everything
    rest = [frame.number for frame in frames]
    assert first < rest[0] and rest == list(range(NUM_FRAMES))[-len(rest) :]
    assert len(rest) <= 2


def test_a_live_source_without_a_frame_is_an_error(url):
    source = open_frames(url)
    source._capture.release()  # a camera that answers and sends nothing
    with pytest.raises(CorruptVideoError, match="no frame came within 10 s; check the camera"):
        next(source.frames())


def test_an_address_without_an_answer_is_one_message():
    with pytest.raises(CorruptVideoError, match=r"rtsp://127.0.0.1:9/door: this stream cannot be opened"):
        open_frames("rtsp://admin:secret@127.0.0.1:9/door")
