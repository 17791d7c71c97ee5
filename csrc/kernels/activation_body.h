// The formulas of `Activation` in kernels.h, on vectors; those of a few instructions in `activate`, the others, which
// rest on the exponential function, as functions of their own. Errors are at most 2 units in the last place; where
// results are nearly zero that takes care: e^y is kept as a fraction and a power of two, which comes last, so that no
// step in between is denormal, and where y is itself rounded, what was lost of it goes into the fraction. NaN stays
// NaN, and what is "infinity times zero" by the formula is NaN, as in PyTorch.

// Of the type's binary format, and in it: numbers as sums of a value with few bits and the rest.
template <class A> struct Curves;

template <> struct Curves<float> {
  typedef uint32_t Bits;
  static constexpr int kFractionBits = 23, kBias = 127, kMostExponent = 160;
  static constexpr Bits kSign = 0x80000000, kUpperHalf = 0xfffff000;
  static constexpr float kLowest = -110;  // e to this power, times this, is zero, rounded
  static constexpr float kLowestMinusOne = -20;
  static constexpr float kToInteger = 0x1.8p23f;  // added to a small number, it leaves no bits for a fraction
  static constexpr float kLog2E = 1.44269502f, kLn2[] = {0.693145752f, 1.42860682e-06f};
  // (e^r - 1 - r) / r^2 for |r| <= ln(2) / 2, by its values at Chebyshev's points.
  static constexpr float kExponential[] = {0.5f, 0.166665733f, 0.0416665487f, 0.00836377405f, 0.00139269268f};
  // kNormalScale (1 + t) e^(t^2/2) Phi(-t) - 1, Phi the normal distribution, by powers of (t - 5) / (t + 5), likewise.
  // The idea of such a variable is Shepherd and Laframboise's ("Chebyshev approximation of (1 + 2x) exp(x^2) erfc x",
  // 1981).
  static constexpr float kNormalLimit = 14.5f, kNormalScale = 2.16677284f;
  static constexpr float kNormal[] = {-3.40054562e-08f, -0.198373005f,    0.0672358423f,  0.0216731336f,
                                      -0.0572070107f,   0.0531626083f,    -0.0328549817f, 0.0141530596f,
                                      -0.00368499709f,  -5.92358192e-05f, 0.000454164343f};
  // 2 sqrt(2/pi), and that times 0.044715.
  static constexpr float kTanhLinear[] = {1.59576917f, -4.53406805e-08f},
                         kTanhCubic[] = {0.0713548139f, 2.39883247e-09f};
};

