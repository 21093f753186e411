"""Image files of a folder: order, endings, hidden files, links."""

from vitreid.datasets.readers.image_files import OTHER_PICTURES, list_images, walk_images


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_images_come_sorted_within_each_folder(tmp_path):
    make(tmp_path, "b.jpg", "a.PNG", "notes.txt", "b/z.webp", "b/a.bmp", "c.jpeg")
    assert list(walk_images(tmp_path)) == [
        str(tmp_path / n) for n in ("a.PNG", "b/a.bmp", "b/z.webp", "b.jpg", "c.jpeg")
    ]
    assert [path.name for path in list_images(tmp_path)] == ["a.PNG", "b.jpg", "c.jpeg"]


def test_cameras_and_phones_name_jpegs_in_other_ways_too(tmp_path):
    make(tmp_path, "a.jfif", "b.JPE", "c.tif", "d.TIFF", "e.gif")
    assert [path.name for path in list_images(tmp_path)] == ["a.jfif", "b.JPE", "c.tif", "d.TIFF"]
    assert list(walk_images(tmp_path, OTHER_PICTURES)) == [str(tmp_path / "e.gif")]


def test_hidden_files_are_not_listed(tmp_path):
    make(tmp_path, "._a.jpg", ".jpg", "b.jpg")
    assert [path.name for path in list_images(tmp_path)] == ["b.jpg"]


def test_hidden_files_are_skipped_and_links_that_lead_back_end(tmp_path):
    make(tmp_path, ".hidden.jpg", ".cache/a.jpg", "people/a.jpg")
    (tmp_path / "people" / "again").symlink_to(tmp_path)
    assert list(walk_images(tmp_path)) == [str(tmp_path / "people" / "a.jpg")]
