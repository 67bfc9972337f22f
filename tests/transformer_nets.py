"""Small ConvNeXt, ViT and Swin classifiers with seeded weights, as exporters write them.

Images are float32[N, 3, 8, 8]; there are 5 classes.
"""

from onnx_models import Net

_NORMAL = "{out} = LayerNormalization ({taken}, {out}_scale, {out}_shift)\n"
_GELU = """
    {out}_narrow = Div ({taken}, {out}_root)
    {out}_erf = Erf ({out}_narrow)
    {out}_raised = Add ({out}_erf, {out}_unit)
    {out}_product = Mul ({taken}, {out}_raised)
    {out} = Mul ({out}_product, {out}_half)
"""
_CONSTANTS = """
    {out}_root = Constant <value_float = 1.41421354> ()
    {out}_unit = Constant <value_float = 1.0> ()
    {out}_half = Constant <value_float = 0.5> ()
"""


def normal(out, taken):
    return _NORMAL.format(out=out, taken=taken)


def normal_shapes(name, channels):
    return {f"{name}_scale": (channels,), f"{name}_shift": (channels,)}


def gelu(out, taken):
    """The exact GELU by Erf, below opset 20."""
    return (_CONSTANTS + _GELU).format(out=out, taken=taken)


def integers(name, *values):
    return f"{name} = Constant <value_ints = {list(values)}> ()\n"


def _block(n, taken):
    """Depthwise 7x7, LayerNormalization over the channels, two products, layer scale, residual."""
    return f"""
        b{n}_dw = Conv <group = 6, pads = [3,3,3,3]> ({taken}, b{n}_dw_w, b{n}_dw_b)
        b{n}_last = Transpose <perm = [0,2,3,1]> (b{n}_dw)
        {normal(f"b{n}_normal", f"b{n}_last")}
        b{n}_up = MatMul (b{n}_normal, b{n}_up_w)
        b{n}_up_moved = Add (b{n}_up_b, b{n}_up)
        {gelu(f"b{n}_bent", f"b{n}_up_moved")}
        b{n}_down = MatMul (b{n}_bent, b{n}_down_w)
        b{n}_scaled = Mul (b{n}_gamma, b{n}_down)
        b{n}_first = Transpose <perm = [0,3,1,2]> (b{n}_scaled)
        b{n} = Add ({taken}, b{n}_first)
    """


def _block_shapes(n):
    return {
        f"b{n}_dw_w": (6, 1, 7, 7),
        f"b{n}_dw_b": (6,),
        **normal_shapes(f"b{n}_normal", 6),
        f"b{n}_up_w": (6, 24),
        f"b{n}_up_b": (24,),
        f"b{n}_down_w": (24, 6),
        f"b{n}_gamma": (6,),
    }


CONVNEXT = Net(
    f"""
        stem = Conv <strides = [2,2]> (image, stem_w, stem_b)
        {_block(1, "stem")}
        {_block(2, "b1")}
        pooled = GlobalAveragePool (b2)
        flat = Flatten (pooled)
        {normal("normal", "flat")}
        scores = Gemm <transB = 1> (normal, scores_w, scores_b)
    """,
    {
        "stem_w": (6, 3, 2, 2),
        "stem_b": (6,),
        **_block_shapes(1),
        **_block_shapes(2),
        **normal_shapes("normal", 6),
        "scores_w": (5, 6),
        "scores_b": (5,),
    },
)


def _attention(split):
    """Two heads of 4 channels on tokens [N, T, 8] that ``split`` makes of ``qkv`` [N, T, 24]."""
    return f"""
        {split}
        turned = Transpose <perm = [0,1,3,2]> (k)
        products = MatMul (q, turned)
        root = Constant <value_float = 0.5> ()
        scaled = Mul (products, root)
        weights = Softmax <axis = -1> (scaled)
        mixed = MatMul (weights, v)
    """


_SPLIT = f"""
    {integers("to_heads", 0, 0, 3, 2, 4)}
    heads = Reshape (qkv, to_heads)
    sorted = Transpose <perm = [2,0,3,1,4]> (heads)
    q5, k5, v5 = Split <axis = 0> (sorted)
    q = Squeeze (q5, zero)
    k = Squeeze (k5, zero)
    v = Squeeze (v5, zero)
"""

