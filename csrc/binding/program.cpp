// Convolutions that follow each other as one op: between two of them there is neither Python nor PyTorch's dispatcher,
// which take as long as a small layer.
#include <algorithm>

#include "aten.h"
#include "chain.h"
#include "channels.h"
#include "check_arguments.h"
#include "short_call.h"

namespace nhwc_conv {

namespace {

// What `kind` a step is of that is no convolution.
enum Kind : int64_t {
  kChannelMeans = -1,   // over pixels
  kProduct = -2,        // source and residual
  kMaxPool = -3,        // windows stand in place of dilations, and `groups` has bits of a pool
  kConcatenation = -4,  // as many Reads as `sides` tells, from the one at `steps`; `groups` channels, if it is a home
  kSomeChannels = -5,   // from `steps` to before `sides`
  kFinishing = -6,      // the source, or its sum with the residual, with the activation `steps`
  kAveragePool = -7,    // as kMaxPool
  kResizing = -8,       // to `steps` by `sides` pixels, or as many as the residual has, or alpha and beta times as many
  kShuffle = -9,        // channels of so many `groups`
  kFlattening = -10,    // images as rows of numbers
};
// Of a convolution, a bit of `kind` behind those of short_call.h: it is torch.nn.Linear, of rows of numbers.
constexpr int64_t kLinear = 1 << 13;
constexpr int64_t kCeilMode = 1, kCountsPadding = 2;  // bits of a pool

// Where a step finds its tensors: inputs of the program first, then results of the steps before. -1: none. `releases`:
// nobody reads the tensor any more, nor what shares its memory. The result of a step that is concatenated stands in
// those of the concatenation `home`, another step or this one itself, from a channel on.
struct Step {
  int64_t source, residual, bias, kind, steps, sides, groups, releases_source, releases_residual, home, channel;
};
struct Read {
  int64_t place, releases;
};
struct Numbers {
  double alpha, beta;
};
// Results that are not returned: fewer hardly find memory that others have left.
constexpr int64_t kFewestReusing = 8;

// How many elements a row of numbers has.
int64_t length_of_row(const std::string& name, const Tensor& tensor, int32_t dtype) {
  const TensorInfo info = info_of(tensor);
  const bool is_row = info.dim == 1 && info.dtype == dtype && info.device_type == aoti_torch_device_type_cpu();
  if (is_row && (info.strides[0] == 1 || info.sizes[0] <= 1)) return info.sizes[0];
  fail("expected " + name + " to be a row of " + dtype_name(dtype) + ", but got a tensor of size " + text(info) +
       " and type " + dtype_name(info.dtype));
}

class ProgramRun {
 public:
  ProgramRun(std::vector<Tensor> inputs, const std::vector<Tensor>& packed, const std::vector<Tensor>& biases,
             const Tensor& code, const Tensor& numbers, const Sizes& outputs)
      : slots_(std::move(inputs)), packed_(packed), biases_(biases), first_(slots_.size()) {
    constexpr int64_t kPerStep = sizeof(Step) / sizeof(int64_t), kPerRead = sizeof(Read) / sizeof(int64_t);
    constexpr int64_t kNumbers = sizeof(Numbers) / sizeof(double);
    const int64_t given = length_of_row("code", code, aoti_torch_dtype_int64());
    const int64_t finishes = length_of_row("numbers", numbers, aoti_torch_dtype_float64());
    count_ = finishes / kNumbers;
    const int64_t rest = given - count_ * kPerStep;
    reads_count_ = rest / kPerRead;
    if (finishes % kNumbers != 0 || rest < 0 || rest % kPerRead != 0) {
      fail("expected code and numbers of whole steps, as many of both, but got " + std::to_string(given) + " and " +
           std::to_string(finishes));
    }
    const int64_t* const begin = read<int64_t>(code);
    steps_ = reinterpret_cast<const Step*>(begin);
    reads_ = reinterpret_cast<const Read*>(begin + count_ * kPerStep);
    numbers_ = reinterpret_cast<const Numbers*>(read<double>(numbers));
    slots_.reserve(first_ + count_);
    copies_.resize(first_ + count_);
    for (const int64_t output : outputs) returned_.push_back(whole(first_ + output) - first_);
    reuses_ = count_ - static_cast<int64_t>(outputs.size()) >= kFewestReusing;
    for (int64_t i = 0; i < count_; ++i) {
      const int64_t home = steps_[i].home;
      if (home < -1 || home >= count_) fail("a step of the program stands in one that it does not have");
      homes_.emplace_back(home == i ? steps_[i].groups : 0, memory_of(i));
    }
  }

