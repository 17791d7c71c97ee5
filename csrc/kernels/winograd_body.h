// Winograd's transforms; their contract is TransformArgs in kernels.h.
//
// F(4x4, 3x3) is interpolation at 0, +-5/8, +-3/2 and infinity, F(2x2, 3x3) at 0, +-1 and infinity. With points in
// pairs, even and odd powers are summed once for both signs. The usual points of the former, 0, +-1 and +-2, cost no
// fewer operations here and lose twice as much to rounding: the error grows with the spread of the powers of the points
// (Barabasz et al., "Error analysis and improving the accuracy of Winograd convolution for deep neural networks",
// 2018); of the pairs with short fractions, whose constants are exact in float, this one came out best.

// One-dimensional maps of vectors. B and A are those of the textbooks' transposes B^T and A^T; G divides by the
// products of differences of points, so that B keeps integral powers.
template <int TILE> struct Winograd;

template <> struct Winograd<4> {
  static constexpr double a = 5. / 8, b = 3. / 2, a2 = a * a, b2 = b * b;
  static constexpr double n0 = 1 / (a2 * b2), na = 1 / (2 * a2 * (a2 - b2)), nb = 1 / (2 * b2 * (b2 - a2));

  template <class T> struct Input {
    static const int FROM = 6, TO = 6;
    template <class V> static void apply(const V* d, V* r) {
      r[0] = d[4] - T(a2 + b2) * d[2] + T(a2 * b2) * d[0];
      const V even_a = d[4] - T(b2) * d[2], odd_a = d[3] - T(b2) * d[1];
      const V even_b = d[4] - T(a2) * d[2], odd_b = d[3] - T(a2) * d[1];
      r[1] = even_a + T(a) * odd_a;
      r[2] = even_a - T(a) * odd_a;
      r[3] = even_b + T(b) * odd_b;
      r[4] = even_b - T(b) * odd_b;
      r[5] = d[5] - T(a2 + b2) * d[3] + T(a2 * b2) * d[1];
    }
  };
  template <class T> struct Weight {
    static const int FROM = 3, TO = 6;
    template <class V> static void apply(const V* g, V* r) {
      r[0] = T(n0) * g[0];
      const V even_a = T(na) * g[0] + T(na * a2) * g[2], odd_a = T(na * a) * g[1];
      const V even_b = T(nb) * g[0] + T(nb * b2) * g[2], odd_b = T(nb * b) * g[1];
      r[1] = even_a + odd_a;
      r[2] = even_a - odd_a;
      r[3] = even_b + odd_b;
      r[4] = even_b - odd_b;
      r[5] = g[2];
    }
  };
  template <class T> struct Output {
    static const int FROM = 6, TO = 4;
    template <class V> static void apply(const V* m, V* r) {
      const V sum_a = m[1] + m[2], sum_b = m[3] + m[4], difference_a = m[1] - m[2], difference_b = m[3] - m[4];
      r[0] = m[0] + sum_a + sum_b;
      r[1] = T(a) * difference_a + T(b) * difference_b;
      r[2] = T(a2) * sum_a + T(b2) * sum_b;
      r[3] = m[5] + T(a2 * a) * difference_a + T(b2 * b) * difference_b;
    }
  };
  template <class T> struct OutputGradient {
    static const int FROM = 4, TO = 6;
    template <class V> static void apply(const V* y, V* r) {
      r[0] = y[0];
      const V even_a = y[0] + T(a2) * y[2], odd_a = T(a) * y[1] + T(a2 * a) * y[3];
      const V even_b = y[0] + T(b2) * y[2], odd_b = T(b) * y[1] + T(b2 * b) * y[3];
      r[1] = even_a + odd_a;
      r[2] = even_a - odd_a;
      r[3] = even_b + odd_b;
      r[4] = even_b - odd_b;
      r[5] = y[3];
    }
  };
  template <class T> struct WeightGradient {
    static const int FROM = 6, TO = 3;
    template <class V> static void apply(const V* m, V* r) {
      const V sum_a = m[1] + m[2], sum_b = m[3] + m[4], difference_a = m[1] - m[2], difference_b = m[3] - m[4];
      r[0] = T(n0) * m[0] + T(na) * sum_a + T(nb) * sum_b;
      r[1] = T(na * a) * difference_a + T(nb * b) * difference_b;
      r[2] = m[5] + T(na * a2) * sum_a + T(nb * b2) * sum_b;
    }
  };
};

