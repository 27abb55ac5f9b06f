"""How usable one view of a face is: a reason to reject it, or a score to rank it by.

The gate is used for choosing which frames of a track are embedded and for enrolment alike, so
that the gallery is never made from worse views than the door accepts.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from agent.base.values import Face, Image, Quality

CROP_PIXELS = 64  # sharpness and brightness are measured at this size, so they compare across sizes
FULL_SIZE_PIXELS = 112.0  # the embedder's input: a wider face brings nothing more
FULL_SHARPNESS = 250.0  # the median of photographs; see `sharpness`
CUT_SHARE = 0.12  # of the box outside the picture

TOO_SMALL = "too_small"
CUT_OFF = "cut_off"
TURNED = "turned_away"
BLURRED = "blurred"
TOO_DARK = "too_dark"
TOO_BRIGHT = "too_bright"


@dataclass(frozen=True, slots=True)
class QualityGate:
    """Limits a view must keep; see the ``vision`` section of the settings for the units."""

    min_face_pixels: float
    min_sharpness: float
    min_brightness: float
    max_brightness: float
    max_yaw: float

    def judge(self, image: Image, face: Face) -> Quality:
        """The quality of *face* in a BGR *image*; the first limit broken is the reason."""
        yaw = yaw_ratio(face)
        # Cheap checks first: a bystander costs no pixel work.
        for broken, reason in (
            (face.width < self.min_face_pixels, TOO_SMALL),
            (cut_share(image, face) > CUT_SHARE, CUT_OFF),
            (yaw > self.max_yaw, TURNED),
        ):
            if broken:
                return Quality(0.0, reason)
        grey = _grey_crop(image, face)
        brightness = float(grey.mean())
        sharp = sharpness(grey)
        for broken, reason in (
            (brightness < self.min_brightness, TOO_DARK),
            (brightness > self.max_brightness, TOO_BRIGHT),
            (sharp < self.min_sharpness, BLURRED),
        ):
            if broken:
                return Quality(0.0, reason)
        size = min(face.width / FULL_SIZE_PIXELS, 1.0)
        crisp = min(sharp / FULL_SHARPNESS, 1.0)
        frontal = 1.0 - yaw / max(self.max_yaw, 1e-6) * 0.5
        return Quality(float(np.sqrt(size) * (0.5 + 0.5 * crisp) * frontal * face.score))


def yaw_ratio(face: Face) -> float:
    """How far the nose is from the middle of the eyes, along the eye line, in eye distances.

    0 looks straight ahead; about 0.5 when a face is turned by 45 degrees; in-plane tilt does not
    count, because the offset is measured along the line of the eyes.
    """
    left, right, nose = face.landmarks[0], face.landmarks[1], face.landmarks[2]
    axis = right - left
    distance = float(np.hypot(axis[0], axis[1]))
    if distance < 1.0:
        return float("inf")
    offset = nose - (left + right) / 2
    return abs(float(np.dot(offset, axis))) / distance**2


def cut_share(image: Image, face: Face) -> float:
    """The share (0 to 1) of the face box that lies outside the picture."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = face.box
    inside = max(0.0, min(x2, width) - max(x1, 0.0)) * max(0.0, min(y2, height) - max(y1, 0.0))
    area = max((x2 - x1) * (y2 - y1), 1e-6)
    return float(1.0 - inside / area)


def sharpness(grey: Image) -> float:
    """Variance of the Laplacian over the variance of the picture, times 1000.

    The variance of the Laplacian is Pech-Pacheco et al. 2000; dividing by the contrast keeps a
    dim but sharp face from being taken for a blurred one. Measured on 120 photographs with faces
    94 pixels wide, median of this figure and of the cosine to the unblurred embedding, by Gaussian
    blur: none 249 and 1.00; 2 pixels 56 and 0.89; 3 pixels 32 and 0.75; 4 pixels 22 and 0.62;
    6 pixels 15 and 0.37.
    """
    laplacian = cv2.Laplacian(grey, cv2.CV_32F)
    return float(laplacian.var() / max(float(grey.var()), 1.0)) * 1000.0


def _grey_crop(image: Image, face: Face) -> Image:
    height, width = image.shape[:2]
    x1, y1 = max(int(face.box[0]), 0), max(int(face.box[1]), 0)
    x2, y2 = min(int(face.box[2]) + 1, width), min(int(face.box[3]) + 1, height)
    crop = cv2.resize(image[y1:y2, x1:x2], (CROP_PIXELS, CROP_PIXELS), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY), dtype=np.uint8)
