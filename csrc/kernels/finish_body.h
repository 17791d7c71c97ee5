// The body of the last step; its contract is FinishArgs in storage_kernels.h.

// The steps on vectors of one width, but for activations that are functions: finish_curve.
template <class A, Activation ACTIVATION, int LANES> struct Finish {
  typedef typename Lanes<A, LANES>::vector V;

  const FinishSteps<A>& steps;
  bool adds;

  // Of sums, and values of the residual that stand at `residual`, which is not read unless something is added.
  template <class S> V of(V sum, const S* residual) const {
    if (adds && !steps.activation_first) sum += load<A, LANES>(residual);
    sum = activate<ACTIVATION>(sum, steps.alpha, steps.beta);
    if (adds && steps.activation_first) {
      NHWC_ROUNDED(sum);
      sum += load<A, LANES>(residual);
    }
    return sum;
  }
};

// One row, whose residual has neighbours beside each other as it has. Narrower vectors for the rest: where sums are
// finished in their place, none may be finished twice.
template <class S, class A, Activation ACTIVATION, int LANES>
inline void finish_row(const FinishArgs<S, A>& t, int64_t m, int64_t n) {
  const Finish<A, ACTIVATION, LANES> finish = {t.steps, t.residual != nullptr};
  const A* const from = t.from + m * t.from_m;
  S* const to = t.to + m * t.to_m;
  const S* const residual = finish.adds ? t.residual + m * t.residual_m : t.to;
  for (; n + 2 * LANES <= t.N; n += 2 * LANES) {
    store_two<A, LANES>(to + n, finish.of(load<A, LANES>(from + n), residual + n),
                        finish.of(load<A, LANES>(from + n + LANES), residual + n + LANES));
  }
  for (; n + LANES <= t.N; n += LANES) {
    store<A, LANES>(to + n, finish.of(load<A, LANES>(from + n), residual + n));
  }
  if (LANES > 1 && n < t.N) finish_row<S, A, ACTIVATION, (LANES > 1 ? LANES / 2 : 1)>(t, m, n);
}

// Rows of the result become columns by square blocks, the last of which stand back from the ends; so it must not
// overlap the sums. False where there are too few of either.
template <class S, class A, Activation ACTIVATION, int LANES> bool finish_transposed(const FinishArgs<S, A>& t) {
  if constexpr (LANES * sizeof(A) < 16) {
    return false;
  } else {
    if (t.M < LANES || t.N < LANES) return finish_transposed<S, A, ACTIVATION, LANES / 2>(t);
    const Finish<A, ACTIVATION, LANES> finish = {t.steps, t.residual != nullptr};
    for (int64_t n = 0; n < t.N; n += LANES) {
      const int64_t at_n = n + LANES <= t.N ? n : t.N - LANES;
      const S* const residual = finish.adds ? t.residual + at_n * t.residual_n : t.to;
      for (int64_t m = 0; m < t.M; m += LANES) {
        const int64_t at_m = m + LANES <= t.M ? m : t.M - LANES;
        typename Lanes<A, LANES>::vector v[LANES];
        NHWC_UNROLL(16)
        for (int l = 0; l < LANES; ++l) v[l] = load<A, LANES>(t.from + (at_m + l) * t.from_m + at_n);
        transpose_square<A, LANES>(v);
        S* const to = t.to + at_n * t.to_n + at_m;
        NHWC_UNROLL(16)
        for (int l = 0; l < LANES; ++l) {
          store<A, LANES>(to + l * t.to_n, finish.of(v[l], residual + l * t.residual_n + at_m));
        }
      }
    }
    return true;
  }
}

template <class S, class A, Activation ACTIVATION> void finish_by(const FinishArgs<S, A>& t) {
  const bool columns = t.to_m == 1 && t.to_n != 1 && (t.residual == nullptr || t.residual_m == 1);
  if (columns && finish_transposed<S, A, ACTIVATION, NHWC_ISA_VECTOR_BYTES / sizeof(A)>(t)) return;
  const bool rows = t.to_n == 1 && (t.residual == nullptr || t.residual_n == 1);
  const Finish<A, ACTIVATION, 1> finish = {t.steps, t.residual != nullptr};
  for (int64_t m = 0; m < t.M; ++m) {
    if (rows) {
      finish_row<S, A, ACTIVATION, NHWC_ISA_VECTOR_BYTES / sizeof(A)>(t, m, 0);
      continue;
    }
    const A* const from = t.from + m * t.from_m;
    for (int64_t n = 0; n < t.N; ++n) {
      const S* const residual = finish.adds ? t.residual + m * t.residual_m + n * t.residual_n : t.to;
      store<A, 1>(t.to + m * t.to_m + n * t.to_n, finish.of(load<A, 1>(from + n), residual));
    }
  }
}

