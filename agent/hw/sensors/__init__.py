"""Second eyes beside the camera, infrared or depth: none yet."""