  std::vector<Tensor> run(const Sizes& outputs) {
    for (int64_t i = 0; i < count_;) {
      int64_t done = 1;
      if (steps_[i].kind >= 0) {
        done = convolve(i);
      } else {
        slots_.push_back(other(i));
      }
      for (const int64_t end = i + done; i < end; ++i) {
        for_each_read(steps_[i], [&](const Read& one) {
          if (one.releases != 0) leave(one.place);
        });
      }
    }
    std::vector<Tensor> results;
    for (const int64_t output : outputs) results.push_back(at(slots_, first_ + output));
    return results;
  }

 private:
  static const Tensor& at(const std::vector<Tensor>& tensors, int64_t place) {
    if (place < 0 || place >= static_cast<int64_t>(tensors.size()) || !tensors[place].defined()) {
      fail("a step of the program reads tensor " + std::to_string(place) + ", which it does not have");
    }
    return tensors[place];
  }

  // Rows of numbers are one row of pixels.
  static Tensor as_pixels(const Tensor& rows) {
    const TensorInfo info = info_of(rows);
    if (info.dim == 0) fail("expected rows of numbers, but got one number");
    return call_overload<Tensor>("aten::reshape", "", rows, Sizes{1, 1, -1, info.sizes[info.dim - 1]});
  }

  static bool is_linear(const Step& step) { return step.kind >= 0 && (step.kind & kLinear) != 0; }

  Tensor read_by(const Step& step, int64_t place) const {
    const Tensor& tensor = at(slots_, place);
    return is_linear(step) ? as_pixels(tensor) : tensor;
  }

  std::optional<Tensor> residual_of(const Step& step) const {
    return step.residual >= 0 ? std::optional<Tensor>(read_by(step, step.residual)) : std::nullopt;
  }

  template <class Function> void for_each_read(const Step& step, const Function& function) const {
    if (step.kind == kConcatenation) {
      const bool fits = step.steps >= 0 && step.sides > 0 && step.steps <= reads_count_ - step.sides;
      if (!fits) fail("a concatenation of the program reads what it does not have");
      for (int64_t k = 0; k < step.sides; ++k) function(reads_[step.steps + k]);
      return;
    }
    function(Read{step.source, step.releases_source});
    if (step.residual >= 0) function(Read{step.residual, step.releases_residual});
  }

  // Of a view, the tensor whose memory it is.
  int64_t whole(int64_t place) const {
    const auto is_view = [](int64_t kind) { return kind == kSomeChannels || kind == kFlattening; };
    while (place >= first_ && place < first_ + count_ && is_view(steps_[place - first_].kind)) {
      place = steps_[place - first_].source;
    }
    return place;
  }

  // What is returned has memory of its own, and no home.
  ReusedMemory* memory_of(int64_t i) {
    return reuses_ && std::find(returned_.begin(), returned_.end(), i) == returned_.end() ? &reused_ : nullptr;
  }

  void leave(int64_t place) {
    place = whole(place);
    if (place >= static_cast<int64_t>(slots_.size())) return;
    const int64_t home = place < first_ ? -1 : steps_[place - first_].home;
    const bool stands_in_home = home >= 0 && homes_[home].leave();
    if (!stands_in_home && slots_[place].defined()) reused_.leave(slots_[place]);  // links of a chain never were
    slots_[place] = Tensor();
  }

  PackedCall call_of(int64_t i, int64_t convolution) {
    const Step& step = steps_[i];
    const ShortCall call = read_short_call(step.kind, step.steps, step.sides, step.groups);
    std::optional<Tensor> bias;
    if (step.bias >= 0) bias = at(biases_, step.bias);
    return {call, at(packed_, convolution), bias, call.finish(residual_of(step), numbers_[i].alpha, numbers_[i].beta),
            place_of(i)};
  }

  ResultPlace place_of(int64_t i) {
    const int64_t home = steps_[i].home;
    return {memory_of(i), home >= 0 ? &homes_[home] : nullptr, steps_[i].channel};
  }

