"""The one table of named geometries that every test of results walks through."""

from case import DTYPES, Case
from cases_of_groups import DEPTHWISE, DEPTHWISE_OVER_IMAGE, GROUPED, GROUPS, PLANES

__all__ = ["BY_NAME", "CASES", "DTYPES", "FEW", "LAYERS", "Case"]

# Around every vector width (2, 4, 8, 16 lanes) and tile width, so that each tail length of O runs.
OUTPUT_CHANNELS = [
    Case(f"o{o}", (1, 6, 9, 5), (3, 3, 5, o), bias=o % 2 == 1)
    for o in (1, 2, 3, 4, 5, 7, 8, 9, 10, 15, 16, 17, 31, 32, 33, 40, 47, 64, 65, 100)
]

INPUT_CHANNELS = [
    Case(f"c{c}", (2, 6, 8, c), (3, 3, c, 6), padding=1, bias=c == 8) for c in (1, 3, 4, 8, 15, 16, 17)
] + [
    Case("c1_o1", (1, 5, 7, 1), (3, 3, 1, 1), padding=1),
    Case("c1_o17", (1, 7, 9, 1), (3, 2, 1, 17)),
    Case("c513_1x1", (1, 3, 5, 513), (1, 1, 513, 9), bias=True),
    Case("c257_3x3", (1, 4, 5, 257), (3, 3, 257, 5), padding=1),
    Case("c200_o1_3x3", (1, 5, 6, 200), (3, 3, 200, 1), padding=1),
    # More tiles than one chunk of Winograd's weight gradient takes.
    Case("winograd_chunks", (1, 33, 33, 28), (3, 3, 28, 30), padding=1),
    # Few columns sum over the lanes of a vector: where a row of taps ends within one, layouts must agree on the lanes.
    Case("c17_o1", (2, 6, 5, 17), (3, 2, 17, 1), padding=1, bias=True),
    Case("c3_o19", (2, 6, 5, 3), (3, 3, 3, 19), padding=1),
]

# Around the tile heights: a row splits into equal tiles, into unequal ones, or fits in one.
ROW_WIDTHS = [
    Case(f"ow{ow}_viewed", (1, 4, ow + 2, 4), (3, 3, 4, 5)) for ow in (1, 2, 6, 7, 13, 14, 15, 16, 17, 28, 30)
] + [
    Case(f"ow{ow}_padded", (1, 3, ow, 4), (3, 3, 4, 18), padding=1, bias=ow == 16)
    for ow in (1, 2, 6, 7, 13, 14, 15, 16, 17, 28, 30)
]