// A block of sums, N of them in a row, to `to`, with the residual if that is added before the activation.
template <class S, class A> inline void copy_sums(const FinishArgs<S, A>& t, A* to) {
  const int L = NHWC_ISA_VECTOR_BYTES / sizeof(A);
  const bool adds = t.residual != nullptr && !t.steps.activation_first;
  for (int64_t m = 0; m < t.M; ++m, to += t.N) {
    const A* const from = t.from + m * t.from_m;
    const S* const residual = adds ? t.residual + m * t.residual_m : nullptr;
    int64_t n = 0;
    if (!adds || t.residual_n == 1) {
      for (; n + L <= t.N; n += L) {
        store<A, L>(to + n, adds ? load<A, L>(from + n) + load<A, L>(residual + n) : load<A, L>(from + n));
      }
    }
    for (; n < t.N; ++n) to[n] = adds ? from[n] + load<A, 1>(residual + n * t.residual_n) : from[n];
  }
}

// Whether sums stand where their results go, in rows that leave a curve no remainders or few.
template <class S, class A> inline bool in_place(const FinishArgs<S, A>& t) {
  const void *const from = t.from, *const to = t.to;
  return from == to && t.to_n == 1 && (t.M == 1 || t.N % (NHWC_ISA_VECTOR_BYTES / sizeof(A)) == 0);
}

// Activations that are functions, of blocks of sums on the stack.
template <class S, class A> void finish_curve(const FinishArgs<S, A>& t, CurveFn<A> curve) {
  if constexpr (sizeof(S) == sizeof(A)) {
    if (in_place(t) && t.residual == nullptr) {
      for (int64_t m = 0; m < t.M; ++m) curve(t.to + m * t.to_m, t.N, t.steps.alpha);
      return;
    }
  }
  const int64_t SIZE = 1024, columns = t.to_n == 1 ? 256 : 64;  // what is to be transposed is best square
  A sums[SIZE];
  for (int64_t n = 0; n < t.N; n += columns) {
    const int64_t N = n + columns <= t.N ? columns : t.N - n, rows = SIZE / N;
    for (int64_t m = 0; m < t.M; m += rows) {
      FinishArgs<S, A> block = t;
      block.M = m + rows <= t.M ? rows : t.M - m;
      block.N = N;
      block.from += m * t.from_m + n;
      block.to += m * t.to_m + n * t.to_n;
      if (t.residual != nullptr) block.residual += m * t.residual_m + n * t.residual_n;
      copy_sums(block, sums);
      curve(sums, block.M * N, t.steps.alpha);
      block.from = sums;
      block.from_m = N;
      if (!t.steps.activation_first) block.residual = nullptr;
      finish_by<S, A, Activation::none>(block);
    }
  }
}

template <class S, class A> void finish(const FinishArgs<S, A>& given) {
  FinishArgs<S, A> t = given;
  const bool without_gaps = t.from_m == t.N && t.to_m == t.N && (t.residual == nullptr || t.residual_m == t.N);
  if (without_gaps && t.to_n == 1 && (t.residual == nullptr || t.residual_n == 1)) {  // one long row
    t.N *= t.M;
    t.M = 1;
  }
  if (const CurveFn<A> curve = curve_of<A>(t.steps.activation)) return finish_curve(t, curve);
  switch (t.steps.activation) {
    case Activation::relu:
      return finish_by<S, A, Activation::relu>(t);
    case Activation::clamp:
      return finish_by<S, A, Activation::clamp>(t);
    case Activation::leaky_relu:
      return finish_by<S, A, Activation::leaky_relu>(t);
    case Activation::hardsigmoid:
      return finish_by<S, A, Activation::hardsigmoid>(t);
    case Activation::hardswish:
      return finish_by<S, A, Activation::hardswish>(t);
    default:
      return finish_by<S, A, Activation::none>(t);
  }
}