  // The convolution i, and those that follow it in a chain: how many.
  int64_t convolve(int64_t i) {
    const auto next = [&](int64_t ahead) -> std::optional<PackedCall> {
      const int64_t j = i + ahead, before = first_ + j - 1;
      const bool reads_alone = j < count_ && steps_[j].kind >= 0 && steps_[j].source == before &&
                               steps_[j].residual != before && steps_[j].releases_source;
      // Rows of numbers are one row of pixels, of which there are no strips.
      if (!reads_alone || is_linear(steps_[i]) || is_linear(steps_[j])) return std::nullopt;
      return call_of(j, convolutions_ + ahead);
    };
    ChainResult chain = convolve_chain(read_by(steps_[i], steps_[i].source), call_of(i, convolutions_), next);
    Tensor y = std::move(chain.y);
    if (is_linear(steps_[i])) {
      const TensorInfo x = info_of(at(slots_, steps_[i].source));
      Sizes sizes(x.sizes, x.sizes + x.dim);
      sizes.back() = info_of(y).sizes[3];
      y = call_overload<Tensor>("aten::reshape", "", y, sizes);
    }
    convolutions_ += chain.calls;
    slots_.resize(first_ + i + chain.calls - 1);
    slots_.push_back(std::move(y));
    return chain.calls;
  }

  Tensor other(int64_t i) {
    const Step& step = steps_[i];
    const auto [alpha, beta] = numbers_[i];
    if (step.kind == kConcatenation) {
      std::vector<PartOfImages> parts;
      for_each_read(step, [&](const Read& one) { parts.push_back({at(slots_, one.place), copies_[one.place]}); });
      if (step.home >= 0) {
        if (const auto joined = join_in_place(parts, homes_[step.home], step.channel)) return *joined;
      }
      std::vector<Tensor> images;
      for (const PartOfImages& part : parts) images.push_back(part.images);
      return join_channels(images, memory_of(i));
    }
    const Tensor& source = at(slots_, step.source);
    switch (step.kind) {
      case kChannelMeans:
        return channel_means(source, memory_of(i));
      case kProduct:
        return multiply_images(source, at(slots_, step.residual), memory_of(i));
      case kMaxPool:
        return max_pool(source, read_short_call(0, step.steps, step.sides, 1), (step.groups & kCeilMode) != 0,
                        memory_of(i));
      case kAveragePool:
        return average_pool(source, read_short_call(0, step.steps, step.sides, 1), (step.groups & kCeilMode) != 0,
                            (step.groups & kCountsPadding) != 0);
      case kSomeChannels:
        return some_channels(source, step.steps, step.sides);
      case kFinishing:
        return finish_images(source, {residual_of(step), step.steps, alpha, beta, false}, memory_of(i));
      case kResizing:
        return resize_images(source, step.groups, sizes_of_result(step), alpha, beta);
      case kShuffle:
        return shuffle_channels(source, step.groups);
      case kFlattening:
        return call_overload<Tensor>("aten::flatten", "using_ints", source, int64_t(1), int64_t(-1));
      default:
        fail("a step of the program is of kind " + std::to_string(step.kind) + ", which it cannot do");
    }
  }

  Sizes sizes_of_result(const Step& step) const {
    if (step.residual < 0) return {step.steps, step.sides};
    const TensorInfo info = info_of(at(slots_, step.residual));
    check_images(info);
    return {info.sizes[2], info.sizes[3]};
  }

  std::vector<Tensor> slots_;
  const std::vector<Tensor>&packed_, &biases_;
  int64_t first_, count_, reads_count_, convolutions_ = 0;
  const Step* steps_;
  const Read* reads_;
  const Numbers* numbers_;
  std::vector<int64_t> returned_;
  bool reuses_;
  ReusedMemory reused_;
  std::vector<JoinedImages> homes_;   // one for each step; the others stay empty
  std::vector<CopyOfImages> copies_;  // of slots
};

}  // namespace

// `code`: one Step each, and Reads; `packed`: weights of those that are convolutions; `numbers`: alpha and beta of
// each; `outputs`: the steps whose results are returned.
std::vector<Tensor> convolve_program(std::vector<Tensor> inputs, std::vector<Tensor> packed, std::vector<Tensor> biases,
                                     Tensor code, Tensor numbers, Sizes outputs) {
  return ProgramRun(std::move(inputs), packed, biases, code, numbers, outputs).run(outputs);
}

}  // namespace nhwc_conv
