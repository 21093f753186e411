"""A sound file of boxes in each form that `vitreid.tracking.box_files` reads."""

from __future__ import annotations

import json

COCO = {
    "images": [{"id": number, "file_name": f"{number:06d}.jpg", "width": 320, "height": 240} for number in range(1, 4)],
    "annotations": [
        {"id": number, "image_id": number, "category_id": 1, "bbox": [10.5, 20, 30, 60], "score": 0.9, "track_id": 7}
        for number in range(1, 4)
    ],
    "categories": [{"id": 1, "name": "person"}],
}
RESULTS = [
    [{"name": "person", "class": 0, "confidence": 0.9, "box": {"x1": 10, "y1": 20, "x2": 40, "y2": 80}, "track_id": 3}],
    [],
    [{"name": "person", "class": 0, "confidence": 0.8, "box": {"x1": 12, "y1": 20, "x2": 42, "y2": 80}}],
]
CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><size>9</size><original_size><width>320</width><height>240</height></original_size></task></meta>
  <track id="0" label="person">
    <box frame="0" outside="0" occluded="0" keyframe="1" xtl="10.0" ytl="20.0" xbr="40.0" ybr="80.0"/>
    <box frame="6" outside="1" occluded="0" keyframe="1" xtl="16.0" ytl="20.0" xbr="46.0" ybr="80.0"/>
  </track>
</annotations>
"""
PICTURES_OF_CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <image id="0" name="a.jpg" width="320" height="240">
    <box label="person" occluded="0" xtl="10.0" ytl="20.0" xbr="40.0" ybr="80.0"/>
  </image>
</annotations>
"""
MOT = "\n".join(f"{frame},{track},{9 + frame}.5,20,30,60,1,1,0.9" for frame in range(1, 5) for track in (1, 2)) + "\n"
CSV = "frame,x1,y1,x2,y2,confidence,class,track_id\n" + "".join(
    f"{n},10,20,40,80.5,0.9,person,{n % 2}\n" for n in range(6)
)
YOLO = "0 0.5 0.5 0.25 0.5 0.9\n0 0.25 0.5 0.125 0.5 0.8\n"

BOX_TEXTS = {  # form: name of the file, its content
    "coco": ("boxes.json", json.dumps(COCO)),
    "results": ("results.json", json.dumps(RESULTS)),
    "cvat tracks": ("tracks.xml", CVAT),
    "cvat images": ("images.xml", PICTURES_OF_CVAT),
    "mot": ("gt.txt", MOT),
    "csv": ("boxes.csv", CSV),
    "yolo": ("labels/hall_1.txt", YOLO),
}
