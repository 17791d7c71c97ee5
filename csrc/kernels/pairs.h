// Products of pairs of bfloat16 by AVX512-BF16, and what copies tensors into pairs. An instruction adds the product of
// the second values of two pairs to a sum, then that of the first, each rounded to nearest even; denormal numbers count
// as zero. Included where the bodies are.

inline __m512 add_products(__m512 sum, __m512i b, __m512i a) { return _mm512_dpbf16_ps(sum, (__m512bh)b, (__m512bh)a); }
inline __m256 add_products(__m256 sum, __m256i b, __m256i a) { return _mm256_dpbf16_ps(sum, (__m256bh)b, (__m256bh)a); }
inline __m128 add_products(__m128 sum, __m128i b, __m128i a) { return _mm_dpbf16_ps(sum, (__m128bh)b, (__m128bh)a); }

// The same bits in the types of intrinsics, which name vectors by their bytes alone.
template <int LANES> struct Intrinsic;
template <> struct Intrinsic<16> {
  typedef __m512 floats;
  typedef __m512i integers;
};
template <> struct Intrinsic<8> {
  typedef __m256 floats;
  typedef __m256i integers;
};
template <> struct Intrinsic<4> {
  typedef __m128 floats;
  typedef __m128i integers;
};

// LANES pairs from memory, which is aligned as their values are.
template <int LANES> inline typename Lanes<uint32_t, LANES>::vector load_pairs(const void* from) {
  typename Lanes<uint32_t, LANES>::vector pairs;
  memcpy(&pairs, from, sizeof(pairs));
  return pairs;
}

template <int LANES> struct Product<BFloat16Pair, LANES> {
  typedef typename Lanes<uint32_t, LANES>::vector vector;
  typedef typename Lanes<float, LANES>::vector Sums;
  static vector load_b(const BFloat16Pair* from) { return load_pairs<LANES>(from); }
  static void store_b(BFloat16Pair* to, vector value) { memcpy(to, &value, sizeof(value)); }
  static void add(Sums& sum, vector right, BFloat16Pair left) {
    typedef typename Intrinsic<LANES>::integers I;
    const vector lefts = vector{} + same_bits<uint32_t>(left);
    sum = (Sums)add_products((typename Intrinsic<LANES>::floats)sum, (I)right, (I)lefts);
  }
};

// Pairs from memory, LANES of them next to each other: their values are neighbours too, or a row of first values and
// another of second ones.
struct NeighbouringValues {
  static const int STEP = 2;  // from a pair to the next
  explicit NeighbouringValues(int64_t) {}
  template <int LANES> typename Lanes<uint32_t, LANES>::vector load(const BFloat16* from) const {
    return load_pairs<LANES>(from);
  }
};
struct RowsOfValues {
  static const int STEP = 1;
  int64_t second;
  explicit RowsOfValues(int64_t distance) : second(distance) {}
  template <int LANES> typename Lanes<uint32_t, LANES>::vector load(const BFloat16* from) const {
    return HalfBits<LANES>::load(&from->bits) | HalfBits<LANES>::load(&from[second].bits) << 16;
  }
};

// A row of N pairs, by vectors of LANES or narrower ones; the last stands back from its end.
template <int LANES, class Values> inline void copy_pair_row(const Values& values, const BFloat16* from, int64_t N,
                                                             uint32_t* to) {
  if (N < LANES) {
    if constexpr (LANES > 1) copy_pair_row<LANES / 2>(values, from, N, to);
    return;
  }
  for (int64_t n = 0; n + LANES < N; n += LANES)
    store<uint32_t, LANES>(to + n, values.template load<LANES>(from + n * Values::STEP));
  store<uint32_t, LANES>(to + N - LANES, values.template load<LANES>(from + (N - LANES) * Values::STEP));
}

template <class Values> void transpose_pairs(const Values& values, const CopyArgs<BFloat16, BFloat16Pair>& t) {
  const int L = 16;
  uint32_t* const to = reinterpret_cast<uint32_t*>(t.to);
  for (int64_t k = 0; k < t.K; k += L) {
    const int64_t at_k = k + L <= t.K ? k : t.K - L;
    for (int64_t n = 0; n < t.N; n += L) {
      const int64_t at_n = n + L <= t.N ? n : t.N - L;
      const BFloat16* from = t.from + at_k * t.from_k + at_n * t.from_n;
      typename Lanes<uint32_t, L>::vector v[L];
      NHWC_UNROLL(16)
      for (int l = 0; l < L; ++l) v[l] = values.template load<L>(from + l * t.from_n);
      transpose_square<uint32_t, L>(v);
      NHWC_UNROLL(16)
      for (int l = 0; l < L; ++l) store<uint32_t, L>(to + (at_k + l) * t.to_k + at_n, v[l]);
    }
  }
}

