"""Those geometries of cases.py that have many groups."""

from case import Case

__all__ = ["DEPTHWISE", "DEPTHWISE_OVER_IMAGE", "GROUPED", "GROUPS", "PLANES"]

GROUPS = [
    Case("groups2", (2, 6, 7, 8), (3, 3, 4, 10), groups=2, padding=1, bias=True),
    Case("groups3", (1, 6, 7, 9), (3, 3, 3, 6), groups=3),
    Case("groups2_1x1", (1, 5, 6, 34), (1, 1, 17, 30), groups=2),
    Case("groups3_wide", (1, 5, 5, 12), (3, 3, 4, 51), groups=3, padding=1),
    Case("groups19_of_8_regions", (1, 40, 24, 152), (3, 3, 8, 304), stride=2, padding=1, groups=19),
    Case("groups8_regions", (2, 20, 16, 256), (2, 1, 32, 144), groups=8),
    Case("groups64_page_apart", (2, 4, 6, 1024), (2, 3, 16, 1024), padding=1, groups=64, bias=True),
    Case("groups32_whose_weights_collide", (1, 9, 12, 64), (3, 3, 2, 512), padding=1, groups=32),
    Case("groups2_dilation2", (1, 9, 8, 6), (3, 3, 3, 8), padding=2, dilation=2, groups=2),
    Case("groups_of_1_to_4", (1, 6, 7, 5), (3, 3, 1, 20), groups=5, padding=1),
    Case("groups_of_2_to_1", (1, 6, 7, 10), (3, 3, 2, 5), groups=5),
    Case("groups_of_2_to_2", (2, 6, 7, 10), (3, 2, 2, 10), groups=5, bias=True),
    Case("groups_of_4_to_4", (1, 6, 7, 16), (3, 3, 4, 16), groups=4, padding=1),
    Case("groups_of_4_to_3", (1, 7, 6, 12), (2, 3, 4, 9), groups=3, stride=(1, 2)),
    Case("groups32_of_4", (1, 5, 5, 128), (3, 3, 4, 128), groups=32, padding=1),
    # Groups narrower than the narrowest vector, of many channels.
    Case("groups2_of_75_to_3", (2, 5, 6, 150), (1, 1, 75, 6), groups=2, bias=True),
    Case("groups3_of_64_to_1", (1, 6, 7, 192), (3, 3, 64, 3), groups=3, padding=1),
    Case("groups4_of_64_to_2_stride2", (1, 7, 8, 256), (3, 2, 64, 8), 2, 1, groups=4, bias=True),
]

