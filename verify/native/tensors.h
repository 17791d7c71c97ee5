// The tensors of a call: the logical values of a Problem laid out in memory in one of several ways.
#pragma once

#include <memory>

#include "../../csrc/conv/views.h"
#include "memory.h"
#include "problem.h"

namespace verify {

// Strides of four dimensions, in elements.
struct Layout {
  int64_t strides[4];
  int64_t elements;  // from the first to the last
};

enum class Order { contiguous, transposed, gaps, sparse };
constexpr int kOrders = 4;

// contiguous: as the sizes stand. transposed: NCHW for images, OIHW for weights. gaps: space after every row, pixel and
// image, channels contiguous. sparse: every second element.
inline Layout layout_of(Order order, const int64_t sizes[4]) {
  static const int places[2][4] = {{0, 1, 2, 3}, {0, 3, 1, 2}};
  const int* place = places[order == Order::transposed];
  Layout layout;
  int64_t step = order == Order::sparse ? 2 : 1;
  for (int at = 3; at >= 0; --at) {
    layout.strides[place[at]] = step;
    step *= sizes[place[at]];
    if (order == Order::gaps) step += at + 1;
  }
  layout.elements = 1;
  for (int d = 0; d < 4; ++d) layout.elements += (sizes[d] - 1) * layout.strides[d];
  return layout;
}

// Writes the values into a buffer that ends with its last element; what lies between them is NaN.
template <class T, class V>
T* lay_out(Arena& arena, Place place, const Layout& layout, const int64_t sizes[4], const std::vector<V>& values) {
  T* data = poisoned<T>(arena, place, layout.elements);
  const int64_t* s = layout.strides;
  const V* value = values.data();
  for (int64_t a = 0; a < sizes[0]; ++a) {
    for (int64_t b = 0; b < sizes[1]; ++b) {
      for (int64_t c = 0; c < sizes[2]; ++c) {
        for (int64_t d = 0; d < sizes[3]; ++d) data[a * s[0] + b * s[1] + c * s[2] + d * s[3]] = stored<T>(*value++);
      }
    }
  }
  return data;
}

// The values of a tensor, contiguous in the logical order.
template <class T> T* gather(Arena& arena, Place place, const Layout& layout, const int64_t sizes[4], const T* data) {
  T* values = poisoned<T>(arena, place, sizes[0] * sizes[1] * sizes[2] * sizes[3]);
  const int64_t* s = layout.strides;
  T* value = values;
  for (int64_t a = 0; a < sizes[0]; ++a) {
    for (int64_t b = 0; b < sizes[1]; ++b) {
      for (int64_t c = 0; c < sizes[2]; ++c) {
        for (int64_t d = 0; d < sizes[3]; ++d) *value++ = data[a * s[0] + b * s[1] + c * s[2] + d * s[3]];
      }
    }
  }
  return values;
}

struct Orders {
  Order x, w, grad;
};

// All buffers of a call, kept from one call to the next.
struct Memory {
  Arena x, w, bias, grad, packed, result, gathered, workspace;
  void inputs_read_only(bool on) {
    for (Arena* input : {&x, &w, &bias, &grad}) input->read_only(on);
  }
  bool intact() const {
    for (const Arena* arena : {&x, &w, &bias, &grad, &packed, &result, &gathered, &workspace}) {
      if (!arena->intact()) return false;
    }
    return true;
  }
};

template <class T> struct Tensors {
  nhwc_conv::ImageView<const T> x, grad;
  nhwc_conv::WeightView<const T> w;
  const T* bias;
};

template <class T, class V>
Tensors<T> lay_out(Memory& memory, Place place, const Problem& p, const Values<V>& values, Orders orders) {
  const nhwc_conv::ConvGeometry& g = p.g;
  const int64_t x_sizes[4] = {g.N, g.h.input, g.w.input, g.C}, grad_sizes[4] = {g.N, g.h.output, g.w.output, g.O};
  // OIHW is the order of NCHW on the sizes turned round.
  const int64_t w_sizes[4] = {g.h.kernel, g.w.kernel, g.C_per_group(), g.O};
  const Layout x = layout_of(orders.x, x_sizes), grad = layout_of(orders.grad, grad_sizes);
  Layout w = layout_of(orders.w, w_sizes);
  if (orders.w == Order::transposed) {
    const int64_t taps = w_sizes[0] * w_sizes[1];
    w = {{w_sizes[1], 1, taps, taps * w_sizes[2]}, taps * w_sizes[2] * w_sizes[3]};
  }
  Tensors<T> t;
  const int64_t *s = x.strides, *d = grad.strides, *f = w.strides;
  t.x = {lay_out<T>(memory.x, place, x, x_sizes, values.x), s[0], s[1], s[2], s[3]};
  t.grad = {lay_out<T>(memory.grad, place, grad, grad_sizes, values.grad), d[0], d[1], d[2], d[3]};
  t.w = {lay_out<T>(memory.w, place, w, w_sizes, values.w), f[0], f[1], f[2], f[3], g.O_per_group() * f[3]};
  const int64_t bias_sizes[4] = {1, 1, 1, g.O};
  const Layout bias = layout_of(Order::contiguous, bias_sizes);
  t.bias = p.has_bias ? lay_out<T>(memory.bias, place, bias, bias_sizes, values.bias) : nullptr;
  return t;
}

}  // namespace verify