// second: from the first value of a pair to the other.
template <class Values> void copy_pairs(const CopyArgs<BFloat16, BFloat16Pair>& t, int64_t second) {
  const Values values(second);
  const int64_t narrow = 4;
  if (t.from_n == Values::STEP && t.N >= narrow) {
    for (int64_t k = 0; k < t.K; ++k)
      copy_pair_row<16>(values, t.from + k * t.from_k, t.N, reinterpret_cast<uint32_t*>(t.to + k * t.to_k));
  } else if (t.from_k == Values::STEP && t.K >= 16 && t.N >= 16) {
    transpose_pairs(values, t);
  } else {
    for (int64_t n = 0; n < t.N; ++n) {
      const BFloat16* from = t.from + n * t.from_n;
      for (int64_t k = 0; k < t.K; ++k) t.to[k * t.to_k + n] = {from[k * t.from_k], from[k * t.from_k + second]};
    }
  }
}

inline void copy_pairs(const CopyArgs<BFloat16, BFloat16Pair>& t, int64_t second) {
  if (second == 1) {
    copy_pairs<NeighbouringValues>(t, second);
  } else {
    copy_pairs<RowsOfValues>(t, second);
  }
}

inline void copy_in_pairs(const CopyArgs<BFloat16, BFloat16Pair>& t) {
  CopyArgs<BFloat16, BFloat16Pair> whole = t;
  whole.N -= t.one_value;
  copy_pairs(whole, t.from_n / 2);
  if (!t.one_value) return;
  for (int64_t k = 0; k < t.K; ++k) t.to[k * t.to_k + whole.N] = {t.from[k * t.from_k + whole.N * t.from_n], {0}};
}

inline void pack_in_pairs(const CopyArgs<BFloat16, BFloat16Pair>& t) {
  CopyArgs<BFloat16, BFloat16Pair> whole = t;
  whole.K -= t.one_value;
  copy_pairs(whole, t.from_k / 2);
  if (!t.one_value) return;
  for (int64_t n = 0; n < t.N; ++n) t.to[whole.K * t.to_k + n] = {t.from[whole.K * t.from_k + n * t.from_n], {0}};
}

// Results of pairs, rounded as their products are.
struct RoundedAsProducts {
  BFloat16 value;
};
inline __m256bh rounded(__m512 sums) { return _mm512_cvtneps_pbh(sums); }
inline __m128bh rounded(__m256 sums) { return _mm256_cvtneps_pbh(sums); }
template <class A, int LANES> inline void store(RoundedAsProducts* to, typename Lanes<A, LANES>::vector sums) {
  if constexpr (LANES >= 8) {
    const auto values = rounded((typename Intrinsic<LANES>::floats)sums);
    memcpy(to, &values, sizeof(values));
  } else {
    typename Lanes<A, 8>::vector more = {};
    memcpy(&more, &sums, sizeof(sums));
    const auto values = rounded((__m256)more);
    memcpy(to, &values, LANES * sizeof(*to));
  }
}

template <class A, int LANES> inline typename Lanes<A, LANES>::vector load(const RoundedAsProducts* from) {
  return load<A, LANES>(&from->value);
}

inline void finish_pairs(const FinishArgs<BFloat16, float>& t) {
  RoundedAsProducts* const to = reinterpret_cast<RoundedAsProducts*>(t.to);
  const RoundedAsProducts* const residual = reinterpret_cast<const RoundedAsProducts*>(t.residual);
  finish<RoundedAsProducts, float>(
      {t.from, t.from_m, to, t.to_m, t.to_n, t.M, t.N, t.steps, residual, t.residual_m, t.residual_n});
}

inline void enter_pairs(Kernels<BFloat16, BFloat16Pair>& kernels) {
#if defined(__AMX_BF16__)
  enter_matrix_families<RoundedAsProducts>(kernels);
  kernels.product_cost = 0.1;  // 1/15 of a float32 product's time in registers, and loads (Sapphire Rapids)
  kernels.reduction_step = kMatrixStep;
#else
  enter_families<RoundedAsProducts>(kernels);
  kernels.product_cost = 0.5;  // Zen 4
  kernels.reduction_step = 1;
#endif
  kernels.copy = copy_in_pairs;
  kernels.pack = pack_in_pairs;
  kernels.finish = finish_pairs;
  kernels.add = add<float>;
  kernels.rearrange = copy<float, float>;
}
