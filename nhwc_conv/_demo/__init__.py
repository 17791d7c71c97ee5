"""The main job of `python -m nhwc_conv`: the notebook's table, then a network that learns to read digits."""
