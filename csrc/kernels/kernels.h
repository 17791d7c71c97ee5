// What the hardware does, as contracts: one formula each, then what the caller guarantees. No convolution here, and
// no torch: matrices and vectors. The bodies are *_body.h, compiled once per row of isa_table.def.
#pragma once

#include <cstdint>

#include "machine.h"
#include "storage_kernels.h"

namespace nhwc_conv {

// Storage of half precision, as bits; half.h converts it.
struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

// An element of matrices that are multiplied by pairs: two neighbours in the reduction. A product of two of them is the
// sum of the products of their values.
struct BFloat16Pair {
  BFloat16 first, second;
};

// The type of the sums of products of A.
template <class A> struct SumOf {
  typedef A type;
};
template <> struct SumOf<BFloat16Pair> {
  typedef float type;
};
template <class A> using Sum = typename SumOf<A>::type;
template <class A> constexpr bool kIsPair = false;
template <> inline constexpr bool kIsPair<BFloat16Pair> = true;

// What a tile kernel does with the old C; see TileArgs. Broadcast kernels alone know go_on.
enum class Mode { fresh, add, go_on };

// The arguments of the tile kernels. There are five forms; each fixes its count of rows, m < rows, by the function
// that is called, and all of them compute, in a type at least as wide as T,
//
//   C[m*c_m + n] = start + sum over i < I, j < J, k < K of A * B + (mode is add ? C[m*c_m + n] : 0)
//
// where start is C[m*c_m + n] if mode is go_on, else bias[n], and
//
//   broadcast   A[i*a_i + j*a_j + k*a_k + m*a_m]      * B[i*b_i + j*b_j + k*b_k + n]      a matrix product
//   lanewise    A[i*a_i + j*a_j + k*a_k + m*a_m + n]  * B[i*b_i + j*b_j + k*b_k + n]      one product per column
//   grouped     A[i*a_i + n/J*J + j + k*a_k + m*a_m]  * B[i*b_i + j*b_j + k*b_k + n]      groups of J columns
//   gradient    A[i*a_i + n/J*J + j + k*a_k + m*a_m]  * B[i*b_i + k*b_k + n]              the same groups, each j apart
//   dot         A[i*a_i + j*a_j + k     + m*a_m]      * B[i*b_i + j*b_j + k     + n*b_n]  few columns, contiguous k
//
// where a gradient is C[m*c_m + j*c_j + n], summed over i and k, for every j < J, and knows no bias.
//
// Strides are in elements. C overlaps neither A nor B nor bias. I, J or K may be zero.
//
// The order of the sum is fixed: in all forms but the last one chain of multiply-adds in the order i, j, k from
// `start`, of pairs as their instruction has it, by steps of Arithmetic::reduction_step from k = 0 on; in that one
// chain per lane, then a fixed tree, then `start`; an old C that is added comes last. So the bits of C[m, n] depend
// neither on the tile shape nor on where in a tile it stands, and a chain that several calls make, each going on where
// the one before ended, has the bits of one call.
//
// Columns come in vectors of L lanes. A last vector that is not full stands back from the end and overlaps its
// neighbour; so columns >= L is required, nothing beyond `columns` is touched, and no mask is needed.
template <class T> struct TileArgs {
  const T* a;
  int64_t a_m, a_i, a_j, a_k;
  const T* b;
  int64_t b_n, b_i, b_j, b_k;
  int64_t I, J, K;
  Sum<T>* c;
  int64_t c_m, c_j;
  int64_t columns;
  const Sum<T>* bias;  // null, or `columns` values
  Mode mode;
  // Only a hint. Broadcast: the lines at ahead[i*ahead_i + j*ahead_j + k*ahead_k] are brought near meanwhile, for
  // later calls. The other forms do not read it. Null, with strides of zero, asks for nothing.
  const T* ahead;
  int64_t ahead_i, ahead_j, ahead_k;
  // A hint, zero for none. Lanewise: what the next tile reads of the last so many rows j, which are new to it, and what
  // this one writes, are brought near; gradient: what the next columns read is; dot: what the fourth tile from here
  // reads.
  int64_t asks_ahead;
  // Where the function that is called packs B, the rows of B go here too, one after the other, vectors*lanes elements
  // each.
  T* packed;
  // Of `rows` of the broadcast form, their rounding kind and lanewise kernels: complete sums go through
  // Activation::clamp, from `low` to `high`. Not with go_on.
  bool clamps;
  Sum<T> low, high;
  // So many tiles, each a_t further in A, and where it is read in `ahead`, and c_t in C than the one before; of
  // broadcast kernels, but for transposed_row, also b_t in B. Broadcast and dot kernels make one at least; with those
  // that pack it is one.
  int64_t tiles, a_t, c_t, b_t;

  void set_a(const T* at, int64_t m, int64_t i, int64_t j, int64_t k) { a = at, a_m = m, a_i = i, a_j = j, a_k = k; }
  void set_b(const T* at, int64_t i, int64_t j, int64_t k) { b = at, b_i = i, b_j = j, b_k = k; }
  void set_ahead(const T* at, int64_t i, int64_t j, int64_t k) { ahead = at, ahead_i = i, ahead_j = j, ahead_k = k; }
  void set_tiles(int64_t count, int64_t a_step, int64_t c_step, int64_t b_step = 0) {
    tiles = count, a_t = a_step, c_t = c_step, b_t = b_step;
  }
  void set_sums(int64_t i_count, int64_t j_count, int64_t k_count) { I = i_count, J = j_count, K = k_count; }
};

template <class T> using TileFn = void (*)(const TileArgs<T>&);

constexpr int kMaxTileRows = 32, kMaxTileColumns = 64;
// Rows, and pairs of the reduction, that an instruction for matrices takes at most.
constexpr int kMatrixRows = 16, kMatrixStep = 16;

// Rows that a tile has at most, and that are worth asking for where there are more than those.
struct TileHeights {
  int max_rows, rows_of_many;

