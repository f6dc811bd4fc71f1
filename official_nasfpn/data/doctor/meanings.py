"""What each finding is called, how bad it is, and what it means for AP."""

import enum
from collections.abc import Mapping


class Grade(enum.Enum):
  """How bad a finding is."""

  BAD = "costs AP"
  DOUBTFUL = "look at it"
  NOTE = "to know"


_BAD, _DOUBTFUL, _NOTE = Grade.BAD, Grade.DOUBTFUL, Grade.NOTE
_LEAK = (
  "A detector that has seen an image in training finds its boxes again: AP of that split is too "
  "high, and what is chosen by it is chosen for memory. Take them out of one of the two."
)
_OUT = "They are not trained on and not counted in AP. "

# By key of a finding, or of `report.PROBLEMS`; an empty title is that of the report.
MEANINGS: Mapping[str, tuple[Grade, str, str]] = {
  "leaks_files": (_BAD, "files are in more than one split", _LEAK),
  "leaks_pixels": (_BAD, "images have their pixels in more than one split", _LEAK),
  "leaks_looks": (
    _DOUBTFUL,
    "images look like one of another split",
    "Frames of one video, or a scaled or compressed copy, leak like the image itself: AP of that "
    "split is too high. Keep all that show one scene in one split; where they only happen to look "
    "alike, nothing is wrong.",
  ),
  "classes_empty": (
    _DOUBTFUL,
    "classes have no box at all",
    "The detector gets an output for each that nothing trains. AP leaves them out of its mean, and "
    "they never help it. Remove them from the list of classes, or look for the boxes that are "
    "lost.",
  ),
  "classes_untrained": (
    _BAD,
    "classes have boxes elsewhere and none to train on",
    "Their AP is 0, and it is part of the mean. Move images of them to training.",
  ),
  "classes_unmeasured": (
    _DOUBTFUL,
    "classes have no box in",
    "Their AP there is undefined and left out of the mean, so that nobody sees how well they are "
    "found. Move some of their images there.",
  ),
  "classes_rare": (
    _DOUBTFUL,
    "classes have few boxes to train on",
    "Below some twenty boxes AP of a class is mostly chance, and in the mean over classes it "
    "counts as much as any other. Annotate more of them, or join them with a class that they "
    "resemble.",
  ),
  "classes_renamed": (
    _BAD,
    "ids stand for one class in training and for another in a second split",
    "Boxes are told apart by id, so that right detections would count as wrong ones; `prepare` "
    "refuses training and validation data that disagree. Give all splits the same ids. What is "
    "said here of the classes of that split is by id, under their names in training.",
  ),
  "classes_alike": (
    _BAD,
    "names of classes differ in spelling alone",
    "One kind of object is two classes: each is trained to say no where the other says yes, and "
    "every confusion costs AP twice. Give them one name.",
  ),
  "boxes_normalised": (
    _BAD,
    "boxes lie within the first pixel: shares of the image, not pixels?",
    "Read as pixels they are specks in the corner, and nothing is learnt from them. COCO JSON has "
    "pixels: multiply them by width and height, or give the format that has shares (YOLO).",
  ),
  "boxes_corners": (
    _BAD,
    "boxes reach beyond the image, and would fit as two corners",
    "COCO's boxes are x, y, width and height; corners read as such are too large by their offset "
    "and wrong everywhere. Subtract x from the third number and y from the fourth.",
  ),
  "boxes_whole_image": (
    _DOUBTFUL,
    "boxes cover the whole image",
    "Right for a close-up, and a mistake where an image was only labelled: then the detector "
    "learns to frame everything, which costs precision in all classes.",
  ),
  "boxes_tiny": (
    _DOUBTFUL,
    "boxes have a side below 4 pixels",
    "Scaled to the network's input they are mostly below one pixel, where no anchor reaches them: "
    "they count in AP and are hardly ever found. A slip of the mouse should go; true small objects "
    "need a larger Detector.image_size, which `nasfpn anchors` tells.",
  ),
  "boxes_thin": (
    _DOUBTFUL,
    "boxes are twenty times longer than wide",
    "Anchors have ratios up to 2: such boxes match none well, and are mostly not found. See "
    "`nasfpn anchors`, and Detector.aspect_ratios.",
  ),
  "boxes_twice": (
    _BAD,
    "boxes lie on another one of their class",
    "An object is annotated twice. Only one of the two can be found after suppression of "
    "overlapping detections; the other counts as missed and lowers recall and AP. Remove it.",
  ),
  "boxes_two_classes": (
    _DOUBTFUL,
    "boxes lie on one of another class",
    "If the object is only one of the two, each is a false detection of the other for ever. If it "
    "is truly both, nothing is wrong.",
  ),
  "duplicate_files": (
    _DOUBTFUL,
    "files are there more than once in a split",
    "In training they count double; in validation their errors do. Where their boxes differ, at "
    "least one of them is wrong.",
  ),
  "duplicate_pixels": (
    _DOUBTFUL,
    "images are there more than once in a split, in other files",
    "In training they count double; in validation their errors do. Where their boxes differ, at "
    "least one of them is wrong.",
  ),
  "duplicate_looks": (
    _NOTE,
    "images look like others of their split",
    "Frames of a video or copies teach less than their number says, and must not be put into two "
    "splits. A val part that `prepare` splits off by lot would: give one as --val_annotations.",
  ),
  "images_missing": (_BAD, "", _OUT + "Is --images the folder that file names start from?"),
  "images_broken": (_BAD, "", _OUT + "Download or export them again."),
  "images_ambiguous_file": (
    _BAD,
    "",
    _OUT + "Give --images the folder that file names start from.",
  ),
  "images_backslashes": (_NOTE, "", "Names as Windows has them; nothing is lost."),
  "images_duplicate_id": (_NOTE, "", "Each is trained on once, with all boxes of its id."),
  "images_ambiguous_id": (
    _BAD,
    "",
    _OUT + "Nobody knows which of the files the boxes are on: number the images anew.",
  ),
  "images_same_file": (
    _NOTE,
    "",
    "Each entry counts, with its own boxes only: an object that one of them lacks is background "
    "there. Make them one entry with all boxes.",
  ),
  "images_no_size": (_NOTE, "", "The file itself says it; nothing is lost."),
  "images_other_size": (
    _DOUBTFUL,
    "",
    "If the images were scaled after they were annotated, all their boxes are wrong. Look at a "
    "few.",
  ),
  "images_turned": (
    _NOTE,
    "",
    "Tools show an image upright, and draw boxes on it so. If yours did not, the boxes are beside "
    "their objects: look at a few.",
  ),
  "images_reencoded": (_NOTE, "", "Pixels stay as they are; of an animation only the first "
  "picture is taken, and of 16 bits the upper 8."),
  "images_without_boxes": (
    _NOTE,
    "",
    "Right for an empty scene: it teaches what is no object. An image that nobody has annotated "
    "teaches that its objects are background, which costs recall in all classes.",
  ),
  "images_without_labels": (
    _DOUBTFUL,
    "",
    "As YOLO has it they are empty scenes. If their labels are lost, their objects are learnt as "
    "background, which costs recall.",
  ),
  "labels_without_image": (_DOUBTFUL, "", "Their boxes are lost. Is an image missing or renamed?"),
  "images_unlisted": (_DOUBTFUL, "", _OUT + "Are their annotations missing?"),
  "images_in_two_splits": (
    _DOUBTFUL,
    "",
    "As they are prepared nothing leaks, and the other split has fewer images than its list says, "
    "or none. What takes the lists as they are trains on what it measures on: correct them.",
  ),
  "images_annotated_twice": (
    _DOUBTFUL,
    "",
    "Objects that only another person has seen are learnt as background. Is the first one's work "
    "the best?",
  ),
  "images_test_as_val": (
    _NOTE,
    "",
    "What is chosen by its AP is no longer measured by it: keep other images for the last test.",
  ),
  "images_test_unused": (
    _NOTE,
    "",
    "To measure a finished detector on them, prepare them with --val_annotations.",
  ),
  "images_in_no_split": (_DOUBTFUL, "", _OUT + "Move them into the folder of a split."),
  "splits_missing": (
    _DOUBTFUL,
    "",
    "Their images are not trained on and not counted in AP. Is a folder missing or renamed?",
  ),
  "images_many_boxes": (
    _DOUBTFUL,
    "",
    "AP counts the best 100 detections of a class in an image. A training step takes a random "
    "choice of Input.max_num_boxes boxes of an image, 100 where it is not set, and the others are "
    "background in that step: raise it to the most that an image has.",
  ),
  "boxes_unknown_image": (_BAD, "", _OUT + "The list of images is not complete."),
  "boxes_unknown_category": (
    _BAD,
    "",
    _OUT + "Their objects are learnt as background. The list of classes is not complete.",
  ),
  "boxes_malformed": (_BAD, "", _OUT + "Their objects are learnt as background."),
  "boxes_unreadable": (_BAD, "", _OUT + "Their objects are learnt as background."),
  "boxes_without_size": (_BAD, "", _OUT + "Save the image again, or state its size."),
  "boxes_no_area": (_BAD, "", _OUT + "A click without a drag leaves one: remove or redraw them."),
  "boxes_outside": (
    _BAD,
    "",
    _OUT + "Their objects are learnt as background. One or two are slips; many mean that boxes "
    "belong to images of another size, or are not x, y, width and height.",
  ),
  "boxes_clipped": (
    _DOUBTFUL,
    "",
    "A few pixels are a slip and harmless. Many, or far beyond, mean that boxes belong to images "
    "of another size, or are two corners and not x, y, width and height.",
  ),
  "boxes_crowd": (
    _NOTE,
    "",
    "AP ignores detections in them, as COCO does; they are not trained on.",
  ),
  "boxes_voc_from_1": (
    _NOTE,
    "",
    "As VOC's devkit has it. If the tool wrote edges from 0, each is a pixel too large to the left "
    "and top, which matters for objects of few pixels only.",
  ),
  "boxes_voc_from_0": (_NOTE, "", "If they are VOC's after all, they are a pixel too small."),
  "boxes_shares": (
    _NOTE,
    "",
    "If they were pixels, no box would reach beyond the first one; nothing is lost.",
  ),
  "boxes_difficult": (
    _NOTE,
    "",
    "VOC's own evaluation leaves them out; here they are trained on and counted, as in COCO.",
  ),
  "boxes_of_rotated": (
    _NOTE,
    "",
    "The box around a rotated one is larger than the object; that is what can be detected here.",
  ),
  "boxes_from_outlines": (_NOTE, "", "An outline gives its box exactly; nothing is lost."),
  "categories_cleaned": (_NOTE, "", "Detections have the new names; AP is what it was."),
  "categories_same_name": (
    _DOUBTFUL,
    "",
    "If they are one kind of object, each is trained to say no where the other says yes, and "
    "every confusion costs AP twice: make them one. If they are two, give each a name of its own.",
  ),
}  # fmt: skip