template <> struct Curves<double> {
  typedef uint64_t Bits;
  static constexpr int kFractionBits = 52, kBias = 1023, kMostExponent = 1100;
  static constexpr Bits kSign = 0x8000000000000000, kUpperHalf = 0xfffffffff8000000;
  static constexpr double kLowest = -753, kLowestMinusOne = -40;
  static constexpr double kToInteger = 0x1.8p52;
  static constexpr double kLog2E = 1.4426950408889634, kLn2[] = {0.69314718055920821, 7.3710025651677989e-13};
  static constexpr double kExponential[] = {0.50000000000000011,    0.16666666666666669,    0.041666666666620639,
                                            0.0083333333333297926,  0.0013888888918939168,  0.00019841269864380513,
                                            2.4801518641395993e-05, 2.7557266418612302e-06, 2.7621338669142925e-07,
                                            2.5101346928350339e-08};
  static constexpr double kNormalLimit = 39.5, kNormalScale = 2.1667729150805815;
  static constexpr double kNormal[] = {
      -2.2749153099237518e-17, -0.19837300459175422,   0.067235761850349102,    0.021672826235352268,
      -0.057205064829264851,   0.053166027376468972,   -0.032870845204226846,   0.014131694373605645,
      -0.0036316681736790015,  1.6882827472442849e-05, 0.00039507684001836358,  -0.00011615644371731455,
      -2.1443510147079519e-05, 1.9633530096535118e-05, -1.4916004458558526e-07, -2.8383103097583486e-06,
      2.6988986309260343e-07,  4.3075850376268355e-07, -4.7367764600005584e-08, -6.9188137892162822e-08,
      7.6227537495701551e-10,  8.6188157610214977e-09, 1.6293079795632777e-09};
  static constexpr double kTanhLinear[] = {1.5957691216057308, -9.9693088091109202e-17};
  static constexpr double kTanhCubic[] = {0.071354816272600249, -6.175149918155315e-19};
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
  static V at_least(A bound, V x) { return x < bound ? V{} + bound : x; }
  static V at_most(A bound, V x) { return x > bound ? V{} + bound : x; }

  template <int COUNT> static V polynomial(const A (&coefficients)[COUNT], V x) {
    V sum = V{} + coefficients[COUNT - 1];
    NHWC_UNROLL(32)
    for (int i = COUNT - 2; i >= 0; --i) sum = sum * x + coefficients[i];
    return sum;
  }

  // The upper half of a number's bits, whose square is exact, and the rest.
  static Sum halves(V x) {
    const V high = same_bits<V>(same_bits<U>(x) & C::kUpperHalf);
    return {high, x - high};
  }

  // A product and what was rounded off it (Dekker, "A floating-point technique for extending the available
  // precision", 1971): without fused operations, for not every instruction set has them.
  static Sum product(V x, V y) {
    const Sum a = halves(x), b = halves(y);
    V high = x * y;
    NHWC_IN_REGISTER(high);
    return {high, a.high * b.high - high + a.high * b.low + a.low * b.high + a.low * b.low};
  }

  // e^(y + rest) = (1 + less_one) * 2^exponent, y at least kLowest.
  struct Power {
    V less_one;
    U exponent;

    // 2^exponent, where that is no denormal number.
    V scale() const { return same_bits<V>((exponent + C::kBias) << C::kFractionBits); }
    // x * 2^exponent, by two factors, which are none.
    V scaled(V x) const {
      const U above = exponent + C::kMostExponent, half = above >> 1;
      return x * half_scale(half) * half_scale(above - half);
    }
    static V half_scale(U half) { return same_bits<V>((half + (C::kBias - C::kMostExponent / 2)) << C::kFractionBits); }
    V fraction() const { return less_one + A(1); }
    V fraction_of(V x) const { return x * less_one + x; }
    V value() const { return scaled(fraction()); }
  };

  static Power power(V y, V rest) {
    const V shifted = (y + rest) * C::kLog2E + C::kToInteger;
    const V n = shifted - C::kToInteger;
    const V r = y - n * C::kLn2[0] + (rest - n * C::kLn2[1]);
    return {r * r * polynomial(C::kExponential, r) + r, same_bits<U>(shifted) - same_bits<U>(V{} + C::kToInteger)};
  }
  static Power power(V y) { return power(y, V{}); }

  // e^y - 1 for y <= 0.
  static V power_less_one(V y) {
    const Power p = power(at_least(C::kLowestMinusOne, y));
    const V scale = p.scale();
    return p.less_one * scale + (scale - A(1));
  }

  // `positive` for x >= 0 and NaN; for others `negative` * 2^exponent, or x * 0 where that power is nothing.
  static V by_sign(V x, V positive, V negative, const Power& power, A lowest) {
    const V small = power.scaled(negative);
    return x < V{} ? (x < lowest ? x * A(0) : small) : positive;
  }

  static Power power_of_magnitude(V x) { return power(at_least(C::kLowest, -magnitude(x))); }

  static V sigmoid(V x) {
    const Power p = power_of_magnitude(x);
    const V divisor = p.value() + A(1);
    return x < V{} ? p.scaled(p.fraction() / divisor) : A(1) / divisor;
  }

  static V silu(V x) {
    const Power p = power_of_magnitude(x);
    const V divisor = p.value() + A(1);
    return by_sign(x, x / divisor, p.fraction_of(x) / divisor, p, C::kLowest);
  }

  // (1 - e^-2|x|) / (1 + e^-2|x|), where that is large as its distance from 1.
  static V tanh(V x) {
    const Power p = power(at_least(C::kLowestMinusOne, A(-2) * magnitude(x)));
    const V scale = p.scale(), e = p.fraction() * scale, less_one = p.less_one * scale + (scale - A(1));
    const V one = V{} + A(1), near_zero = magnitude(less_one) / (e + A(1)), from_one = one - A(2) * e / (e + A(1));
    return signed_as(e > A(0.33) ? near_zero : from_one, x);
  }

  static V elu(V x, A alpha) {
    const V below = alpha * power_less_one(x > V{} ? V{} : x);
    return x > V{} ? x : below;
  }

  // x tanh(log(1 + e^x)) = x ((1 + e^x)^2 - 1) / ((1 + e^x)^2 + 1)
  static V mish(V x) {
    const Power p = power_of_magnitude(x);
    const V e = p.value();
    const V positive = x * ((A(2) * e + A(1)) / (A(2) * e * (e + A(1)) + A(1)));
    const V negative = p.fraction_of(x) * ((e + A(2)) / (e * (e + A(2)) + A(2)));
    return by_sign(x, positive, negative, p, C::kLowest);
  }

  // x Phi(x), with the normal distribution Phi.
  static V gelu(V x) {
    const V t = at_most(C::kNormalLimit, magnitude(x));
    const Sum of_t = halves(t);
    const Power p = power(A(-0.5) * of_t.high * of_t.high, A(-0.5) * of_t.low * (t + of_t.high));
    // Phi(-|x|) = (1 + less_one) (1 + s) / d, of which what is beyond 1 is small.
    const V s = polynomial(C::kNormal, (t - A(5)) / (t + A(5))), d = t * C::kNormalScale + C::kNormalScale;
    const V negative = (x * (p.less_one * s + p.less_one + s) + x) / d;
    return by_sign(x, x > C::kNormalLimit ? x : x - p.scaled(negative), negative, p, -C::kNormalLimit);
  }

  // x / (1 + e^-z), z = 2 sqrt(2/pi) (x + 0.044715 x^3)
  static V gelu_tanh(V x) {
    const V t = at_most(C::kNormalLimit, magnitude(x));
    const Sum square = product(t, t), cube = product(square.high, V{} + C::kTanhCubic[0]);
    // 2 sqrt(2/pi) + 0.07 t^2 with what is rounded off the sum (Knuth's two-sum).
    const V sum = cube.high + C::kTanhLinear[0], of_cube = sum - C::kTanhLinear[0];
    const V lost = C::kTanhLinear[0] - (sum - of_cube) + (cube.high - of_cube);
    const V rest = cube.low + square.low * C::kTanhCubic[0] + square.high * C::kTanhCubic[1] + C::kTanhLinear[1];
    const Sum z = product(t, sum);
    const V y = at_least(C::kLowest, -z.high);
    const Power p = power(y, -(z.low + t * (lost + rest)));
    const V divisor = p.value() + A(1);
    return by_sign(x, x / divisor, p.fraction_of(x) / divisor, p, -C::kNormalLimit);
  }
};

