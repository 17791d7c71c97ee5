"""What plans convolutions in groups get."""

import pytest

import nhwc_conv

pytestmark = pytest.mark.needs_extension


def lanes_of(isa):
    """How many values of float32 its widest vector holds."""
    return {"amx_bf16": 16, "avx512_bf16": 16, "avx512": 16, "avx2": 8}.get(isa, 4)


def test_narrow_groups_are_copied_so_that_the_taps_of_a_row_are_one_run(isa):
    plan = nhwc_conv.explain((1, 28, 28, 256), (3, 3, 8, 512), padding=1, groups=32, algorithm="im2col")
    assert (plan["algorithm"], plan["source"], plan["reduction"]) == ("im2col", "pixels", (3, 1, 24))
    plan = nhwc_conv.explain((1, 28, 28, 256), (3, 3, 16, 512), padding=1, groups=16, stride=2)
    assert (plan["algorithm"], plan["source"], plan["reduction"]) == ("matmul", "view", (3, 3, 16))


def test_lanes_run_along_rows_where_the_outputs_of_a_group_fill_no_vector(isa):
    def plan(x, w, **arguments):
        plan = nhwc_conv.explain(x, w, padding=1, **arguments)
        return plan["source"], plan["reduction"], plan["tile"]

    if isa.startswith("avx512"):
        assert plan((1, 28, 28, 256), (3, 3, 8, 192), groups=32) == ("planes", (3, 3, 8), [6, 32])
        assert plan((1, 28, 28, 256), (3, 3, 16, 512), groups=16)[0] == "view"
        assert plan((1, 14, 14, 256), (3, 3, 8, 192), groups=32)[0] == "pixels"
        # One group of few outputs, unless the products of a kernel row fill vectors or the outputs half of one.
        assert plan((1, 64, 64, 3), (3, 3, 3, 3))[0] == "planes"
        assert plan((1, 64, 64, 16), (3, 3, 16, 3))[0] == plan((1, 64, 64, 3), (3, 3, 3, 8))[0] == "view"
        # Outputs that fill half of a vector or more, by how many products an output has.
        assert plan((1, 64, 64, 8), (3, 3, 8, 8))[0] == plan((1, 64, 64, 12), (3, 3, 12, 15))[0] == "planes"
        assert plan((1, 64, 64, 3), (3, 3, 3, 12))[0] == plan((1, 64, 64, 12), (3, 3, 12, 16))[0] == "view"
    if isa != "baseline":
        assert plan((1, 56, 56, 160), (3, 3, 5, 128), groups=32)[0] == "planes"
        # Three outputs or fewer, of channels that fill no vector.
        assert plan((1, 56, 56, 60), (3, 3, 3, 60), groups=20)[0] == "planes"
        assert plan((1, 56, 56, 60), (3, 3, 3, 60), groups=20, stride=2)[0] == "lanes"
        assert plan((1, 56, 56, 128), (3, 3, 32, 12), groups=4)[0] != "planes"


def test_rows_are_padded_where_runs_of_outputs_with_the_same_taps_are_short(isa):
    def source(pixels, kernel, dilation):
        shapes = (1, pixels, pixels, 384), (kernel, kernel, 1, 384)
        padding = kernel // 2 * dilation
        return nhwc_conv.explain(*shapes, padding=padding, dilation=dilation, groups=384)["source"]

    assert source(7, 7, 1) == source(8, 5, 1) == "lanes"
    assert source(32, 3, 24) == source(16, 3, 6) == source(14, 3, 36) == "view"


def test_groups_of_as_many_outputs_as_inputs_share_vectors(isa):
    lanes = lanes_of(isa)

    def plan(pixels, channels, groups, **arguments):
        x, w = (1, pixels, pixels, channels), (3, 3, channels // groups, channels)
        return nhwc_conv.explain(x, w, padding=1, groups=groups, **arguments)

    for width in (2, 4, 8, 16):
        grouped = plan(14, 64, 64 // width)["reduction"] == (3, width, 3)
        assert grouped == (width <= lanes), "of which vectors hold several, or one"
        gradient = plan(7, 64, 64 // width, direction="weight_gradient")
        assert (gradient["tile"] == [3, 64]) == grouped, "three taps of each channel at once"
    reduction = (3, 3, 6) if lanes == 8 else (3, 1, 18)
    assert plan(14, 72, 12)["reduction"] == reduction, (
        "of six, none whole: planes where they fill over half a vector"
    )
    assert plan(7, 64, 16)["source"] == "lanes" and plan(28, 64, 16)["source"] == "view", "few lack taps"
    assert plan(56, 128, 128 // lanes)["runner"] == ("winograd" if lanes == 16 else "lanewise")


def test_weight_gradients_of_groups_as_wide_as_a_vector_are_direct_where_images_come_from_memory(isa):
    if lanes_of(isa) == 16:
        for images, runner in (1, "winograd"), (8, "lanewise"):
            shapes = (images, 30, 28, 512), (3, 3, 16, 512)
            plan = nhwc_conv.explain(*shapes, padding=1, groups=32, direction="weight_gradient")
            assert plan["runner"] == f"weight_gradient_{runner}"


@pytest.mark.parametrize(("channels", "runner"), [(15, "planes"), (16, "view")])
def test_narrow_groups_whose_channels_fill_a_vector_have_lanes_over_these(channels, runner):
    for outputs in (1, 3):
        shapes = (1, 8, 8, 4 * channels), (1, 1, channels, 4 * outputs)
        assert nhwc_conv.explain(*shapes, groups=4)["runner"] == runner
        plan = nhwc_conv.explain(*shapes, groups=4, direction="weight_gradient")
        assert plan["runner"] == f"weight_gradient_{'dense' if runner == 'view' else 'lanewise'}"


def test_few_depthwise_channels_stand_abreast(isa):
    """Until they fill whole vectors, where a row is that long."""
    lanes = lanes_of(isa)
    for width, channels in ((64, 3 * lanes), (2, 3)):
        plan = nhwc_conv.explain((1, 9, width, 3), (3, 3, 1, 3), padding=1, groups=3)
        assert plan["tile"] == [8, channels]


@pytest.mark.parametrize(("outputs", "packed"), [(960, False), (1024, True)])
def test_weights_are_packed_where_their_rows_share_cache_sets(outputs, packed, isa):
    groups = outputs // lanes_of(isa)  # of one tile each
    x, w = (1, 14, 14, 12 * groups), (3, 3, 12, outputs)
    assert nhwc_conv.explain(x, w, padding=1, groups=groups)["packed_weights"] == packed
    assert not nhwc_conv.explain((1, 2, 2, x[3]), w, padding=1, groups=groups)["packed_weights"], "few pixels"
