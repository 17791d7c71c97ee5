// The formulas of `Activation` in storage_kernels.h that rest on the exponential function, on vectors. Errors are at
// most 2.7 units in the last place, those of gelu 3.1. e^y is kept as a fraction less one and a power of two, and where
// y is itself rounded, what was lost of it goes into the fraction. The power is zero where it would be denormal: so
// results that would be less than 2^-120 in size (2^-1013 in double) may be zero, as in PyTorch. NaN stays NaN.

// Of the type's binary format, and in it: numbers as sums of a value with few bits and the rest.
template <class A> struct Curves;

template <> struct Curves<float> {
  typedef uint32_t Bits;
  static constexpr int kFractionBits = 23, kBias = 127;
  static constexpr Bits kSign = 0x80000000, kUpperHalf = 0xfffff000;
  static constexpr float kLowestMinusOne = -20;
  static constexpr float kLowest = -88, kHighest = 89;  // to whose power e is taken for zero and infinity
  static constexpr float kToInteger = 0x1.8p23f;        // added to a small number, it leaves no bits for a fraction
  static constexpr float kLog2E = 1.44269502f, kLn2[] = {0.693145752f, 1.42860682e-06f};
  // (e^r - 1 - r) / r^2 for |r| <= ln(2) / 2, by its values at Chebyshev's points.
  static constexpr float kExponential[] = {0.5f, 0.166665733f, 0.0416665487f, 0.00836377405f, 0.00139269268f};
  // 2 (1 + t) e^(t^2/2) Phi(-t) - 1, Phi the normal distribution, is t N(t) / (1 + t D(t)), fitted by least squares
  // with such weights that the largest error is smallest. The factor is Shepherd and Laframboise's idea
  // ("Chebyshev approximation of (1 + 2x) exp(x^2) erfc x", 1981): what is left is small everywhere.
  static constexpr float kNormalLimit = 13.27f;  // where e^(-t^2/2) is taken for zero
  static constexpr float kNormal[] = {0.202115551f, 0.0453736968f, -0.021271335f, -0.0128655052f, -0.00239310157f};
  static constexpr float kNormalDivisor[] = {1.69833827f, 1.23981214f, 0.494693011f, 0.110377125f, 0.0118406508f};
  // 2 sqrt(2/pi), and that times 0.044715. At the limits, e to the power of -z and z is taken for zero and infinity.
  static constexpr float kTanhLinear[] = {1.59576893f, 1.93077899e-07f};
  static constexpr float kTanhCubic[] = {0.0713548139f, 2.39883247e-09f};
  static constexpr float kTanhHighest = 10.03f, kTanhLowest = -10.06f;
};

template <> struct Curves<double> {
  typedef uint64_t Bits;
  static constexpr int kFractionBits = 52, kBias = 1023;
  static constexpr Bits kSign = 0x8000000000000000, kUpperHalf = 0xfffffffff8000000;
  static constexpr double kLowestMinusOne = -40, kLowest = -709, kHighest = 710;
  static constexpr double kToInteger = 0x1.8p52;
  static constexpr double kLog2E = 1.4426950408889634, kLn2[] = {0.69314718055920821, 7.3710025651677989e-13};
  static constexpr double kExponential[] = {0.50000000000000011,    0.16666666666666669,    0.041666666666620639,
                                            0.0083333333333297926,  0.0013888888918939168,  0.00019841269864380513,
                                            2.4801518641395993e-05, 2.7557266418612302e-06, 2.7621338669142925e-07,
                                            2.5101346928350339e-08};
  static constexpr double kNormalLimit = 37.66;
  static constexpr double kNormal[] = {0.20211543919713187,    0.17945198725691539,     0.054705738135770447,
                                       -0.0073878155354232576, -0.012476578924471951,   -0.0051790163479658565,
                                       -0.0012440120027433315, -0.00018961212856738111, -1.7565595634937144e-5,
                                       -7.8803836464756765e-7};
  static constexpr double kNormalDivisor[] = {
      2.3617025495715653,   2.5934781984685467,   1.748513354245901,    0.80402736904719452,    0.26450279022495798,
      0.063345881378369495, 0.010972671206292597, 0.001326594346916222, 0.00010230049321899332, 3.8989518453976243e-6};
  static constexpr double kTanhLinear[] = {1.5957691216057341, -3.4303621619665789e-15};
  static constexpr double kTanhCubic[] = {0.071354816272600249, -6.175149918155315e-19};
  static constexpr double kTanhHighest = 21.1526, kTanhLowest = -21.16;
};

