"""Plans by name, for every instruction set: what the speed rests on."""

import pytest
import torch
from conftest import ROOT

import nhwc_conv
from nhwc_conv._extension import module as extension

pytestmark = pytest.mark.needs_extension

# name: shapes and steps, then what each instruction set's plan must say.
PLANS = [
    ("notebook", ((10, 32, 32, 8), (3, 3, 8, 16), 1, 0), dict(algorithm="im2col", source="view"),
     dict(avx512=[16, 16], avx2=[6, 16], baseline=[6, 8])),
    ("resnet_56", ((1, 56, 56, 64), (3, 3, 64, 64), 1, 1), dict(algorithm="winograd", winograd_tile=4),
     dict(avx512=[7, 64], avx2=[4, 24], baseline=[4, 12])),
    ("resnet_56_s2", ((1, 56, 56, 64), (3, 3, 64, 64), 2, 1), dict(algorithm="im2col", source="view"), {}),
    ("stem", ((1, 224, 224, 3), (7, 7, 3, 64), 2, 3), dict(source="view", reduction=(7, 1, 21)), {}),
    ("pointwise", ((1, 56, 56, 64), (1, 1, 64, 256), 1, 0), dict(reduction=(1, 1, 64), packed_weights=True), {}),
    ("last_layer", ((1, 32, 32, 64), (3, 3, 64, 3), 1, 1), dict(packed_weights=True), dict(avx512=[8, 3], avx2=[4, 3])),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "expected", "tiles"), PLANS, ids=[row[0] for row in PLANS])
def test_plan(name, arguments, expected, tiles, isa):
    plan = nhwc_conv.explain(*arguments)
    assert plan["instruction_set"] == isa
    assert {key: plan[key] for key in expected} == expected
    family = isa.removesuffix("_bf16")
    if family in tiles:
        assert plan["tile"] == tiles[family]


RUNNERS = {
    "view": ((1, 32, 32, 8), (3, 3, 8, 16), dict()),
    "panel": ((1, 20, 20, 8), (3, 3, 8, 16), dict(dilation=2, algorithm="im2col")),
    "pieces": ((1, 7, 7, 512), (3, 3, 512, 512), dict(padding=1, algorithm="im2col")),
    "stream": ((1, 1, 1, 96), (1, 1, 96, 24), dict()),
    "planes": ((1, 64, 64, 1), (3, 3, 1, 1), dict()),
    "lanewise": ((1, 14, 14, 32), (3, 3, 1, 32), dict(groups=32)),
    "winograd": ((1, 56, 56, 64), (3, 3, 64, 64), dict(padding=1)),
    "weight_gradient_dense": ((1, 32, 32, 8), (3, 3, 8, 16), dict(direction="weight_gradient")),
    "weight_gradient_stream": ((8, 1, 1, 9), (1, 1, 9, 150), dict(direction="weight_gradient")),
    "weight_gradient_lanewise": ((1, 9, 9, 32), (3, 3, 1, 32), dict(groups=32, direction="weight_gradient")),
    "weight_gradient_winograd": ((1, 56, 56, 64), (3, 3, 64, 64), dict(direction="weight_gradient")),
}


@pytest.mark.parametrize("runner", RUNNERS)
def test_the_runner_is_a_file_of_conv(runner, isa):  # where a result is made, for whoever finds it wrong
    x, w, arguments = RUNNERS[runner]
    assert nhwc_conv.explain(x, w, **arguments)["runner"] == runner
    assert (ROOT / f"csrc/conv/{runner}.h").is_file()