template <> struct Winograd<2> {
  template <class T> struct Input {
    static const int FROM = 4, TO = 4;
    template <class V> static void apply(const V* d, V* r) {
      r[0] = d[0] - d[2];
      r[1] = d[2] + d[1];
      r[2] = d[2] - d[1];
      r[3] = d[3] - d[1];
    }
  };
  template <class T> struct Weight {
    static const int FROM = 3, TO = 4;
    template <class V> static void apply(const V* g, V* r) {
      r[0] = g[0];
      const V even = T(0.5) * (g[0] + g[2]), odd = T(0.5) * g[1];
      r[1] = even + odd;
      r[2] = even - odd;
      r[3] = g[2];
    }
  };
  template <class T> struct Output {
    static const int FROM = 4, TO = 2;
    template <class V> static void apply(const V* m, V* r) {
      r[0] = m[0] + m[1] + m[2];
      r[1] = m[1] - m[2] + m[3];
    }
  };
  template <class T> struct OutputGradient {
    static const int FROM = 2, TO = 4;
    template <class V> static void apply(const V* y, V* r) {
      r[0] = y[0];
      r[1] = y[0] + y[1];
      r[2] = y[0] - y[1];
      r[3] = y[1];
    }
  };
  template <class T> struct WeightGradient {
    static const int FROM = 4, TO = 3;
    template <class V> static void apply(const V* m, V* r) {
      const V sum = T(0.5) * (m[1] + m[2]);
      r[0] = m[0] + sum;
      r[1] = T(0.5) * (m[1] - m[2]);
      r[2] = m[3] + sum;
    }
  };
};

// Both axes of one vector of columns: along i first, then along j.
template <class T, int LANES, class Map> inline void transform_vector(const TransformArgs<T>& t, int64_t n) {
  typedef typename Lanes<T, LANES>::vector V;
  V middle[Map::TO][Map::FROM];
  const T* from = t.from + n;
  NHWC_UNROLL(6)
  for (int j = 0; j < Map::FROM; ++j, from += t.from_j) {
    V in[Map::FROM], out[Map::TO];
    NHWC_UNROLL(6)
    for (int i = 0; i < Map::FROM; ++i) in[i] = load<T, LANES>(from + i * t.from_i);
    Map::apply(in, out);
    NHWC_UNROLL(6)
    for (int i = 0; i < Map::TO; ++i) middle[i][j] = out[i];
  }
  const V start = t.bias == nullptr ? V{} : load<T, LANES>(t.bias + n);
  T* to = t.to + n;
  NHWC_UNROLL(6)
  for (int i = 0; i < Map::TO; ++i, to += t.to_i) {
    if (i >= t.to_rows) break;
    V out[Map::TO];
    Map::apply(middle[i], out);
    NHWC_UNROLL(6)
    for (int j = 0; j < Map::TO; ++j) {
      if (j < t.to_columns) store<T, LANES>(to + j * t.to_j, out[j] + start);
    }
  }
}

// The last vector stands back from the end, as in the tile kernels; fewer columns than lanes take narrower vectors.
template <class T, int LANES, class Map> struct Transform {
  static void run(const TransformArgs<T>& t) {
    if (t.columns < LANES) return Transform<T, LANES / 2, Map>::run(t);
    for (int64_t n = 0; n < t.columns; n += LANES) {
      transform_vector<T, LANES, Map>(t, n + LANES <= t.columns ? n : t.columns - LANES);
    }
  }
};
template <class T, class Map> struct Transform<T, 0, Map> {
  static void run(const TransformArgs<T>&) {}
};

template <class T, int TILE> WinogradTransforms<T> winograd_transforms() {
  const int LANES = NHWC_ISA_VECTOR_BYTES / sizeof(T);
  typedef Winograd<TILE> Maps;
  return {Transform<T, LANES, typename Maps::template Input<T>>::run,
          Transform<T, LANES, typename Maps::template Weight<T>>::run,
          Transform<T, LANES, typename Maps::template Output<T>>::run,
          Transform<T, LANES, typename Maps::template OutputGradient<T>>::run,
          Transform<T, LANES, typename Maps::template WeightGradient<T>>::run};
}
