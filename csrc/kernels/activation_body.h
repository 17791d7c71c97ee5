// The formulas of `Activation` in storage_kernels.h that are a few instructions.

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
