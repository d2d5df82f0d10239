"""Other people's captioning checkpoints, read without running a line of what they hold.

`convert` is the whole import; `sources` finds the file, `checkpoints` reads it, `families` tells
whose it is, `weights` sorts its tensors, `languages` and `image_encoders` know what goes beside
them. `embeddings` reads ClipCap's pickled embeddings. Importing this package costs nothing.
"""