template <class A, int LANES> struct Curve {
  typedef Curves<A> C;
  typedef typename Lanes<A, LANES>::vector V;
  typedef typename Lanes<typename C::Bits, LANES>::vector U;

  // A number as the sum of two.
  struct Sum {
    V high, low;
  };

  static V magnitude(V x) { return same_bits<V>(same_bits<U>(x) & ~C::kSign); }
  static V signed_as(V size, V x) { return same_bits<V>(same_bits<U>(size) | (same_bits<U>(x) & C::kSign)); }
  // Whatever is less than the bound becomes it. NaN stays.
  // One instruction, which the compiler does not choose for a bound that it knows.
  static V at_least(A bound, V x) {
    V low = V{} + bound;
    NHWC_IN_REGISTER(low);
    return x < low ? low : x;
  }
  static V at_most(A bound, V x) {
    V high = V{} + bound;
    NHWC_IN_REGISTER(high);
    return x > high ? high : x;
  }

  // By even and odd powers, which need not wait for each other.
  template <int COUNT> static V polynomial(const A (&coefficients)[COUNT], V x) {
    const int EVEN = COUNT - 1 - (COUNT - 1) % 2, ODD = COUNT - 1 - COUNT % 2;
    const V square = x * x;
    V even = V{} + coefficients[EVEN], odd = V{} + coefficients[ODD];
    NHWC_UNROLL(16)
    for (int i = EVEN - 2; i >= 0; i -= 2) even = even * square + coefficients[i];
    NHWC_UNROLL(16)
    for (int i = ODD - 2; i >= 0; i -= 2) odd = odd * square + coefficients[i];
    return odd * x + even;
  }

  // The upper half of a number's bits, whose square is exact, and the rest.
  static Sum halves(V x) {
    const V high = same_bits<V>(same_bits<U>(x) & C::kUpperHalf);
    return {high, x - high};
  }

  // A product and what was rounded off it: by one operation, where there are fused ones, otherwise as Dekker has it ("A
  // floating-point technique for extending the available precision", 1971).
  static Sum product(V x, V y) {
    V high = x * y;
    NHWC_IN_REGISTER(high);
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    NHWC_IN_REGISTER(x);  // another product than the first, in the compiler's eyes
    return {high, x * y - high};
#else
    const Sum a = halves(x), b = halves(y);
    return {high, a.high * b.high - high + a.high * b.low + a.low * b.high + a.low * b.low};
#endif
  }

  // e^y = (1 + less_one) * scale, a power of two, for y from kLowest to kHighest.
  struct Power {
    V less_one, scale;

    V value() const { return (less_one + A(1)) * scale; }
    V value_less_one() const { return less_one * scale + (scale - A(1)); }
    // The power of two and 1 first, a sum that is mostly exact.
    V value_plus_one() const { return less_one * scale + (scale + A(1)); }
  };

  // From y * log2(e) + kToInteger, and the rest of y after that integer times log(2): (e^r - 1 - r) / r^2 is a
  // polynomial.
  static Power power_of(V shifted, V r) {
    const U biased = same_bits<U>(shifted) - (same_bits<typename C::Bits>(C::kToInteger) - C::kBias);
    return {r * r * polynomial(C::kExponential, r) + r, same_bits<V>(biased << C::kFractionBits)};
  }

  static Power power(V y) {
    const V shifted = y * C::kLog2E + C::kToInteger, n = shifted - C::kToInteger;
    return power_of(shifted, y - n * C::kLn2[0] - n * C::kLn2[1]);
  }

  // e^(y * factor + rest), with a rest that is less than the rounding of y, or little more, and a power of two.
  static Power power(V y, A factor, V rest) {
    const V shifted = y * (factor * C::kLog2E) + C::kToInteger, n = shifted - C::kToInteger;
    return power_of(shifted, y * factor - n * C::kLn2[0] + (rest - n * C::kLn2[1]));
  }

  // 1 + e^-x. Infinity where e^-x nearly is.
  static V logistic_divisor(V x) {
    const Power p = power(-at_least(-C::kHighest, at_most(-C::kLowest, x)));
    return p.value() + A(1);
  }

  static V sigmoid(V x) { return A(1) / logistic_divisor(x); }
  static V silu(V x) { return x / logistic_divisor(x); }

  // (1 - e^-2|x|) / (1 + e^-2|x|), where that is large as its distance from 1.
  static V tanh(V x) {
    const Power p = power(at_least(C::kLowestMinusOne, A(-2) * magnitude(x)));
    const V e = p.value();
    const V quotient = (e > A(0.33) ? -p.value_less_one() : A(2) * e) / p.value_plus_one();
    return signed_as(e > A(0.33) ? quotient : A(1) - quotient, x);
  }

  static V elu(V x, A alpha) {
    const V below = alpha * power(at_least(C::kLowestMinusOne, x > V{} ? V{} : x)).value_less_one();
    return x > V{} ? x : below;
  }

  // x tanh(log(1 + e^x)) = x ((1 + e^x)^2 - 1) / ((1 + e^x)^2 + 1): with e = e^-|x|, x (1 - q) above zero, and
  // x e (1 - q) below.
  static V mish(V x) {
    const Power p = power(at_least(C::kLowest, -magnitude(x)));
    const V e = p.value(), square = e * e, one = V{} + A(1);
    x = at_least(C::kLowest, x);  // infinity times zero is NaN
    const V q =
        (x < V{} ? square + e : A(2) * square) / (x < V{} ? e * (e + A(2)) + A(2) : A(2) * e * (e + A(1)) + A(1));
    const V less_one = x < V{} ? p.less_one - q * p.less_one - q : -q;
    return x > -C::kLowestMinusOne ? x : (x * less_one + x) * (x < V{} ? p.scale : one);
  }

  // x Phi(x), with the normal distribution Phi: above zero, x - x Phi(-x).
  static V gelu(V x) {
    const V t = at_most(C::kNormalLimit, magnitude(x));
    const Sum square = product(t, t);
    const Power p = power(square.high, A(-0.5), A(-0.5) * square.low);
    // Phi(-t) = (1 + less_one) (1 + s) / d, of which what is beyond 1 is small.
    const V s = t * polynomial(C::kNormal, t) / (t * polynomial(C::kNormalDivisor, t) + A(1)), d = A(2) * t + A(2);
    const V tail = (t * (p.less_one * s + p.less_one + s) + t) / d * p.scale;
    return x < V{} ? -tail : x - tail;
  }

  // x / (1 + e^-z), z = 2 sqrt(2/pi) (x + 0.044715 x^3)
  static V gelu_tanh(V x) {
    const V bounded = at_least(C::kTanhLowest, at_most(C::kTanhHighest, x));
    const Sum square = product(bounded, bounded), cube = product(square.high, V{} + C::kTanhCubic[0]);
    // The factor of x in z: its larger part has so few bits that the difference is exact.
    const V factor = cube.high + C::kTanhLinear[0], lost = cube.high - (factor - C::kTanhLinear[0]);
    const V rest = square.low * C::kTanhCubic[0] + (square.high * C::kTanhCubic[1] + C::kTanhLinear[1]) + cube.low;
    const Sum z = product(bounded, factor);
    const Power p = power(z.high, A(-1), -(bounded * (lost + rest) + z.low));
    return at_least(C::kTanhLowest, x) / (p.value() + A(1));  // infinity by infinity is NaN
  }
};

