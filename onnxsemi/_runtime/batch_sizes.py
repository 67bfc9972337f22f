"""How much is worked on at once: images, rows and bytes, each with what it was found by.

*Sizes of a run* change no result: an image's answer does not depend on its batch
(:mod:`onnxsemi._runtime.sessions`). Where memory is short they are upper bounds.

*Sizes that decide* where sums begin and end, or what a graph holds, must not depend on memory or
threads: sums of floats, and what ONNX Runtime fuses, would.
"""

# Sizes of a run.
FORWARD_IMAGES = 32
"""Images in one run of the model. Larger runs leave the processor's cache and are slower."""
CHAIN_IMAGES = 16
"""Images in one run of a segment: small enough for all workers to have some of a trial's sample."""
BACKWARD_IMAGES = 8
"""Images in one run of the backward graph, which keeps its forward pass: larger ones leave the
cache."""
SPLICED_ROWS = 64
"""Rows in one run behind a cut, images times variants: a suffix is shorter than the model."""
UNOPTIMIZED_IMAGES = 4
"""Images in one run with optimisation off: such a graph gives no tensor's memory to another."""
CALIBRATED_IMAGES = 8
"""Images that a calibrator of ONNX Runtime is given at once: it keeps all their activations. (Its
histograms depend on it: see `calibration.py`.)"""
RUN_BYTES = 128 * 2**20
"""What one run may take, estimated from above, unless one image takes more: larger runs leave the
cache, too, and are slower. (EfficientNet-Lite0, CPU milliseconds an image: forward in runs of 4
and 32 images 8.1 and 9.4; forward and backward in runs of 1 and 8 images 557 and 1,065.)"""
SPILLED_BYTES = 192 * 2**20
"""Of arrays that are kept for later, what stays in memory; the rest goes to a file."""
COMPANIONS = 4
"""Images beside which an image must have the answer that it has alone."""
COLUMN_BYTES = 2**23
"""Columns of the groups of a layer that are taken at once: what is larger is slow to be given."""
LIVE_TENSORS = 6
"""Tensors of the largest size that live while ONNX Runtime runs a model, from above."""
ROOMY = 4 * 2**30
"""Bytes free beyond which the sessions of a plan's steps share their memory: a sixth of the time of
an EfficientNet-Lite0 is spent on memory that each is given anew, but what they share is kept."""

# Sizes that decide.
BLOCK_IMAGES = 32
"""Images whose moments are summed in float32, and at most between two draws of positions; blocks
are summed in float64, in their order."""
FEWEST_BLOCKS = 8
"""Blocks of moments at least, of fewer images each: how they differ says how far to trust a sum."""
ERROR_IMAGES = 64
"""Images, the first ones, of which the errors of outputs are means: over positions, too."""
SAMPLE_IMAGES = 32
"""Images that a trial looks at first, to tell which others can change."""
WAVE_IMAGES = 64
"""Images between two looks at whether a trial's outcome is decided."""
VERIFIED_IMAGES = 32
"""Images on which a file's outputs are compared with what was measured. Its weights are compared
bit for bit; that takes none."""
ROUNDED_ROWS = 128
"""Rows of weights that are rounded at once, on one thread. Half as many take nearly as long: most
of it is Python's own time, which only one thread has at once."""
CANDIDATE_ROWS = 2048
"""Rows times candidate grids: there is less work between the products of matrices."""
PART_ROWS = 128
"""Rows, or columns, of a layer's matrices that a thread works on at once."""
TILE_ROWS = 256
"""Rows and columns of a tile of a matrix that is factorized."""
SEEN_IMAGES = 8
"""Images in one run that looks at the float model's values of all layers at once, at most: fewer
where these take more than `RUN_BYTES`. (It decides which layers are looked at together.)"""
PART_BYTES = 256 * 2**20
"""Changed weights in one graph of Δloss, at most. ONNX Runtime holds them about four times while it
loads a graph; every part repeats the forward pass."""
GROUP_BYTES = 512 * 2**20
"""What a group of layers may hold: their second moments, and their tensors for one block of images.
Every group repeats the forward pass up to its last layer."""