// Not inlined: each is some dozens of instructions, and every type of storage calls them.
template <class A, int LANES> using CurveFn = typename Lanes<A, LANES>::vector (*)(typename Lanes<A, LANES>::vector, A);

template <class A, int LANES, Activation ACTIVATION>
__attribute__((noinline)) typename Lanes<A, LANES>::vector curve(typename Lanes<A, LANES>::vector x, A alpha) {
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

// Null for the activations of a few instructions.
template <class A, int LANES> inline CurveFn<A, LANES> curve_of(Activation activation) {
  switch (activation) {
    case Activation::sigmoid:
      return curve<A, LANES, Activation::sigmoid>;
    case Activation::silu:
      return curve<A, LANES, Activation::silu>;
    case Activation::tanh:
      return curve<A, LANES, Activation::tanh>;
    case Activation::elu:
      return curve<A, LANES, Activation::elu>;
    case Activation::mish:
      return curve<A, LANES, Activation::mish>;
    case Activation::gelu:
      return curve<A, LANES, Activation::gelu>;
    case Activation::gelu_tanh:
      return curve<A, LANES, Activation::gelu_tanh>;
    default:
      return nullptr;
  }
}

// As expressions of one lane and of vectors: a comparison that is false for NaN keeps it, and relu keeps -0.
template <Activation ACTIVATION, class V, class A> inline V activate(V x, A alpha, A beta) {
  const V zero{};
  if (ACTIVATION == Activation::relu) return x < zero ? zero : x;
  if (ACTIVATION == Activation::clamp) {
    const V low = zero + alpha, high = zero + beta, above = x < low ? low : x;
    return above > high ? high : above;
  }
  if (ACTIVATION == Activation::leaky_relu) return x > zero ? x : x * alpha;
  if (ACTIVATION == Activation::hardsigmoid || ACTIVATION == Activation::hardswish) {
    const V shifted = activate<Activation::clamp>(x + A(3), A(0), A(6)) * A(1. / 6);
    return ACTIVATION == Activation::hardswish ? x * shifted : shifted;
  }
  return x;
}
