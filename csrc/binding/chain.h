// Convolutions of a program that follow each other, in strips of rows where that spares the way through memory.
#pragma once

#include <functional>

#include "joined_images.h"
#include "short_call.h"

namespace nhwc_conv {

// A convolution on packed weights.
struct PackedCall {
  ShortCall call;
  Tensor packed;
  std::optional<Tensor> bias;
  FinishOptions finish;
  ResultPlace place;
};

// The result of the first `calls` calls, at least one.
struct ChainResult {
  Tensor y;
  int64_t calls;
};

// next(1), next(2) and so on are the calls behind the first, of which each is the only one to read what the one before
// makes.
using NextCall = std::function<std::optional<PackedCall>(int64_t)>;

// `first` reads x.
ChainResult convolve_chain(const Tensor& x, const PackedCall& first, const NextCall& next);

}  // namespace nhwc_conv