# Groups of as many outputs as inputs, of which a vector holds several, or one: tiles of every height; one vector, two,
# and one that stands back; windows of three kernel columns, and what is left of others; padded rows.
GROUPED = [
    *(
        Case(f"grouped_{g}_of_{c}", (1, 5, 9, g * c), (3, 3, c, g * c), padding=1, groups=g, bias=g % 2 == 1)
        for g, c in ((9, 2), (20, 2), (5, 4), (14, 4), (2, 8), (3, 8), (9, 8), (2, 16), (3, 16))
    ),
    *(
        Case(f"grouped_rows_{w}", (1, 4, w + 2, 40), (2, 3, 8, 40), groups=5, bias=w % 2 == 0)
        for w in (1, 2, 3, 4, 5, 6, 7, 8, 17)
    ),
    *(
        Case(f"grouped_{kh}x{kw}", (1, 6, 11, 48), (kh, kw, 4, 48), padding=(kh // 2, kw // 2), groups=12)
        for kh, kw in ((1, 1), (1, 2), (2, 4), (1, 5), (3, 7), (7, 1))
    ),
    Case("grouped_stride2", (2, 9, 20, 40), (3, 3, 8, 40), 2, 1, groups=5, bias=True),
    Case("grouped_stride2_5x5", (1, 9, 18, 36), (5, 5, 4, 36), 2, 2, groups=9),
    Case("grouped_stride3x1", (1, 11, 10, 40), (3, 3, 8, 40), (3, 1), 1, groups=5),
    Case("grouped_stride1x3", (1, 5, 23, 40), (3, 3, 8, 40), (1, 3), 1, groups=5),
    Case("grouped_dilation2", (1, 9, 13, 40), (3, 3, 8, 40), 1, 2, 2, 5, bias=True),
    Case("grouped_dilation2_stride2", (1, 11, 15, 40), (3, 3, 4, 40), 2, 2, 2, 10),
    Case("grouped_page_apart", (2, 4, 6, 1024), (3, 3, 8, 1024), padding=1, groups=128, bias=True),
    Case("grouped_in_shares", (1, 57, 58, 24), (3, 3, 8, 24), padding=1, groups=3),
    Case("grouped_over_image", (1, 4, 3, 48), (7, 7, 8, 48), padding=3, groups=6),
    Case("grouped_signal", (2, 1, 29, 48), (1, 9, 8, 48), padding=(0, 4), groups=6, bias=True),
    Case("grouped_far", (1, 48, 50, 64), (3, 3, 8, 64), padding=1, groups=8),
]

# Groups whose outputs fill no vector, and rows of outputs that fill one: lanes run along the rows.
PLANES = [
    Case("planes_of_3_to_3", (2, 5, 20, 30), (3, 3, 3, 30), padding=1, groups=10, bias=True),
    Case("planes_of_6_to_2", (1, 4, 37, 24), (2, 3, 6, 8), padding=(0, 1), groups=4),
    Case("planes_of_12_to_2_1x1", (2, 5, 18, 24), (1, 1, 12, 4), groups=2, bias=True),
    Case("planes_of_8", (2, 6, 20, 40), (3, 3, 8, 40), padding=1, groups=5, bias=True),
    Case("planes_of_4", (1, 7, 37, 12), (3, 3, 4, 12), padding=1, groups=3),
    Case("planes_of_4_wide", (1, 7, 37, 12), (2, 3, 4, 12), padding=1, groups=3),
    Case("planes_of_6_to_5", (1, 6, 19, 12), (2, 3, 6, 10), padding=(2, 3), dilation=(1, 2), groups=2),
    Case("planes_stride_down", (1, 9, 18, 18), (3, 2, 9, 14), (2, 1), (1, 0), groups=2, bias=True),
    Case("planes_unpadded", (1, 5, 40, 34), (3, 3, 17, 8), groups=2),
    Case(
        "planes_one_group_o3", (2, 9, 37, 3), (3, 2, 3, 3), padding=(2, 3, 1, 0), dilation=(2, 3), bias=True
    ),
    Case("planes_one_group_o6", (1, 9, 33, 1), (5, 5, 1, 6), bias=True),
    # Outputs that fill half a vector with AVX-512 or AVX2, or more of it.
    Case("planes_one_group_o4", (1, 7, 37, 5), (3, 3, 5, 4), padding=1),
    Case("planes_one_group_o8", (2, 6, 21, 9), (3, 3, 9, 8), padding=1, bias=True),
    Case("planes_one_group_o12", (1, 9, 33, 7), (5, 3, 7, 12), padding=(2, 0), bias=True),
    Case("planes_one_group_o7_d2", (1, 8, 25, 6), (3, 3, 6, 7), padding=2, dilation=2),
    Case("planes_of_15", (1, 5, 19, 12), (3, 3, 6, 30), padding=1, groups=2, bias=True),
    Case("planes_of_5_of_13", (1, 4, 18, 39), (2, 2, 13, 15), padding=1, groups=3),
    Case("planes_pad_over_kernel", (1, 3, 17, 10), (2, 2, 5, 8), padding=3, groups=2, bias=True),
]

DEPTHWISE = [
    Case(f"depthwise_c{c}", (1, 6, 7, c), (3, 3, 1, c), groups=c, padding=1, bias=c == 17)
    for c in (2, 3, 8, 15, 16, 17, 33, 65)
] + [
    Case("depthwise_c3_abreast", (2, 5, 37, 3), (3, 3, 1, 3), groups=3, padding=1, bias=True),
    Case(
        "depthwise_c4_abreast", (1, 7, 23, 4), (3, 5, 1, 4), groups=4, padding=(2, 3, 0, 1), dilation=(2, 1)
    ),
    Case("depthwise_c24_abreast", (2, 9, 19, 24), (3, 3, 1, 24), padding=2, dilation=2, groups=24, bias=True),
    Case("depthwise_c20_abreast", (1, 5, 21, 20), (2, 5, 1, 20), dilation=(1, 3), padding=(0, 5), groups=20),
    Case("depthwise_c40_dilated", (1, 9, 19, 40), (3, 3, 1, 40), padding=2, dilation=2, groups=40),
    Case("depthwise_c12_abreast", (1, 3, 18, 12), (1, 3, 1, 12), groups=12, dilation=(1, 2), bias=True),
    Case("depthwise_valid", (2, 7, 9, 9), (3, 3, 1, 9), groups=9),
    Case("depthwise_stride2", (2, 9, 10, 16), (3, 3, 1, 16), stride=2, padding=1, groups=16),
    # Tiles below each other share rows of x: of every width, from two rows up, and where steps are those between taps.
    *(
        Case(f"depthwise_rolling_{w}", (1, 4 + w % 3, w + 2, 20), (3, 3, 1, 20), groups=20, bias=w % 2 == 0)
        for w in (1, 2, 3, 4, 5, 6, 7, 13)
    ),
    Case("depthwise_rolling_far", (2, 11, 12, 33), (3, 3, 1, 33), 2, 1, dilation=2, groups=33, bias=True),
    Case("depthwise_stride2_wide", (2, 12, 19, 37), (3, 3, 1, 37), 2, 1, groups=37, bias=True),
    # Columns that leave two vectors and more behind the last of several vectors.
    *(
        Case(f"depthwise_columns_{c}", (1, 4, 9, c), (3, 3, 1, c), padding=1, groups=c, bias=c % 8 == 4)
        for c in (28, 60, 90, 116)
    ),
    # Their input gradients go by half steps: from a column inside of grad on, and to one that no tap reaches.
    Case("depthwise_stride2_pad_over_kernel", (1, 7, 13, 34), (3, 3, 1, 34), 2, (1, 4), groups=34, bias=True),
    Case("depthwise_stride2_unused_edge", (2, 8, 14, 34), (2, 3, 1, 34), (3, 2), groups=34),
    Case("depthwise_2x2_wide", (1, 6, 19, 37), (2, 2, 1, 37), groups=37, bias=True),
    Case("depthwise_2x2_stride2_wide", (1, 9, 23, 37), (2, 2, 1, 37), 2, groups=37),
    Case("depthwise_3x1_wide", (1, 7, 19, 37), (3, 1, 1, 37), padding=(1, 0), groups=37, bias=True),
    Case("depthwise_signal_3", (2, 1, 43, 36), (1, 3, 1, 36), padding=(0, 1), groups=36, bias=True),
    Case("depthwise_signal_5_stride2", (1, 1, 70, 40), (1, 5, 1, 40), (1, 2), (0, 2), groups=40),
    Case("depthwise_signal_7", (1, 1, 31, 20), (1, 7, 1, 20), padding=(0, 6), groups=20, bias=True),
    Case("depthwise_signal_2_dilated", (1, 1, 61, 33), (1, 2, 1, 33), dilation=(1, 4), groups=33),
    Case("depthwise_1x5_rows", (2, 4, 27, 34), (1, 5, 1, 34), padding=(0, 2), groups=34, bias=True),
    Case("depthwise_by_rows", (2, 5, 11, 516), (2, 2, 1, 516), 2, groups=516, bias=True),
    Case("depthwise_by_rows_padded", (1, 4, 9, 512), (1, 3, 1, 512), (2, 1), 1, groups=512),
    # Kernels of one column, whose rows are those of a tile of the weight gradient: of two tiles, over the image, apart.
    Case("depthwise_11x1", (2, 15, 9, 37), (11, 1, 1, 37), padding=(5, 0), groups=37, bias=True),
    Case("depthwise_21x1_over_image", (1, 12, 5, 20), (21, 1, 1, 20), padding=(10, 0), groups=20),
    Case("depthwise_9x1_stride2", (1, 21, 7, 20), (9, 1, 1, 20), (2, 1), (8, 0), (2, 1), groups=20),
    Case("depthwise_5x5_wide", (1, 9, 15, 36), (5, 5, 1, 36), padding=2, groups=36, bias=True),
    Case("depthwise_5x5_stride2", (1, 11, 21, 34), (5, 5, 1, 34), 2, 2, groups=34),
    Case("depthwise_stride2x1", (1, 9, 8, 18), (3, 3, 1, 18), (2, 1), 1, groups=18),
    Case("depthwise_stride2x1_3x3", (1, 9, 5, 18), (3, 3, 1, 18), (2, 1), 1, groups=18),
    Case("depthwise_stride1x2", (1, 6, 20, 18), (3, 3, 1, 18), (1, 2), 1, groups=18, bias=True),
    Case("depthwise_5x5", (1, 9, 10, 7), (5, 5, 1, 7), padding=2, groups=7, bias=True),
    Case("depthwise_7x7", (1, 9, 8, 20), (7, 7, 1, 20), padding=3, groups=20),
    # pixels of 512 channels fall into few sets of a first-level cache
    Case("depthwise_7x7_of_512", (1, 5, 20, 512), (7, 7, 1, 512), padding=3, groups=512, bias=True),
    Case("depthwise_dilation", (1, 10, 11, 6), (3, 3, 1, 6), padding=(2, 3), dilation=(2, 3), groups=6),
    Case("depthwise_dilation3x2", (1, 17, 19, 37), (3, 3, 1, 37), 1, (2, 3), (2, 3), 37, bias=True),
    Case("depthwise_dilation4_stride2", (1, 19, 23, 36), (3, 2, 1, 36), 2, 2, 4, 36),
    Case("depthwise_far", (1, 46, 47, 65), (3, 3, 1, 65), padding=1, groups=65),
    Case("depthwise_large_pixels_stride2", (1, 7, 9, 516), (3, 3, 1, 516), 2, 1, groups=516, bias=True),
    Case("depthwise_2k_pixels_stride2", (1, 7, 9, 512), (3, 3, 1, 512), 2, 1, groups=512),
    *(
        Case(f"groups_{g}_of_{c}_{o}", (1, 7, 6, g * c), (3, 3, c, g * o), (1, 2), 1, groups=g)
        for g, c, o in ((5, 1, 2), (21, 1, 2), (18, 1, 4), (11, 2, 4))
    ),
    Case("depthwise_multiplier3", (2, 7, 6, 6), (3, 2, 1, 18), stride=2, padding=1, groups=6, bias=True),
    Case("depthwise_1x1", (1, 5, 6, 11), (1, 1, 1, 11), groups=11),
    Case("depthwise_same", (1, 7, 8, 5), (4, 4, 1, 5), stride=2, groups=5, auto_pad=1),
]

# Most output columns lack a tap: rows are padded in a buffer. Long kernels also cover every way to split a run of taps.
DEPTHWISE_OVER_IMAGE = [
    Case(f"depthwise_{k}x{k}_over_{size}", (1, size, size, c), (k, k, 1, c), padding=k // 2, groups=c)
    for k, size, c in ((5, 4, 17), (9, 7, 20), (11, 8, 33), (15, 6, 16), (31, 9, 5))
]