  int most_rows(int64_t of) const { return of <= max_rows ? max_rows : rows_of_many; }
};

// Broadcast kernels of one column shape, (vectors - 1)*lanes < columns <= vectors*lanes, for 1 to max_rows rows:
// rows[m - 1] takes a_k = 1 and columns_of_a[m - 1] takes a_m = 1, whatever the fields say. packing_rows[m - 1] is
// rows[m - 1], and packs B. rounding_rows[m - 1] is rows[m - 1] of mode fresh, whose C is of the type of storage, to
// which sums are rounded; c_m counts its elements. There are none where storage is the arithmetic's type.
// transposed_row is rows[0], of B[i*b_i + j*b_j + k + n*b_n]; the widest vectors have it, else it is null.
template <class T> struct TileFamily : TileHeights {
  int lanes, vectors;
  TileFn<T> rows[kMaxTileRows];
  TileFn<T> packing_rows[kMaxTileRows];
  TileFn<T> rounding_rows[kMaxTileRows];
  TileFn<T> columns_of_a[kMaxTileRows];
  TileFn<T> transposed_row;
};

// Lanewise kernels of one width of vectors, for any number of columns from `lanes` up; rounding_rows as above.
// half_steps[first] is of mode fresh, for kHalfStepRows rows and K = kHalfSteps. Steps of k and of m are halves of a_k
// there: A has a vector for every second step, from `first` on, and products without one are left out.
//   C[m*c_m + n] = bias[n] + sum over j < J, and k < K where p = k + m - first is even and not negative,
//                            of A[j*a_j + p/2*a_k + n] * B[j*b_j + k*b_k + n]
// The widest vectors have it, else it is null.
constexpr int kMaxLanewiseRows = 8;
constexpr int kHalfSteps = 3, kHalfStepRows = 4;
template <class T> struct LanewiseFamily {
  int lanes;
  // The most rows that are worth asking for where tiles are many, one below the other: in general, if lines of A push
  // each other out, and where they follow each other a kernel row apart and J and K are 3.
  int rows_of_many, rows_of_rolling;
  TileFn<T> rows[kMaxLanewiseRows];
  TileFn<T> rounding_rows[kMaxLanewiseRows];
  TileFn<T> half_steps[2];
};

// Grouped kernels of one J, for any number of groups that fill the widest vector: of mode fresh, and the gradient of m
// rows, gradient[m - 1].
constexpr int kMaxGradientTaps = 3;
template <class T> struct GroupedKernels {
  TileFn<T> rows[kMaxLanewiseRows];
  TileFn<T> gradient[kMaxGradientTaps];
};

// Dot kernels for exactly `columns` columns and 1 to max_rows rows.
constexpr int kMaxDotRows = 8;
template <class T> struct DotFamily {
  int columns, max_rows;
  TileFn<T> rows[kMaxDotRows];
};

// Channels of groups of K, each as often as its group has outputs, `copies`:
//   to[p*to_p + k*N + n] = from[p*from_p + n / copies * K + k]      for p < P, k < K, n < N
// N is a multiple of copies.
template <class T> struct RepeatArgs {
  const T* from;
  int64_t from_p;
  T* to;
  int64_t to_p;
  int64_t P, K, N, copies;
};

// A few rows times a matrix that is read once, in its order:
//   to[p*to_p + n] += sum over k < K of left[p*left_p + k] * right[k*right_k + n]      for p < P, n < N
// Each value is one chain of multiply-adds, in the order k, that goes on from what stands there, or begins with zero
// where it is fresh; then K is one at least.
template <class T> struct StreamArgs {
  const T* left;
  int64_t left_p;
  const T* right;
  int64_t right_k;
  T* to;
  int64_t to_p;
  int64_t P, K, N;
  bool fresh;
};

// Winograd's transforms of one tile, two-sided products with small matrices, for each column by itself:
//   to[r*to_i + s*to_j + n] = bias[n] + sum over i, j of L[r][i] * L[s][j] * from[i*from_i + j*from_j + n]
// for n < columns, r < to_rows, s < to_columns, with the matrix L of the function that is called. `to` overlaps
// nothing.
template <class T> struct TransformArgs {
  const T* from;
  int64_t from_i, from_j;
  T* to;
  int64_t to_i, to_j;
  int64_t to_rows, to_columns;
  int64_t columns;
  const T* bias;  // or null
};
template <class T> using TransformFn = void (*)(const TransformArgs<T>&);

// F(tile x tile, 3 x 3), on points = (tile + 2) x (tile + 2) values: names and sizes of L by what it is applied to.
template <class T> struct WinogradTransforms {
  TransformFn<T> input;            // B^T: points x points
  TransformFn<T> weight;           // G: points x 3
  TransformFn<T> output;           // A^T: tile x points
  TransformFn<T> output_gradient;  // A: points x tile
  TransformFn<T> weight_gradient;  // G^T: 3 x points
};

// Families of broadcast kernels are sorted by lanes, widest first, then by vectors, one to as many as registers hold;
// the narrowest have one lane. Lanewise families are sorted likewise, dot families by columns from 1.
constexpr int kMaxFamilies = 16;
constexpr int kMaxLanewiseFamilies = 5;
constexpr int kMaxDotFamilies = 3;
// Of groups: 2, 4, 8, ... as many as the widest vector has lanes.
constexpr int kMaxGroupWidths = 4;

// Vectors get narrower by half, down to 16 bytes, and then to one lane; zero after that.
template <class T> constexpr int narrower(int lanes) {
  return lanes == 1 ? 0 : lanes * sizeof(T) == 16 ? 1 : lanes / 2;
}

// The kernels that compute: all in one type.
template <class A> struct Arithmetic {
  Machine machine;
  // What a product costs where one of float32 costs 1, and products of the reduction that an instruction sums in an
  // order of its own: a chain that several calls make has the bits of one call if they meet at multiples of these.
  double product_cost;
  int reduction_step;
  // What it takes to transform weights, in products: wider vectors multiply faster, and memory is what it is.
  double weight_cost;
  int families;
  TileFamily<A> family[kMaxFamilies];
  int lanewise_families;
  LanewiseFamily<A> lanewise[kMaxLanewiseFamilies];
  GroupedKernels<A> grouped[kMaxGroupWidths];
  int dot_lanes;
  DotFamily<A> dot[kMaxDotFamilies];
  WinogradTransforms<A> winograd2, winograd4;
  void (*rearrange)(const CopyArgs<Sum<A>, Sum<A>>&);
  void (*repeat)(const RepeatArgs<A>&);
  void (*stream)(const StreamArgs<A>&);  // null for pairs
  // to[n] += from[n] for n < count
  void (*add)(Sum<A>* to, const Sum<A>* from, int64_t count);
  // Runs `rounds` rounds of multiply-adds on registers alone and returns the number of floating-point operations.
  double (*peak)(int64_t rounds);
};

// These, and the kernels on the way between storage and them.
template <class S, class A> struct Kernels : Arithmetic<A> {
  void (*copy)(const CopyArgs<S, A>&);
  void (*pack)(const CopyArgs<S, A>&);
  void (*copy_taps)(const CopyTapsArgs<S, A>&);  // null for pairs
  void (*field)(const FieldArgs<S, A>&);
  void (*finish)(const FinishArgs<S, Sum<A>>&);
  void (*sum_rows)(const SumRowsArgs<S, A>&);   // null for pairs
  void (*scale_rows)(const ScaleRowsArgs<S>&);  // null for pairs
  void (*max_rows)(const MaxRowsArgs<S>&);      // null for pairs
  // Of products of pairs, where the instruction set has them; else null. Of those there are broadcast
  // kernels for more columns than dot kernels have, without packing_rows, and rearrange, add, copy, pack and finish.
  const Kernels<S, BFloat16Pair>* pairs;
};

// All kernels of one instruction set, by dtype.
struct KernelTable {
  const char* name;
#define NHWC_STORAGE(S, A, dtype) Kernels<S, A> dtype##_kernels;
#include "storage_types.def"
  Kernels<BFloat16, BFloat16Pair> bfloat16_pairs;
};

template <class S, class A> const Kernels<S, A>& kernels_of(const KernelTable& table);
#define NHWC_STORAGE(S, A, dtype) \
  template <> inline const Kernels<S, A>& kernels_of<S, A>(const KernelTable& table) { return table.dtype##_kernels; }
#include "storage_types.def"

}  // namespace nhwc_conv
