"""Which model a weight file holds, read off its tensors: MODEL.NAME and the options that fit."""
