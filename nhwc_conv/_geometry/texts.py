"""What the ops say about a bad argument, in F.conv2d's wording where it has one.

csrc/binding/checks.cpp says the same.
"""

from typing import NoReturn

import torch

from . import dtypes

RANK = "Expected {least}D (unbatched) or {most}D (batched) input to {op}, but got {name} of size: {size}"
RANKS = (  # of the drop-in for torch.nn.Conv2d
    "Expected {dims}-dimensional input for {dims}-dimensional weight {weight}, but got {actual}-dimensional "
    "input of size {input} instead"
)
WEIGHT_RANK = "Expected 4D weight [KH, KW, C per group, O], but got w of size: {size}"
ROW_WEIGHT_RANK = "Expected 3D weight [K, C per group, O], but got w of size: {size}"
LENGTH = (
    "expected {name} to be a single integer value or a list of {length} values to match the convolution "
    "dimensions, but got {name}={value}"
)
SIZE_LENGTH = "expected {name} to be a list of {length} values, but got {name}={value}"
NOT_POSITIVE = (
    "non-positive {name} is not supported, {name} should be greater than zero, but got {name}={value}"
)
NEGATIVE = "negative padding is not supported, but got padding={value}"
AT_MOST = "expected {name} to be at most {limit}, but got {name}={value}"
AUTO_PAD = "expected auto_pad to be 0 (explicit), 1 (same) or 2 (same_lower), but got auto_pad={value}"
AUTO_PAD_AND_PADDING = "expected padding to be 0 where auto_pad={auto_pad}, but got padding={value}"
ALGORITHM = "expected algorithm to be 0 (auto), 1 (direct) or 2 (winograd), but got algorithm={value}"
WINOGRAD = "expected {name} to be {expected} for winograd, but got {name}={value}"
AT_LEAST = (
    "Given groups={groups}, expected weight to be at least {least} at dimension {dim}, "
    "but got w of size {size} instead"
)
DIVISIBLE = (
    "Given groups={groups}, expected {role} to be divisible by {groups} at dimension {dim}, "
    "but got {name} of size {size} instead"
)
CHANNELS = (
    "Given groups={groups}, weight w of size {w}, expected input x{x} to "
    "have {expected} channels, but got {actual} channels instead"
)
BIAS = (
    "Given weight w of size {w}, expected bias to be 1-dimensional with {O} elements, "
    "but got bias of size {bias} instead of [{O}]"
)
EMPTY_IMAGE = "Only zero batch or zero channel inputs are supported, but got input shape: x{size}"
KERNEL = (
    "Calculated padded input size per channel: ({padded}). Kernel size: ({kernel}). "
    "Kernel size can't be greater than actual input size"
)
NCHW_CHANNELS = (
    "Given groups={groups}, weight of size {weight}, expected input{input} to "
    "have {expected} channels, but got {actual} channels instead"
)
TRANSPOSED_CHANNELS = (
    "Given transposed=1, weight w of size {w}, expected input x{x} to "
    "have {expected} channels, but got {actual} channels instead"
)
TRANSPOSED_BIAS = (
    "Given transposed=1, weight w of size {w}, expected bias to be 1-dimensional with {O} elements, "
    "but got bias of size {bias} instead"
)
TRANSPOSED_SIZE = (
    "Given input size per channel: ({given}). Calculated output size per channel: ({size}). "
    "Output size is too small"
)
NEGATIVE_OUTPUT_PADDING = "negative output_padding is not supported, but got output_padding={value}"
OUTPUT_PADDING = (
    "output padding must be smaller than either stride or dilation, "
    "but got output_padding={value}, stride={stride}, dilation={dilation}"
)
AUTO_PAD_AND_OUTPUT_PADDING = (
    "expected output_padding to be 0 where auto_pad={auto_pad}, but got output_padding={value}; "
    "give output_size for another size"
)
OUTPUT_SIZE_AND_PADDING = (
    "expected output_padding to be 0 where output_size={size} is given, but got output_padding={value}"
)
OUTPUT_SIZE = "requested an output size of {size}, but valid sizes range from {least} to {most}"
OVERFLOW = "expected the {what} to have at most {limit} elements, but got size {size}"
RESULT_SIZE = "expected {name} to be of size {expected}, but got {name} of size {actual}"
ACTIVATION = "expected activation to be at least 0 and less than {count}, but got activation={value}"
PACKABLE = f"expected w to be {dtypes.NAMES} to be packed, but got {{dtype}}"
PACKED_DTYPE = "expected packed to be {expected} for x of type {dtype}, but got {actual}"
OUT_DTYPE = "expected out_dtype to be {expected} for x of type {dtype}, but got {actual}"
NOT_SCRIPTABLE = (
    "torch.jit.script cannot compile nhwc_conv.{name}: use torch.jit.trace or torch.export, or script the model that "
    "nhwc_conv.revert gives back"
)
ONNX_INFERENCE_MODE = (
    "nhwc_conv's ops cannot be exported to ONNX under torch.inference_mode(); torch.no_grad() will do"
)
PACKED_BEFORE_EXPORT = (
    "conv2d_packed cannot be exported to ONNX with weights packed before: call pack_weight in forward, or convolve by "
    "conv2d"
)
PACKED = "packed was packed for another weight_size, number of groups, instruction set or dtype"
PACKED_WEIGHT = (
    "expected weight to be of size weight_size={expected} as [KH, KW, C per group, O], but got {actual}"
)
NO_GRADIENT = "{op} has no gradient: call it under torch.no_grad() or torch.inference_mode()"
NO_TANGENT = "{op} has no derivative: call it on tensors without tangents"
DTYPE = "{role_a} type ({a}: {dtype_a}) and {role_b} type ({b}: {dtype_b}) should be the same"
CONVOLVED = "expected {name} to be of a type that PyTorch convolves, but got {dtype}: convert it first"
LAYOUT = (
    "expected {name} to be a dense tensor, but got one of layout {layout}: "
    "convert it first, by {name}.to_dense()"
)
NESTED = (
    "expected {name} to be a dense tensor, but got a nested one: convolve its components, "
    "or pad them to one size by torch.nested.to_padded_tensor"
)
DEVICE = (
    "Expected all tensors to be on the same device, but got {b} on {device_b}, "
    "different from {a} on {device_a}"
)

MAX_ELEMENTS = 2**47 - 1  # more than any memory holds: what is computed of such counts stays within int64
ROLES = {
    "x": "input", "w": "weight", "bias": "bias", "grad": "gradient", "packed": "weight", "weight": "weight",
    "residual": "residual",
}  # fmt: skip
# Those that aten's convolutions are written for, on one device or another.
CONVOLVED_DTYPES = {
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex32, torch.complex64, torch.complex128,
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
}  # fmt: skip
# As F.conv2d calls them; the others go by torch's name.
DTYPE_NAMES = {torch.float32: "float", torch.float64: "double"}


def fail(text: str, **values: object) -> NoReturn:
    """Raises `text` with its fields filled in, shapes as lists."""
    shown = {k: list(v) if isinstance(v, tuple | torch.Size) else v for k, v in values.items()}
    raise RuntimeError(text.format(**shown))


def dtype_name(dtype: torch.dtype) -> str:
    return DTYPE_NAMES.get(dtype, str(dtype).removeprefix("torch."))