def test_weights_go_in_pieces_where_few_pixels_share_them(isa, threads):
    def in_pieces(pixels, channels, outputs):
        x, w = (1, pixels, pixels, channels), (1, 1, channels, outputs)
        return nhwc_conv.explain(x, w)["runner"] == "pieces"

    threads(1)
    assert in_pieces(7, 128, 256) and in_pieces(7, 384, 96) and in_pieces(28, 2048, 64)
    assert not in_pieces(28, 1024, 64), "items are not of so few pixels as above"
    assert not in_pieces(7, 64, 512), "sums would be read too often"
    assert not in_pieces(7, 128, 96), "the weights stay in the cache anyway"
    lacks_taps = nhwc_conv.explain((1, 1, 1, 256), (3, 3, 256, 84), padding=1)
    assert lacks_taps["runner"] != "pieces", "eight of nine taps would be packed for nothing"
    threads(5)
    assert not in_pieces(7, 384, 96), "some threads would have more tiles than others"


def test_images_of_one_column_are_images_of_one_row(isa):
    for outputs in (64, 4):
        column = nhwc_conv.explain((1, 101, 1, 256), (3, 1, 256, outputs), padding=(1, 0))
        row = nhwc_conv.explain((1, 1, 101, 256), (1, 3, 256, outputs), padding=(0, 1))
        assert column == row
    assert nhwc_conv.explain((1, 101, 1, 256), (3, 1, 256, 3), padding=(1, 0))["reduction"] == (3, 1, 256)


def test_dilated_im2col_goes_through_a_panel():
    plan = nhwc_conv.explain((1, 20, 20, 8), (3, 3, 8, 16), dilation=2, algorithm="im2col")
    assert (plan["runner"], plan["source"], plan["reduction"]) == ("panel", "fields", (3, 1, 24))
    assert plan["workspace_per_thread"] > 0
    plan = nhwc_conv.explain((1, 20, 20, 8), (3, 3, 8, 16), dilation=2, algorithm="matmul")
    assert plan["source"] == "view" and plan["reduction"] == (3, 3, 8)


def test_batches_of_single_pixels_are_one_image():
    plan = nhwc_conv.explain((128, 1, 1, 512), (1, 1, 512, 10), direction="weight_gradient")
    assert plan["reduction"][2] > 1


@pytest.mark.parametrize(("pixels", "channels"), [(7, 512), (14, 256)])
def test_winograd_where_products_outweigh_the_weights(pixels, channels, isa):
    """With vectors of 64 bytes, products are cheap and weights are not; seven rows of pixels share them too little."""
    plan = nhwc_conv.explain((1, pixels, pixels, channels), (3, 3, channels, channels), padding=1)
    few = pixels == 7 and isa.startswith(("amx", "avx512"))
    assert plan["algorithm"] == ("im2col" if few else "winograd")


def test_weight_gradients_take_winograd_where_pixels_outweigh_the_sums_of_its_points(isa):
    algorithms = [
        nhwc_conv.explain((n, 7, 7, 512), (3, 3, 512, 512), padding=1, direction="weight_gradient")[
            "algorithm"
        ]
        for n in (1, 8)
    ]
    assert algorithms == ["direct", "winograd"]


def test_panels_of_a_weight_gradient_are_two_vectors_of_a_cache_line_at_most(isa):
    arguments = dict(direction="weight_gradient", algorithm="im2col", padding=1)
    several = nhwc_conv.explain((1, 28, 28, 128), (3, 3, 128, 128), **arguments)["tile"]
    assert several[1] * 4 <= 128
    if isa.startswith("avx512"):
        assert several == [14, 32]
        assert nhwc_conv.explain((1, 7, 7, 7), (3, 3, 7, 64), **arguments)["tile"] == [6, 64]


def test_depthwise():
    for direction in ("forward", "input_gradient", "weight_gradient"):
        plan = nhwc_conv.explain(
            (1, 14, 14, 32), (3, 3, 1, 32), padding="same", groups=32, direction=direction
        )
        assert plan["algorithm"] == "lanewise" and plan["source"] == "view"


