// Runs csrc/conv and csrc/kernels without torch over convolutions read from standard input: every pass against a
// seven-loop reference, on integers with threshold 0, and on real numbers for the same bits from any number of threads
// and any layout. Built by native.py, plainly or with sanitizers.
//
//   driver [--place heap|guard] [--threads 1,3] [--seed N] [--isa NAME] [--stop 1]    < convolutions, one per line: see
//   problem.h
//
// The last line of its output is a JSON object of counts. The exit code is 0 where nothing failed.
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>

#include "../../csrc/kernels/dispatch.h"
#include "passes.h"

namespace verify {
namespace {

struct Options {
  bool guard = false;
  std::vector<int> threads = {1, 3};
  uint64_t seed = 0;
  std::string isa;
};

bool stop = false;  // at the first failure

int64_t calls = 0, failures = 0;
char where[256];  // for the signal handler too

void enter(const Problem& p, const char* isa, const char* dtype, const char* pass, int threads) {
  std::snprintf(where, sizeof(where), "%s %s %s %s, %d threads", p.name.c_str(), isa, dtype, pass, threads);
  ++calls;
}

void crashed(int) {
  const char said[] = "touched memory outside its buffers: ";
  if (write(1, said, sizeof(said) - 1) < 0 || write(1, where, std::strlen(where)) < 0 || write(1, "\n", 1) < 0) {
    _exit(3);
  }
  _exit(2);
}

void failed(const char* what) {
  if (++failures <= 20) std::printf("FAILED %s: %s\n", where, what);
  if (stop) std::exit(1);
}

template <class T, class V> void expect_equal(const Memory& memory, const T* result, const std::vector<V>& expected) {
  if (result == nullptr) return failed("the header of packed weights is not recognised");
  if (!memory.intact()) failed("wrote beside a buffer");
  for (size_t e = 0; e < expected.size(); ++e) {
    if (value_of(result[e]) != nearest<T>(expected[e])) {
      std::ostringstream text;
      text << "element " << e << " is " << value_of(result[e]) << ", should be " << nearest<T>(expected[e]);
      return failed(text.str().c_str());
    }
  }
}

// The first result of a pass on real numbers, which all later ones must repeat bit by bit.
template <class T> struct Bits {
  std::vector<T> first;
  void expect(const T* result, size_t count) {
    if (first.empty()) {
      first.assign(result, result + count);
    } else if (std::memcmp(first.data(), result, count * sizeof(T)) != 0) {
      failed("bits differ from those of one thread and contiguous tensors");
    }
  }
};

template <class T> void within(const Memory& memory, const T* result, const std::vector<int>& expected, double limit) {
  if (result == nullptr) return failed("the header of packed weights is not recognised");
  if (!memory.intact()) failed("wrote beside a buffer");
  for (size_t e = 0; e < expected.size(); ++e) {
    // Half precision rounds what is within the bound.
    const double rounding = sizeof(T) == 2 ? std::ldexp(std::abs(expected[e]) + limit, -kDigits<T>) : 0;
    if (!(std::abs(value_of(result[e]) - expected[e]) <= limit + rounding)) return failed("error beyond the bound");
  }
}

// Of x on integers: means of channels, and products with small factors of channels and of images.
template <class T, class A, class Enter>
void check_channels(const Call<T, A>& call, const Problem& p, const Memory& memory, const Enter& enter) {
  const nhwc_conv::ConvGeometry& g = p.g;
  const int64_t pixels = g.h.input * g.w.input;
  std::vector<double> sums(g.N * g.C), means;
  std::vector<int> factors, scaled, other, product;
  for (int64_t i = 0; i < g.N * g.C; ++i) factors.push_back(int(i % 5) - 2);
  for (size_t e = 0; e < p.integers.x.size(); ++e) {
    const int64_t channel = int64_t(e) / (pixels * g.C) * g.C + int64_t(e) % g.C;
    sums[channel] += p.integers.x[e];
    scaled.push_back(p.integers.x[e] * factors[channel]);
    other.push_back(int(e % 7) - 3);
    product.push_back(p.integers.x[e] * other.back());
  }
  for (const double sum : sums) means.push_back(static_cast<A>(sum) / static_cast<A>(pixels));
  enter("channel means");
  expect_equal(memory, channel_means(call), means);
  enter("channel scale");
  expect_equal(memory, image_product(call, factors, false), scaled);
  enter("product of images");
  expect_equal(memory, image_product(call, other, true), product);
}

double largest(const std::vector<int>& values) {
  double found = 0;
  for (const int value : values) found = std::abs(value) > found ? std::abs(value) : found;
  return found;
}

// A sum with an activation, of those whose values are exact: relu, or leaky_relu by a power of two.
template <class T> T activated(const nhwc_conv::FinishSteps<double>& steps, T sum) {
  if (steps.activation == Activation::none || !(value_of(sum) < 0)) return sum;
  return stored<T>(steps.activation == Activation::relu ? 0 : steps.alpha * value_of(sum));
}

// Into a tensor of any layout, with a residual and an activation: the bits of the plain result and the same steps. Of
// half precision only what needs no other rounding: what a residual is added to was no half, and a quarter of a number
// may be below the normal ones.
template <class T, class Run>
void expect_finished(std::vector<T> expected, const Memory& memory, const Problem& p, int64_t turn, const Run& run) {
  constexpr Activation kActivation[] = {Activation::none, Activation::relu, Activation::leaky_relu};
  constexpr bool is_half = sizeof(T) == 2;
  const Finish finish = {{kActivation[turn % (is_half ? 2 : 3)], 0.25, 0, turn / 3 % 2 != 0},
                         !is_half && turn / 6 % 2 == 0,
                         Order(turn % kOrders)};
  for (size_t e = 0; e < expected.size(); ++e) {
    T& value = expected[e];
    if (finish.steps.activation_first || !finish.adds) value = activated(finish.steps, value);
    if constexpr (!is_half) {
      if (finish.adds) value += static_cast<T>(p.reals.grad[e]);
    }
    if (finish.adds && !finish.steps.activation_first) value = activated(finish.steps, value);
  }
  const T* result = run(finish);
  if (!memory.intact()) failed("wrote beside a buffer");
  for (size_t e = 0; e < expected.size(); ++e) {
    // What an activation makes 0 could have been rounded to -0.
    const bool zeros = sizeof(T) == 2 && value_of(result[e]) == 0 && value_of(expected[e]) == 0;
    if (!zeros && std::memcmp(&result[e], &expected[e], sizeof(T)) != 0) {
      return failed("bits of a finished result, or of one with another layout, differ");
    }
  }
}

template <class T, class A>
void check(const Problem& p, const nhwc_conv::KernelTable& table, const char* dtype, const Options& options,
           int64_t turn, Memory& memory) {
  constexpr int kForwards = sizeof(kForward) / sizeof(kForward[0]), kChoices = sizeof(kChosen) / sizeof(kChosen[0]);
  const nhwc_conv::Kernels<T, A>& kernels = nhwc_conv::kernels_of<T, A>(table);
  Bits<T> y[kForwards], y_packed[kChoices], dx[kChoices], transposed[kChoices], dw[kChoices];
  // Upper bounds of sum |products| of each pass.
  const double unit = std::numeric_limits<A>::epsilon() / 2, image = p.g.N * p.g.h.output * p.g.w.output;
  const double y_size = largest(p.y_sizes);
  const double w_size = largest(p.integers.w), grad_size = largest(p.integers.grad), x_size = largest(p.integers.x);
  const double dx_size = w_size * grad_size * p.g.h.kernel * p.g.w.kernel * p.g.O_per_group();
  const double dw_size = x_size * grad_size * image;
  for (size_t t = 0; t < options.threads.size(); ++t) {
    const int count = options.threads[t];
    const Place place = !options.guard ? Place::heap : (turn + t) % 2 ? Place::at_start : Place::at_end;
    const int64_t mix = t == 0 ? 0 : turn * 7 + t;
    const Orders orders = {Order(mix % kOrders), Order(mix / kOrders % kOrders), Order(mix / 3 % kOrders)};
    // One run alone has no bits to repeat.
    const bool with_reals = options.threads.size() > 1;
    for (int real = 0; real <= int(with_reals); ++real) {
      const auto judge = [&](const NamedAlgorithm& by, const T* result, const std::vector<int>& expected, double size,
                             Bits<T>& bits) {
        if (real) return bits.expect(result, expected.size());
        const double bound = by.bound(p.g);
        bound > 0 ? within(memory, result, expected, bound * unit * size) : expect_equal(memory, result, expected);
      };
      const auto judge_forward = [&](const NamedAlgorithm& by, Bits<T>& bits, const auto& run) {
        const T* plain = run(Finish());
        judge(by, plain, p.y, y_size, bits);
        if (plain == nullptr || !real) return;
        expect_finished<T>({plain, plain + p.y.size()}, memory, p, turn + t, run);
      };
      const Tensors<T> tensors =
          real ? lay_out<T>(memory, place, p, p.reals, orders) : lay_out<T>(memory, place, p, p.integers, orders);
      const Call<T, A> call = {kernels, p.g, tensors, memory, place, count, turn + int64_t(t)};
      if (!real && tensors.x.c == 1) {
        check_channels(call, p, memory, [&](const char* pass) { enter(p, table.name, dtype, pass, count); });
      }
      for (int a = 0; a < kForwards; ++a) {
        if (!kForward[a].applies(p.g)) continue;
        enter(p, table.name, dtype, kForward[a].name, count);
        judge_forward(kForward[a], y[a], [&](Finish finish) { return forward(call, kForward[a].algorithm, finish); });
      }
      for (int a = 0; a < kChoices; ++a) {
        if (!kChosen[a].applies(p.g)) continue;
        const Algorithm algorithm = kChosen[a].algorithm;
        enter(p, table.name, dtype, "conv2d_packed", count);
        judge_forward(kChosen[a], y_packed[a], [&](Finish finish) { return forward_packed(call, algorithm, finish); });
        enter(p, table.name, dtype, "conv2d_input", count);
        judge(kChosen[a], input_gradient(call, algorithm), p.dx, dx_size, dx[a]);
        if (algorithm != Algorithm::winograd) {
          enter(p, table.name, dtype, "transposed, packed", count);
          judge(kChosen[a], transposed_packed(call, algorithm), p.dx, dx_size, transposed[a]);
        }
        enter(p, table.name, dtype, "conv2d_weight", count);
        judge(kChosen[a], weight_gradient(call, algorithm), p.dw, dw_size, dw[a]);
      }
      if (nhwc_conv::has_rows_apart(p.g) && p.g.N > 0) {
        enter(p, table.name, dtype, "chain", count);
        judge_forward(kChosen[0], y_packed[0], [&](Finish finish) { return chain(call, finish); });
      }
    }
  }
}

int run(const Options& options) {
  if (!nhwc_conv::initialize_kernels()) return 4;
  Problem p;
  Memory memory;
  int64_t problems = 0;
  int sets = 0;
  for (; read_problem(std::cin, options.seed, &p); ++problems) {
    sets = 0;
    for (int t = 0; nhwc_conv::usable_instruction_set(t) != nullptr; ++t) {
      if (!options.isa.empty() && options.isa != nhwc_conv::usable_instruction_set(t)) continue;
      nhwc_conv::select_kernels(nhwc_conv::usable_instruction_set(t));
      const nhwc_conv::KernelTable& table = nhwc_conv::active_kernels();
      check<float, float>(p, table, "float32", options, problems + t, memory);
      check<double, double>(p, table, "float64", options, problems + t + 1, memory);
      // In turn: they differ in conversions alone.
      if (problems % 2) {
        check<nhwc_conv::BFloat16, float>(p, table, "bfloat16", options, problems + t, memory);
      } else {
        check<nhwc_conv::Float16, float>(p, table, "float16", options, problems + t, memory);
      }
      ++sets;
    }
  }
  std::printf("{\"geometries\": %lld, \"instruction_sets\": %d, \"calls\": %lld, \"failures\": %lld}\n",
              static_cast<long long>(problems), sets, static_cast<long long>(calls), static_cast<long long>(failures));
  return problems == 0 || sets == 0 || failures != 0;
}

}  // namespace
}  // namespace verify

int main(int count, char** words) {
  verify::Options options;
  for (int i = 1; i + 1 < count; i += 2) {
    const std::string name = words[i], value = words[i + 1];
    if (name == "--place") options.guard = value == "guard";
    if (name == "--seed") options.seed = std::strtoull(value.c_str(), nullptr, 10);
    if (name == "--isa") options.isa = value;
    if (name == "--stop") verify::stop = value == "1";
    if (name == "--threads") {
      options.threads.clear();
      std::stringstream list(value);
      for (std::string item; std::getline(list, item, ',');) options.threads.push_back(std::atoi(item.c_str()));
    }
  }
  if (options.guard) {
    std::signal(SIGSEGV, verify::crashed);
    std::signal(SIGBUS, verify::crashed);
  }
  return verify::run(options);
}
