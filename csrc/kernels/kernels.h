// What the hardware does, as contracts: one formula each, then what the caller guarantees. No convolution here, and
// no torch: matrices and vectors. The bodies are *_body.h, compiled once per row of isa_table.def.
#pragma once

#include <cstdint>

namespace nhwc_conv {

// The tile kernel. For m < rows and n < columns, both fixed by the function that is called and by `last`:
//
//   C[m*c_m + n] = bias[n] + (accumulate ? C[m*c_m + n] : 0)
//                  + sum over i < I, j < J, k < K of A[i*a_i + j*a_j + k*a_k + m*a_m] * B[i*b_i + j*b_j + k*b_k + n]
//
// Every C[m, n] is one chain of multiply-adds in the order i, j, k that starts from bias (or zero); the old C is added
// last. So its bits depend neither on the tile shape nor on where in the tile it stands.
//
// Columns come in V vectors of L lanes. Vector v < V-1 stands at column v*L, the last one at column `last`, which may
// overlap its neighbour: columns = last + L need not be a multiple of L, yet nothing beyond them is touched, and no mask
// is needed. The caller guarantees (V-2)*L < last <= (V-1)*L, and that C overlaps neither A nor B nor bias.
// Strides are in elements. In a `rows` kernel a_k is 1 whatever the field says; in a `columns` kernel a_m is 1.
template <class T>
struct TileArgs {
  const T* a;
  int64_t a_m, a_i, a_j, a_k;
  const T* b;
  int64_t b_i, b_j, b_k;
  int64_t I, J, K;
  T* c;
  int64_t c_m;
  int64_t last;
  const T* bias;  // null, or `columns` values
  bool accumulate;
};

template <class T>
using TileFn = void (*)(const TileArgs<T>&);

// The tile kernels of one column shape, for 1 to max_rows rows: rows[m - 1] and columns[m - 1].
constexpr int kMaxTileRows = 16;
template <class T>
struct TileFamily {
  int lanes, vectors, max_rows;
  TileFn<T> rows[kMaxTileRows];
  TileFn<T> columns[kMaxTileRows];
};

// Copy of a matrix into rows of `to_k` elements: to[k*to_k + n] = from[k*from_k + n*from_n] for k < K, n < N.
template <class T>
struct CopyArgs {
  const T* from;
  int64_t from_k, from_n;
  T* to;
  int64_t to_k;
  int64_t K, N;
};

// One receptive field (one row of the im2col matrix), zeros outside the image:
//   to[(i*KW + j)*C + c] = inside(i, j) ? from[i*from_i + j*from_j + c*from_c] : 0      for i < KH, j < KW, c < C
// where inside(i, j) is i_begin <= i < i_end and j_begin <= j < j_end. Nothing outside is read.
template <class T>
struct FieldArgs {
  const T* from;
  int64_t from_i, from_j, from_c;
  int64_t KH, KW, C;
  int64_t i_begin, i_end, j_begin, j_end;
  T* to;
};

// Families are sorted by lanes, widest first, then by vectors; every count of lanes has one to `vectors_of` vectors,
// and the narrowest is one lane.
constexpr int kMaxFamilies = 16;
template <class T>
struct Kernels {
  int families;
  TileFamily<T> family[kMaxFamilies];
  void (*copy)(const CopyArgs<T>&);
  void (*field)(const FieldArgs<T>&);
  // to[n] += from[n] for n < count
  void (*add)(T* to, const T* from, int64_t count);
  // Runs `rounds` rounds of multiply-adds on registers alone and returns the number of floating-point operations.
  double (*peak)(int64_t rounds);
};

struct KernelTable {
  const char* name;
  Kernels<float> f32;
  Kernels<double> f64;
};

template <class T>
const Kernels<T>& kernels_of(const KernelTable& table);
template <>
inline const Kernels<float>& kernels_of<float>(const KernelTable& table) { return table.f32; }
template <>
inline const Kernels<double>& kernels_of<double>(const KernelTable& table) { return table.f64; }

}  // namespace nhwc_conv
