// Convolutions that follow each other as one op: between two of them there is neither Python nor PyTorch's dispatcher,
// which take as long as a small layer.
#include <algorithm>

#include "chain.h"
#include "channels.h"
#include "check_arguments.h"
#include "short_call.h"

namespace nhwc_conv {

namespace {

// Where a step finds its tensors: inputs of the program first, then results of the steps before. -1: none.
struct Step {
  int64_t source, residual, bias, kind, steps, sides, groups;
  // Nobody reads them any more, nor channels of them; of the residual this is the first bit, and the next ones are of
  // further tensors.
  int64_t releases_source, releases_residual;
};
// Of `kind`, steps that are no convolutions: means over pixels; a source whose channels a residual scales; max pooling,
// whose windows stand in place of dilations, and whose `groups` tell whether sizes are rounded up; the channels of
// several tensors, of which the last three stand in `steps`, `sides` and `groups`; the channels of a source from
// `steps` to before `sides`; and a source, or its sum with a residual, with the activation `steps`.
constexpr int64_t kChannelMeans = -1, kScaleChannels = -2, kMaxPool = -3, kJoinChannels = -4, kSomeChannels = -5,
                  kFinishImages = -6;
// Tensors that a step reads, at most.
constexpr int64_t kMostRead = 5;

int64_t read_by(const Step& step, int64_t k) {
  const int64_t places[kMostRead] = {step.source, step.residual, step.steps, step.sides, step.groups};
  return k < 2 || step.kind == kJoinChannels ? places[k] : -1;
}

bool releases(const Step& step, int64_t k) {
  return k == 0 ? step.releases_source != 0 : (step.releases_residual >> (k - 1) & 1) != 0;
}
// Results that are not returned: fewer hardly find memory that others have left.
constexpr int64_t kFewestReusing = 8;
constexpr int64_t kStepNumbers = sizeof(Step) / sizeof(int64_t), kFinishNumbers = 2;

// One run of so many numbers.
void check_row(const std::string& name, const Tensor& tensor, int32_t dtype, int64_t count) {
  const TensorInfo info = info_of(tensor);
  const bool is_row = info.dim == 1 && info.dtype == dtype && info.device_type == aoti_torch_device_type_cpu();
  if (is_row && info.sizes[0] == count && (info.strides[0] == 1 || count <= 1)) return;
  fail("expected " + name + " to be " + std::to_string(count) + " numbers in a row, of " + dtype_name(dtype) +
       ", but got a tensor of size " + text(info) + " and type " + dtype_name(info.dtype));
}

}  // namespace

// `code`: one Step each; `packed`: weights of those that are convolutions; `numbers`: alpha and beta of each;
// `outputs`: the steps whose results are returned.
std::vector<Tensor> convolve_program(std::vector<Tensor> inputs, std::vector<Tensor> packed, std::vector<Tensor> biases,
                                     Tensor code, Tensor numbers, Sizes outputs) {
  const TensorInfo of_numbers = info_of(numbers);
  const int64_t count = of_numbers.dim == 1 ? ceil_div(of_numbers.sizes[0], kFinishNumbers) : 0, first = inputs.size();
  check_row("numbers", numbers, aoti_torch_dtype_float64(), count * kFinishNumbers);
  check_row("code", code, aoti_torch_dtype_int64(), count * kStepNumbers);
  const Step* steps = reinterpret_cast<const Step*>(read<int64_t>(code));
  const double* finish = read<double>(numbers);
  std::vector<Tensor>& slots = inputs;
  slots.reserve(first + count);
  const auto at = [&](const std::vector<Tensor>& tensors, int64_t place) -> const Tensor& {
    if (place < 0 || place >= static_cast<int64_t>(tensors.size()) || !tensors[place].defined()) {
      fail("a step of the program reads tensor " + std::to_string(place) + ", which it does not have");
    }
    return tensors[place];
  };
  // Of channels of a tensor where they lie, that tensor.
  const auto whole = [&](int64_t place) {
    while (place >= first && place < first + count && steps[place - first].kind == kSomeChannels) {
      place = steps[place - first].source;
    }
    return place;
  };
  ReusedMemory reused;
  // What is returned has memory of its own.
  const bool reuses = count - static_cast<int64_t>(outputs.size()) >= kFewestReusing;
  std::vector<int64_t> returned;
  for (const int64_t output : outputs) returned.push_back(whole(first + output) - first);
  const auto memory_of = [&](int64_t i) {
    return reuses && std::find(returned.begin(), returned.end(), i) == returned.end() ? &reused : nullptr;
  };
  const auto leave = [&](int64_t place) {
    place = whole(place);
    if (place >= static_cast<int64_t>(slots.size())) return;
    if (slots[place].defined()) reused.leave(slots[place]);  // what stands between links of a chain never was
    slots[place] = Tensor();
  };
  int64_t convolutions = 0;
  const auto call_of = [&](int64_t i, int64_t convolution) -> PackedCall {
    const Step& step = steps[i];
    const ShortCall call = read_short_call(step.kind, step.steps, step.sides, step.groups);
    std::optional<Tensor> bias, residual;
    if (step.bias >= 0) bias = at(biases, step.bias);
    if (step.residual >= 0) residual = at(slots, step.residual);
    return {call, at(packed, convolution), bias, call.finish(residual, finish[2 * i], finish[2 * i + 1]), memory_of(i)};
  };
  for (int64_t i = 0; i < count;) {
    const Step& step = steps[i];
    const Tensor& source = at(slots, step.source);
    int64_t done = 1;
    if (step.kind >= 0) {
      const auto next = [&](int64_t ahead) -> std::optional<PackedCall> {
        const int64_t j = i + ahead;
        const bool reads_alone = j < count && steps[j].kind >= 0 && steps[j].source == first + j - 1 &&
                                 steps[j].residual != first + j - 1 && steps[j].releases_source;
        if (!reads_alone) return std::nullopt;
        return call_of(j, convolutions + ahead);
      };
      ChainResult chain = convolve_chain(source, call_of(i, convolutions), next);
      done = chain.calls;
      convolutions += done;
      slots.resize(first + i + done - 1);
      slots.push_back(std::move(chain.y));
    } else if (step.kind == kChannelMeans) {
      slots.push_back(channel_means(source, memory_of(i)));
    } else if (step.kind == kScaleChannels && step.residual >= 0) {
      slots.push_back(scale_channels(source, at(slots, step.residual), memory_of(i)));
    } else if (step.kind == kMaxPool) {
      slots.push_back(max_pool(source, read_short_call(0, step.steps, step.sides, 1), step.groups != 0, memory_of(i)));
    } else if (step.kind == kJoinChannels) {
      std::vector<Tensor> parts;
      for (int64_t k = 0; k < kMostRead; ++k) {
        if (read_by(step, k) >= 0) parts.push_back(at(slots, read_by(step, k)));
      }
      slots.push_back(join_channels(parts, memory_of(i)));
    } else if (step.kind == kSomeChannels) {
      slots.push_back(some_channels(source, step.steps, step.sides));
    } else if (step.kind == kFinishImages) {
      FinishOptions options = {{}, step.steps, finish[2 * i], finish[2 * i + 1], false};
      if (step.residual >= 0) options.residual = at(slots, step.residual);
      slots.push_back(finish_images(source, options, memory_of(i)));
    } else {
      fail("a step of the program is of kind " + std::to_string(step.kind) + ", which it cannot do");
    }
    for (const int64_t end = i + done; i < end; ++i) {
      for (int64_t k = 0; k < kMostRead; ++k) {
        if (read_by(steps[i], k) >= 0 && releases(steps[i], k)) leave(read_by(steps[i], k));
      }
    }
  }
  std::vector<Tensor> results;
  for (const int64_t output : outputs) results.push_back(at(slots, first + output));
  return results;
}

}  // namespace nhwc_conv