VIT = Net(
    f"""
        patches = Conv <strides = [2,2]> (image, patches_w, patches_b)
        {integers("to_tokens", 0, 8, -1)}
        rows = Reshape (patches, to_tokens)
        body = Transpose <perm = [0,2,1]> (rows)
        {integers("zero", 0)}
        {integers("one", 1)}
        whole = Shape (image)
        batch = Slice (whole, zero, one)
        {integers("token_row", 1, 8)}
        token_shape = Concat <axis = 0> (batch, token_row)
        token = Expand (class_token, token_shape)
        tokens = Concat <axis = 1> (token, body)
        placed = Add (tokens, position)
        {normal("normal1", "placed")}
        product = MatMul (normal1, qkv_w)
        qkv = Add (qkv_b, product)
        {_attention(_SPLIT)}
        back = Transpose <perm = [0,2,1,3]> (mixed)
        {integers("to_flat", 0, 0, 8)}
        joined = Reshape (back, to_flat)
        proj = MatMul (joined, proj_w)
        sum1 = Add (placed, proj)
        {normal("normal2", "sum1")}
        up = MatMul (normal2, up_w)
        up_moved = Add (up_b, up)
        {gelu("bent", "up_moved")}
        down = MatMul (bent, down_w)
        sum2 = Add (sum1, down)
        {normal("normal3", "sum2")}
        first = Constant <value_int = 0> ()
        class = Gather <axis = 1> (normal3, first)
        scores = Gemm <transB = 1> (class, scores_w, scores_b)
    """,
    {
        "patches_w": (8, 3, 2, 2),
        "patches_b": (8,),
        "class_token": (1, 1, 8),
        "position": (1, 17, 8),
        **normal_shapes("normal1", 8),
        "qkv_w": (8, 24),
        "qkv_b": (24,),
        "proj_w": (8, 8),
        **normal_shapes("normal2", 8),
        "up_w": (8, 32),
        "up_b": (32,),
        "down_w": (32, 8),
        **normal_shapes("normal3", 8),
        "scores_w": (5, 8),
        "scores_b": (5,),
    },
)

TOKENS_FIRST = Net(
    f"""
        patches = Conv <strides = [2,2]> (image, patches_w)
        {integers("to_tokens", 0, 8, -1)}
        rows = Reshape (patches, to_tokens)
        tokens = Transpose <perm = [2,0,1]> (rows)
        qkv = MatMul (tokens, qkv_w)
        q0, k0, v0 = Split <axis = 2> (qkv)
        q = Transpose <perm = [1,0,2]> (q0)
        k = Transpose <perm = [1,2,0]> (k0)
        v = Transpose <perm = [1,0,2]> (v0)
        products = MatMul (q, k)
        weights = Softmax <axis = -1> (products)
        mixed = MatMul (weights, v)
        back = Transpose <perm = [1,0,2]> (mixed)
        {integers("to_flat", -1, 8)}
        flat = Reshape (back, to_flat)
        proj = Gemm <transB = 1> (flat, proj_w, proj_b)
        {integers("to_sequence", 16, -1, 8)}
        again = Reshape (proj, to_sequence)
        sum = Add (again, tokens)
        first = Constant <value_int = 0> ()
        class = Gather <axis = 0> (sum, first)
        scores = Gemm <transB = 1> (class, scores_w, scores_b)
    """,
    {
        "patches_w": (8, 3, 2, 2),
        "qkv_w": (8, 24),
        "proj_w": (8, 8),
        "proj_b": (8,),
        "scores_w": (5, 8),
        "scores_b": (5,),
    },
)
"""As PyTorch's MultiheadAttention: [T, N, C], and [T * N, C] in which the images take turns."""

_WINDOW_SPLIT = f"""
    {integers("to_heads", -1, 4, 3, 2, 4)}
    heads = Reshape (qkv, to_heads)
    sorted = Transpose <perm = [2,0,3,1,4]> (heads)
    i0 = Constant <value_int = 0> ()
    i1 = Constant <value_int = 1> ()
    i2 = Constant <value_int = 2> ()
    q = Gather <axis = 0> (sorted, i0)
    k = Gather <axis = 0> (sorted, i1)
    v = Gather <axis = 0> (sorted, i2)
"""

SWIN = Net(
    f"""
        patches = Conv <strides = [2,2]> (image, patches_w)
        last = Transpose <perm = [0,2,3,1]> (patches)
        {normal("normal1", "last")}
        {integers("to_cells", -1, 2, 2, 2, 2, 8)}
        cells = Reshape (normal1, to_cells)
        turned_cells = Transpose <perm = [0,1,3,2,4,5]> (cells)
        {integers("to_windows", -1, 4, 8)}
        windows = Reshape (turned_cells, to_windows)
        qkv = MatMul (windows, qkv_w)
        {_attention(_WINDOW_SPLIT)}
        back = Transpose <perm = [0,2,1,3]> (mixed)
        joined = Reshape (back, to_windows)
        proj = MatMul (joined, proj_w)
        blocks = Reshape (proj, to_cells)
        unturned = Transpose <perm = [0,1,3,2,4,5]> (blocks)
        {integers("to_image", -1, 4, 4, 8)}
        again = Reshape (unturned, to_image)
        sum = Add (last, again)
        mean = ReduceMean <axes = [1,2], keepdims = 0> (sum)
        scores = Gemm <transB = 1> (mean, scores_w, scores_b)
    """,
    {
        "patches_w": (8, 3, 2, 2),
        **normal_shapes("normal1", 8),
        "qkv_w": (8, 24),
        "proj_w": (8, 8),
        "scores_w": (5, 8),
        "scores_b": (5,),
    },
)
"""Windows: [N * 4, 4, C], those of an image side by side."""

TRANSFORMERS = {
    "convnext": CONVNEXT,
    "vit": VIT,
    "tokens-first": TOKENS_FIRST,
    "swin": SWIN,
}
