"""What drivers of cameras share: OpenCV's captures, picture files, and the numbers of frames."""