KERNELS = [
    Case("kernel_1x1", (2, 7, 5, 6), (1, 1, 6, 11), bias=True),
    Case("kernel_1x3", (2, 7, 11, 3), (1, 3, 3, 8)),
    Case("kernel_3x1", (2, 7, 11, 3), (3, 1, 3, 8)),
    Case("kernel_2x2", (2, 7, 11, 3), (2, 2, 3, 8), bias=True),
    Case("kernel_3x3", (2, 7, 11, 3), (3, 3, 3, 8)),
    Case("kernel_5x5", (1, 11, 13, 3), (5, 5, 3, 8), padding=2),
    Case("kernel_4x7", (1, 11, 13, 2), (4, 7, 2, 5), padding=(1, 3)),
    Case("kernel_7x7", (1, 13, 17, 3), (7, 7, 3, 4), bias=True),
    Case("kernel_15x15", (1, 17, 19, 2), (15, 15, 2, 4)),
    Case("kernel_15x15_padded", (1, 13, 11, 2), (15, 15, 2, 3), padding=7),
    Case("kernel_is_image", (3, 5, 4, 3), (5, 4, 3, 7)),
    Case("kernel_over_image", (2, 3, 4, 3), (7, 7, 3, 5), padding=3, bias=True),
    Case("kernel_over_image_15", (1, 5, 2, 2), (15, 15, 2, 3), padding=(5, 7)),
    Case("kernel_over_pixel", (2, 1, 1, 4), (5, 5, 4, 6), padding=2),
    # Taps that meet no pixel, before and behind the others.
    Case("kernel_over_pixel_groups4", (3, 1, 1, 48), (3, 3, 12, 80), padding=1, groups=4),
    Case("kernel_met_at_ends", (2, 2, 3, 20), (3, 4, 20, 26), padding=(6, 0, 0, 12), dilation=(3, 4)),
    Case("kernel_met_within_stride2", (1, 3, 5, 9), (5, 3, 9, 21), (2, 1), (9, 1), (3, 1)),
    Case("one_pixel", (1, 1, 1, 1), (1, 1, 1, 1), bias=True),
    Case("one_pixel_many_channels", (1, 1, 1, 45), (1, 1, 45, 50), bias=True),
    Case("single_pixels", (9, 1, 1, 6), (1, 1, 6, 10), bias=True),
    Case("single_pixels_groups3", (9, 1, 1, 36), (1, 1, 12, 60), groups=3),
    # The input gradient reads rows of weights that share cache sets.
    Case("one_pixel_far_rows", (1, 1, 1, 1152), (1, 1, 9, 3072), groups=128),
    Case("single_pixels_stride3", (7, 1, 1, 6), (1, 1, 3, 8), stride=3, groups=2),
    Case("pixels_a_page_apart", (1, 2, 19, 1024), (1, 1, 1024, 17)),
    Case("one_row", (2, 1, 9, 3), (1, 3, 3, 5)),
    Case("one_column", (2, 9, 1, 3), (3, 1, 3, 5)),
    Case("one_row_padded", (1, 1, 13, 5), (3, 3, 5, 7), padding=1),
    Case("one_column_padded", (1, 13, 1, 5), (3, 3, 5, 7), padding=1),
    Case("long_row", (1, 2, 101, 3), (2, 3, 3, 4)),
    Case("column", (2, 37, 1, 12), (3, 1, 12, 20), padding=(1, 0), bias=True),
    Case("column_stride2_groups2", (2, 31, 1, 12), (5, 1, 6, 16), (2, 3), (2, 0), (3, 1), groups=2),
    Case("column_of_few_outputs", (1, 23, 1, 9), (7, 1, 9, 3), padding=(3, 0), bias=True),
    Case("column_depthwise", (1, 29, 1, 20), (4, 1, 1, 20), groups=20),
    # Of one row or two, most outputs lack taps: each tap on its own, for all that have it, or equal ones together.
    Case("signal_in_padding", (2, 1, 23, 5), (1, 17, 5, 19), padding=(0, 8), bias=True),
    Case("signal_in_padding_groups2", (1, 1, 29, 12), (1, 21, 6, 40), padding=(0, 10), groups=2),
    Case("signal_in_padding_stride2", (1, 1, 31, 5), (1, 19, 5, 18), (1, 2), (0, 9)),
    Case("signal_in_padding_blocks", (1, 1, 9, 200), (1, 17, 200, 70), padding=(0, 8), bias=True),
    Case("signal_dilation16", (1, 1, 61, 5), (1, 5, 5, 19), padding=(0, 32), dilation=(1, 16), bias=True),
    Case("signal_dilation3", (1, 1, 37, 5), (1, 15, 5, 40), padding=(0, 21), dilation=(1, 3)),
    Case("signal_dilation16_depthwise", (1, 1, 61, 20), (1, 5, 1, 20), 1, (0, 32), (1, 16), 20, bias=True),
    Case("two_rows_in_padding", (1, 2, 25, 4), (3, 19, 4, 18), padding=(1, 9), bias=True),
]