def test_depthwise_layers_whose_pixels_collide_in_the_cache_are_copied(isa):
    """Vectors narrower than a cache line come back for the rest of it; there it must not be lost meanwhile."""
    shapes = {
        "few sets, many lines": ((1, 28, 28, 128), (7, 7, 1, 128)),
        "few sets, few lines": ((1, 28, 28, 128), (3, 3, 1, 128)),
        "few sets, lines in two parts": ((1, 28, 28, 256), (3, 3, 1, 256)),
        "many sets": ((1, 28, 28, 136), (7, 7, 1, 136)),
        "an image from far": ((1, 56, 56, 128), (7, 7, 1, 128)),
    }
    copied = [
        name
        for name, (x, w) in shapes.items()
        if nhwc_conv.explain(x, w, padding=w[0] // 2, groups=w[3])["source"] == "lanes"
    ]
    halves = [] if isa == "avx2" else ["few sets, lines in two parts"]
    assert copied == ([] if isa.startswith(("avx512", "amx")) else ["few sets, many lines", *halves])


def test_depthwise_rows_are_not_copied_with_padding_that_dwarfs_the_image():
    for algorithm in ("auto", "im2col"):
        far = nhwc_conv.explain(
            (1, 8, 8, 16), (3, 3, 1, 16), (1, 10**6), (1, 1, 10**6, 10**6), groups=16, algorithm=algorithm
        )
        assert far["workspace_per_thread"] < 2**20
    assert (
        nhwc_conv.explain((1, 8, 8, 16), (3, 3, 1, 16), 1, 1, 1, 16, algorithm="im2col")["source"] == "lanes"
    )


def test_pixels_of_a_pointwise_layer_are_one_row(isa):
    image, row = (nhwc_conv.explain((8, *x, 64), (1, 1, 64, 200)) for x in ((1, 7), (7, 1)))
    assert image["tile"] == row["tile"] == nhwc_conv.explain((1, 1, 56, 64), (1, 1, 64, 200))["tile"]


def test_groups_between_far_taps_are_not_staged_all_at_once(threads):
    threads(1)
    plan = nhwc_conv.explain((1, 128, 128, 1024), (3, 2, 8, 2048), dilation=(60, 1), groups=128)
    assert plan["source"] == "pixels" and plan["workspace_per_thread"] < 1.5 * 2**20


def test_rows_between_far_taps_are_not_copied():
    def workspace(dilation, **arguments):
        plan = nhwc_conv.explain(
            (1, 128, 128, 256),
            (3, 3, 256, 64),
            1,
            dilation,
            dilation,
            direction="weight_gradient",
            **arguments,
        )
        return plan["workspace_per_thread"]

    with nhwc_conv.flags(winograd=False):
        assert workspace(64) <= workspace(1)
    plan = nhwc_conv.explain((1, 224, 224, 256), (3, 3, 8, 256), 1, 8, 8, groups=32)
    assert plan["source"] != "planes" and plan["workspace_per_thread"] < 2**16


def test_phases_of_a_strided_input_gradient():
    plan = nhwc_conv.explain((1, 56, 56, 64), (3, 3, 64, 64), 2, 1, direction="input_gradient")
    assert plan["phases"] == 4


def test_phases_across_of_depthwise_layers_are_computed_in_turn():
    def phases(kernel, stride=2, groups=64):
        w = (3, kernel, 64 // groups, 64)
        return nhwc_conv.explain((1, 56, 56, 64), w, stride, 1, groups=groups, direction="input_gradient")[
            "phases"
        ]

    assert phases(3) == 2
    assert phases(3, (3, 2)) == 3 and phases(3, (2, 3)) == 6
    assert phases(5) == phases(3, groups=1) == 4


def test_workspace_of_a_float64_layer_is_below_a_mebibyte_a_thread():
    """F.conv2d takes 122 MiB here, by the number of pixels."""
    shapes = (8, 56, 56, 64), (3, 3, 64, 64)
    for direction in ("forward", "input_gradient"):
        for winograd in (True, False):
            with nhwc_conv.flags(winograd=winograd):
                plan = nhwc_conv.explain(*shapes, padding=1, dtype=torch.float64, direction=direction)
            assert (plan["algorithm"] == "winograd") == winograd
            assert plan["workspace_per_thread"] < 2**20
            assert plan["workspace_shared"] <= 36 * 64 * (64 + 16) * 8  # the weights, transformed


def rows_of_items(height):
    """Of a layer by planes, from the rows of its image that a thread stages: two of them are its neighbours'."""

    def staged(rows):
        return nhwc_conv.explain((1, rows, 32, 8), (3, 3, 8, 2), padding=1)["workspace_per_thread"]

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    all_rows, row = staged(height), staged(height) - staged(height - 1)
    torch.set_num_threads(threads)
    missing, rest = divmod(all_rows - staged(height), row)
    assert rest == 0
    return height - missing - 2 if missing else height


@pytest.mark.parametrize(("height", "count", "rows"), [(14, 2, 7), (13, 2, 7), (14, 8, 2), (64, 2, 16)])
def test_threads_have_equal_parts_and_more_of_them_where_these_are_long(height, count, rows, threads):
    threads(count)
    assert rows_of_items(height) == rows


def test_little_work_is_not_shared(threads):
    threads(2)
    extension.share_all_work(False)
    assert rows_of_items(14) == 14 and rows_of_items(64) < 64


def test_workspace_does_not_grow_with_the_batch():
    for direction in ("forward", "input_gradient"):
        plans = [
            nhwc_conv.explain(
                (n, 28, 28, 32), (3, 3, 32, 32), padding=1, dtype=torch.float64, direction=direction
            )
            for n in (1, 64)
        ]
        assert plans[0]["workspace_shared"] == plans[1]["workspace_shared"]
        assert plans[0]["workspace_per_thread"] == plans[1]["workspace_per_thread"]


def test_intensity():
    plan = nhwc_conv.explain((1, 4, 4, 8), (1, 1, 8, 2))
    assert plan["flops"] == 2 * 16 * 8 * 2
    assert plan["arithmetic_intensity"] == pytest.approx(512 / (4 * (128 + 16 + 32)))


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        (dict(direction="sideways"), ValueError, "direction must be .*'weight_gradient', but got 'sideways'"),
        (dict(algorithm="nonsense"), ValueError, "algorithm must be .*, but got 'nonsense'"),
        (
            dict(dtype=torch.int8),
            ValueError,
            "dtype must be 'float32', 'float64', 'bfloat16' or 'float16', but got 'int8'",
        ),
        (dict(padding="full"), ValueError, "Invalid padding string: padding='full'"),
        (dict(stride=1.5), TypeError, "stride=1.5"),
        (dict(groups=3), RuntimeError, "groups=3"),
    ],
    ids=str,
)
def test_bad_names(wrong, error, text):
    with pytest.raises(error, match=text):
        nhwc_conv.explain((1, 4, 4, 8), (1, 1, 8, 2), **wrong)