// Functions of values in their place. Of runs, lest constants be loaded anew for every vector; not inlined, for every
// type of storage calls them.
template <class A> using CurveFn = void (*)(A* values, int64_t count, A alpha);

template <class A, int LANES, Activation ACTIVATION>
inline typename Lanes<A, LANES>::vector curve_of_vector(typename Lanes<A, LANES>::vector x, A alpha) {
  typedef Curve<A, LANES> C;
  switch (ACTIVATION) {
    case Activation::sigmoid:
      return C::sigmoid(x);
    case Activation::silu:
      return C::silu(x);
    case Activation::tanh:
      return C::tanh(x);
    case Activation::elu:
      return C::elu(x, alpha);
    case Activation::mish:
      return C::mish(x);
    case Activation::gelu:
      return C::gelu(x);
    default:
      return C::gelu_tanh(x);
  }
}

template <class A, Activation ACTIVATION> __attribute__((noinline)) void curve(A* values, int64_t count, A alpha) {
  const int L = NHWC_ISA_VECTOR_BYTES / sizeof(A);
  int64_t n = 0;
  for (; n + L <= count; n += L) {
    store<A, L>(values + n, curve_of_vector<A, L, ACTIVATION>(load<A, L>(values + n), alpha));
  }
  if (n == count) return;
  A rest[L] = {};
  for (int64_t r = n; r < count; ++r) rest[r - n] = values[r];
  store<A, L>(rest, curve_of_vector<A, L, ACTIVATION>(load<A, L>(rest), alpha));
  for (int64_t r = n; r < count; ++r) values[r] = rest[r - n];
}

// Null for the activations of a few instructions.
template <class A> inline CurveFn<A> curve_of(Activation activation) {
  switch (activation) {
    case Activation::sigmoid:
      return curve<A, Activation::sigmoid>;
    case Activation::silu:
      return curve<A, Activation::silu>;
    case Activation::tanh:
      return curve<A, Activation::tanh>;
    case Activation::elu:
      return curve<A, Activation::elu>;
    case Activation::mish:
      return curve<A, Activation::mish>;
    case Activation::gelu:
      return curve<A, Activation::gelu>;
    case Activation::gelu_tanh:
      return curve<A, Activation::gelu_tanh>;
    default:
      return nullptr;
  }
}