STRIDES = [
    Case("stride2", (2, 9, 11, 4), (3, 3, 4, 7), stride=2),
    Case("stride2_padded", (2, 8, 10, 4), (3, 3, 4, 7), stride=2, padding=1, bias=True),
    Case("stride2_5x5", (1, 11, 12, 3), (5, 5, 3, 9), stride=2, padding=2),
    Case("stride3", (1, 11, 13, 3), (3, 3, 3, 5), stride=3, padding=1),
    Case("stride3_5x4", (1, 14, 17, 2), (5, 4, 2, 6), stride=3),
    Case("stride2x1", (1, 9, 9, 3), (3, 3, 3, 5), stride=(2, 1), padding=1),
    Case("stride1x3", (1, 7, 16, 3), (3, 3, 3, 5), stride=(1, 3)),
    Case("stride3x2", (2, 10, 9, 5), (2, 3, 5, 4), stride=(3, 2), padding=(0, 1)),
    Case("stride2_1x1", (2, 8, 9, 6), (1, 1, 6, 10), stride=2, bias=True),
    Case("stride3_1x1_padded", (1, 8, 10, 3), (1, 1, 3, 4), stride=3, padding=1),
    # Their input gradients have the phases of a row as channels, or just not.
    Case("stride2_kernel2", (2, 7, 10, 3), (2, 2, 3, 6), stride=2),
    Case("stride2_kernel2_odd", (2, 6, 7, 3), (2, 2, 3, 6), stride=2),
    Case("stride2_kernel4_padded", (1, 9, 8, 5), (4, 4, 5, 7), stride=2, padding=2),
    Case("stride2_kernel4_shifted", (1, 9, 8, 5), (4, 4, 5, 7), stride=2, padding=1),
    Case("stride3x2_kernel3x6", (1, 9, 12, 2), (3, 6, 2, 5), stride=(3, 2), padding=(1, 4)),
    Case("stride_over_kernel", (1, 11, 13, 3), (2, 2, 3, 5), stride=3),
    Case("stride_over_kernel_5x4", (1, 14, 15, 2), (3, 3, 2, 5), stride=(5, 4), padding=1),
    Case("stride_over_image", (1, 4, 5, 3), (3, 2, 3, 5), stride=7),
    Case("stride_unused_edge", (1, 10, 12, 3), (2, 2, 3, 4), stride=(4, 3)),
    Case("patches_4x4", (2, 12, 16, 3), (4, 4, 3, 10), stride=4, bias=True),
]

PADDINGS = [
    Case("pad_1_0_2_3", (2, 5, 6, 3), (3, 3, 3, 5), padding=(1, 0, 2, 3)),
    Case("pad_0_2_0_1", (1, 5, 7, 4), (3, 2, 4, 6), padding=(0, 2, 0, 1), bias=True),
    Case("pad_top_only", (1, 4, 9, 3), (3, 3, 3, 5), padding=(3, 0, 0, 0)),
    Case("pad_right_only", (1, 4, 9, 3), (3, 3, 3, 5), padding=(0, 0, 0, 4)),
    Case("pad_four_stride2", (1, 7, 8, 3), (3, 4, 3, 5), stride=2, padding=(2, 1, 0, 3)),
    Case("pad_over_kernel", (1, 3, 4, 2), (2, 2, 2, 5), padding=4),
    Case("pad_over_1x1", (1, 4, 5, 3), (1, 1, 3, 6), padding=2, bias=True),
    Case("pad_over_kernel_stride2", (1, 5, 4, 3), (3, 3, 3, 4), stride=2, padding=(5, 4, 6, 0)),
    Case("pad_over_kernel_left", (1, 3, 5, 2), (3, 3, 2, 17), padding=(0, 0, 9, 1)),
    Case("pad_over_dilated", (1, 4, 4, 3), (2, 3, 3, 4), padding=(4, 6), dilation=(3, 2)),
]

DILATIONS = [
    Case("dilation2", (2, 9, 10, 3), (3, 3, 3, 5), dilation=2),
    Case("dilation2_padded", (1, 8, 9, 4), (3, 3, 4, 17), padding=2, dilation=2, bias=True),
    Case("dilation3", (1, 9, 11, 3), (3, 3, 3, 5), padding=3, dilation=3),
    Case("dilation2x1", (1, 9, 8, 3), (3, 3, 3, 5), padding=1, dilation=(2, 1)),
    Case("dilation1x3", (1, 5, 13, 3), (3, 3, 3, 5), dilation=(1, 3)),
    Case("dilation3x2", (2, 11, 9, 2), (3, 2, 2, 6), padding=(2, 1), dilation=(3, 2)),
    Case("dilation2_stride2", (1, 11, 12, 3), (3, 3, 3, 5), stride=2, padding=2, dilation=2),
    Case("dilation2_stride3", (1, 12, 13, 3), (3, 3, 3, 5), stride=3, padding=1, dilation=2),
    Case("dilation4_stride2", (1, 13, 14, 2), (3, 3, 2, 5), stride=2, padding=3, dilation=4),
    Case("dilation6_stride4", (1, 17, 19, 2), (3, 2, 2, 5), stride=4, padding=2, dilation=6),
    Case("dilation4x3_stride6x2", (1, 17, 13, 2), (3, 3, 2, 4), stride=(6, 2), padding=2, dilation=(4, 3)),
    Case("dilation_of_1x1", (1, 5, 6, 3), (1, 1, 3, 4), dilation=5),
]