COMMON = {"algorithm", "runner", "instruction_set", "source", "reduction", "tile", "packed_weights", "flops"}
COMMON |= {"workspace_shared", "workspace_per_thread", "arithmetic_intensity"}
WINOGRAD = {"winograd_tile", "block_tiles"}


def test_every_key_is_documented():
    dense, depthwise = ((1, 28, 28, 64), (3, 3, 64, 64), 1, 1), ((1, 8, 8, 32), (3, 3, 1, 32), 1, 1, 1, 32)
    for arguments, options, algorithm, others in (
        (dense, dict(), "winograd", {"reduction_blocks", "phases", *WINOGRAD}),
        (dense, dict(algorithm="im2col"), "im2col", {"reduction_blocks", "phases"}),
        (dense, dict(direction="weight_gradient"), "winograd", {"partials"}),
        (dense, dict(direction="weight_gradient", algorithm="im2col"), "direct", {"partials"}),
        (depthwise, dict(), "lanewise", {"phases"}),
        (depthwise, dict(direction="weight_gradient"), "lanewise", {"partials"}),
    ):
        plan = nhwc_conv.explain(*arguments, **options)
        assert plan["algorithm"] == algorithm and plan.keys() == COMMON | others
        assert all(f"`{key}`" in nhwc_conv.explain.__doc__ for key in plan)
