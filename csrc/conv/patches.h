// What the Winograd passes share: patches, which are squares of outputs, their way into the transformed domain, and the
// products there.
#pragma once

#include "stage.h"
#include "tiles.h"
#include "walk.h"

namespace nhwc_conv {

template <class A> const WinogradTransforms<A>& winograd_transforms(const Arithmetic<A>& kernels, int64_t patch) {
  return patch == 4 ? kernels.winograd4 : kernels.winograd2;
}

inline int64_t winograd_points(int64_t patch) { return (patch + 2) * (patch + 2); }

// The outputs of a patch, which are fewer at the end of an image.
struct Patch {
  int64_t n;
  Range ys, xs;
};

// Patches of all images, numbered image by image and row by row.
struct Patches {
  int64_t size, height, width, down, across, count;  // outputs of a patch along an axis, and of an image; patches

  Patches(const ConvGeometry& g, int64_t size) : size(size), height(g.h.output), width(g.w.output) {
    down = ceil_div(height, size);
    across = ceil_div(width, size);
    count = g.N * down * across;
  }

  Patch at(int64_t index) const {
    const int64_t y = index / across % down * size, x = index % across * size;
    return {index / (down * across), {y, min(y + size, height)}, {x, min(x + size, width)}};
  }
};

// Outputs of a patch along an axis: 4, or 2 for images so low or narrow that larger ones would mostly lie outside.
inline int64_t patch_size(ConvGeometry g) {
  g.N = 1;
  return Patches(g, 2).count * winograd_points(2) < Patches(g, 4).count * winograd_points(4) ? 2 : 4;
}

// Matrices in the transformed domain, one for each point: V, U, M, D or S of winograd.h and its weight gradient.
template <class A> struct PointMatrices {
  A* data;
  int64_t rows, columns;
  int64_t row, column, point;  // strides

  PointMatrices of_rows(Range some) const {
    return {data + some.begin * row, some.size(), columns, row, column, point};
  }
  // The columns are counted from `first` on.
  PointMatrices of_columns(Range some, int64_t first = 0) const {
    return {data + (some.begin - first) * column, rows, some.size(), row, column, point};
  }
  PointMatrices transposed() const { return {data, columns, rows, column, row, point}; }
};

template <class A> PointMatrices<A> point_matrices(A* data, int64_t rows, int64_t columns) {
  return {data, rows, columns, columns, 1, rows * columns + kPointGap};
}

// Squares of a tensor, one for each patch: `size` pixels down and across, beginning so much before the patch. Pixels
// outside the image are zero.
template <class S> struct Squares {
  ImageView<const S> images;
  Range channels;
  int64_t height, width, before_h, before_w, size;
};

// The squares of these patches, each to a row of V or D. `field` has room for one that is staged.
template <class S, class A>
void transform_squares(const Kernels<S, A>& kernels, TransformFn<A> transform, const Squares<S>& squares,
                       const Patches& patches, Range some, A* field, const PointMatrices<A>& to) {
  const int64_t size = squares.size, points = patches.size + 2, channels = squares.channels.size();
  for (int64_t p = some.begin; p < some.end; ++p) {
    const Patch patch = patches.at(p);
    ImageView<const S> image = of_image(squares.images, patch.n);
    image.data += squares.channels.begin * image.c;
    const int64_t y = patch.ys.begin - squares.before_h, x = patch.xs.begin - squares.before_w;
    const Range rows = Range{-y, squares.height - y}.within({0, size});
    const Range columns = Range{-x, squares.width - x}.within({0, size});
    const bool inside = rows.size() == size && columns.size() == size;
    ImageView<const A> square = {field, 0, size * channels, channels, 1};
    if (inside && can_view<A>(image)) {
      square = in_place<A>(image);
      square.data += y * image.h + x * image.w;
    } else {
      stage_field(kernels, image, {y, x, size, size, 1, 1, rows, columns}, channels, field);
    }
    A* const row = to.data + (p - some.begin) * to.row;
    transform({square.data, square.h, square.w, row, points * to.point, to.point, points, points, channels, nullptr});
  }
}

// C = A*B or, to add, C += A*B for each point. B and C have the columns of `tiles`; A may be transposed. To look ahead,
// each tile asks for its share of the next point's B, which comes from memory: processors foresee no more than a page.
template <class A>
void multiply_points(const Arithmetic<A>& kernels, int64_t points, const ColumnTiles& columns, Range tiles, Mode mode,
                     PointMatrices<A> a, PointMatrices<A> b, PointMatrices<A> c, bool looks_ahead = false) {
  TileArgs<A> args = {};
  args.c_m = c.row;
  args.mode = mode;
  args.set_sums(1, 1, b.rows);
  for (int64_t p = 0; p < points; ++p) {
    for (int64_t t = tiles.begin; t < tiles.end; ++t) {
      const TileFamily<A>& family = family_of(kernels, columns, t);
      const TileFn<A>* const by_rows = a.column == 1 ? family.rows : family.columns_of_a;
      const int64_t before = columns.begin(t) - columns.begin(tiles.begin);
      args.set_b(b.data + before, 0, 0, b.row);
      args.columns = columns.size(t);
      in_equal_tiles(c.rows, family.most_rows(c.rows), [&](int64_t row, int64_t rows, int64_t equal) {
        args.set_tiles(equal, rows * a.row, rows * c.row);
        if (looks_ahead) {
          const int64_t step = ceil_div(max(rows * a.row, b.point * rows / c.rows), b.rows);
          args.set_ahead(b.data + b.point + b.point * row / c.rows, 0, 0, step);
        }
        args.set_a(a.data + row * a.row, a.row, 0, 0, a.column);
        args.c = c.data + row * c.row + before;
        by_rows[rows - 1](args);
      });
    }
    a.data += a.point;
    b.data += b.point;
    c.data += c.point;
  }
}

}  // namespace nhwc_conv