KERNELS_AND_STRIDES = [(3, 3, 1, 1), (2, 4, 1, 1), (4, 3, 2, 2), (5, 2, 2, 3), (1, 2, 3, 3)]
AUTO_PADS = [
    Case(f"{name}_{kh}x{kw}_s{sh}x{sw}", (1, 8, 11, 3), (kh, kw, 3, 5), stride=(sh, sw), auto_pad=auto_pad)
    for auto_pad, name in ((1, "same"), (2, "same_lower"))
    for kh, kw, sh, sw in KERNELS_AND_STRIDES
] + [
    Case("same_dilation2", (1, 8, 9, 3), (2, 3, 3, 5), dilation=2, auto_pad=1),
    Case("same_lower_dilation3x2_s2", (1, 8, 9, 3), (2, 3, 3, 5), stride=2, dilation=(3, 2), auto_pad=2),
    Case("same_kernel_over_image", (2, 3, 2, 3), (6, 5, 3, 4), auto_pad=1, bias=True),
    Case("same_lower_groups", (1, 5, 6, 4), (4, 2, 2, 6), groups=2, auto_pad=2),
]

RANKS = [
    Case("empty_batch", (0, 5, 6, 3), (3, 3, 3, 4), padding=1, bias=True),
    Case("empty_batch_groups", (0, 5, 6, 4), (2, 2, 1, 8), groups=4, stride=2),
    Case("unbatched", (5, 6, 3), (3, 3, 3, 4), bias=True),
    Case("unbatched_depthwise", (5, 6, 8), (3, 3, 1, 8), padding=1, groups=8),
    Case("unbatched_same", (5, 6, 3), (3, 3, 3, 4), stride=2, auto_pad=1),
    Case("batch_7", (7, 4, 3, 2), (3, 3, 2, 3), padding=1),
    # More images than there are partial sums: each of these adds up several blocks.
    Case("batch_19", (19, 4, 5, 3), (3, 3, 3, 6), padding=1),
    Case("batch_19_depthwise", (19, 4, 5, 9), (3, 3, 1, 9), padding=1, groups=9),
]

LAYERS = [
    Case("notebook", (10, 32, 32, 8), (3, 3, 8, 16)),
    Case("resnet_stem", (1, 32, 34, 3), (7, 7, 3, 24), stride=2, padding=3),
    Case("resnet_3x3", (1, 14, 14, 48), (3, 3, 48, 64), padding=1),
    Case("resnet_3x3_stride2", (1, 28, 28, 24), (3, 3, 24, 48), stride=2, padding=1),
    Case("resnet_7_pixels", (2, 7, 7, 64), (3, 3, 64, 72), padding=1, bias=True),
    Case("resnet_1x1", (2, 14, 14, 64), (1, 1, 64, 128)),
    Case("resnet_1x1_stride2", (1, 14, 14, 64), (1, 1, 64, 100), stride=2),
    Case("patch_embedding", (1, 32, 48, 3), (16, 16, 3, 24), stride=16, bias=True),
    Case("last_layer", (1, 16, 16, 32), (3, 3, 32, 1), padding=1, bias=True),
    Case("depthwise_28", (1, 28, 28, 40), (3, 3, 1, 40), padding=1, groups=40),
    # Taps further apart than rows of a block of pixels: windows of x hold one kernel row's.
    Case("dilated_far", (1, 8, 300, 64), (3, 1, 64, 70), padding=(3, 0), dilation=(3, 1)),
    Case("dilated_far_o2", (1, 8, 600, 40), (3, 2, 40, 2), padding=(3, 2), dilation=(3, 2), bias=True),
    Case("dilated_far_groups", (1, 7, 300, 36), (2, 2, 18, 40), padding=(0, 1), dilation=(4, 1), groups=2),
]

# More weights than a second-level cache holds, few pixels: items take them a piece at a time, unless there are so few
# that no packing pays.
MANY_WEIGHTS = [
    Case("many_weights_two_pixels", (1, 1, 2, 520), (1, 1, 520, 260), bias=True),
    Case("many_weights_in_place", (1, 3, 4, 300), (3, 3, 300, 130), padding=1),
    Case("many_weights_3x3", (1, 6, 7, 300), (3, 3, 300, 130), padding=1, bias=True),
    Case("many_weights_stride2", (2, 9, 8, 270), (3, 3, 270, 150), stride=2, padding=1),
    Case("many_weights_dilated", (1, 5, 5, 260), (3, 2, 260, 180), padding=2, dilation=2),
    Case("many_weights_1x1", (2, 4, 5, 520), (1, 1, 520, 530), bias=True),
    # The input gradient sums over 9*520 values: blocks end within a kernel row, and within a tap.
    Case("many_weights_split_rows", (1, 3, 4, 70), (3, 3, 70, 520), padding=1),
    Case("many_weights_split_taps", (1, 3, 4, 70), (3, 3, 70, 520), padding=2, dilation=2),
    Case("many_weights_rows", (1, 6, 6, 1600), (1, 1, 1600, 512)),
    Case("many_weights_groups", (1, 6, 6, 520), (2, 1, 260, 600), groups=2, bias=True),
    # Pieces of several kernel rows, and of several taps of one.
    Case("many_weights_patches", (5, 32, 48, 3), (16, 16, 3, 400), stride=16, bias=True),
    Case("many_weights_upright", (1, 8, 6, 64), (3, 1, 64, 1400), padding=(1, 0)),
    Case("many_weights_unpadded", (1, 9, 8, 40), (4, 3, 40, 600)),
    # So much of an image to each output that items would have few of them; two pieces of the reduction.
    Case("many_weights_large_pixels", (1, 69, 66, 180), (3, 3, 180, 64), stride=4, bias=True),
]

# One row of a few outputs: weights are taken row by row, where they lie. Columns that fill no tile, blocks of the
# reduction, whole kernels, pixels apart, groups.
STREAM = [
    Case("stream_uneven", (1, 1, 1, 70), (1, 1, 70, 150), bias=True),
    Case("stream_one_column", (1, 1, 1, 3), (1, 1, 3, 1)),
    Case("stream_two_tiles", (1, 1, 3, 33), (1, 1, 33, 97)),
    Case("stream_blocks", (1, 1, 2, 3300), (1, 1, 3300, 35), bias=True),
    Case("stream_patch", (1, 4, 4, 24), (4, 4, 24, 41), bias=True),
    Case("stream_strided", (1, 1, 11, 20), (1, 3, 20, 90), stride=(1, 4)),
    Case("stream_groups", (1, 1, 2, 40), (1, 1, 20, 100), groups=2, bias=True),
    Case("streamed_gradient", (5, 1, 1, 135), (1, 1, 135, 141), bias=True),
    Case("streamed_gradient_strided", (1, 3, 11, 131), (1, 1, 131, 150), stride=(3, 2)),
    Case("streamed_gradient_padded", (1, 1, 6, 133), (1, 1, 133, 130), padding=(0, 1)),
]

CASES = [
    *MANY_WEIGHTS, *STREAM, *DEPTHWISE_OVER_IMAGE, *OUTPUT_CHANNELS, *INPUT_CHANNELS, *ROW_WIDTHS, *KERNELS,
    *STRIDES, *PADDINGS, *DILATIONS, *GROUPS, *GROUPED, *PLANES, *DEPTHWISE, *AUTO_PADS, *RANKS, *LAYERS,
]  # fmt: skip
BY_NAME = {case.name: case for case in CASES}

# Enough for tests that are slow per case, with every branch of the geometry in it once.
FEW = [
    BY_NAME[name]
    for name in (
        "o17", "c1_o1", "ow15_viewed", "kernel_1x1", "kernel_2x2", "stride3x2", "pad_1_0_2_3", "dilation2_stride3",
        "groups2", "depthwise_multiplier3", "same_4x3_s2x2", "same_lower_dilation3x2_s2", "unbatched",
    )
]  # fmt: skip
