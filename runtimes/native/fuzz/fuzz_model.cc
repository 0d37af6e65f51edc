// libFuzzer target: a damaged model through the whole delegate. It may refuse; it may not crash, read memory that is
// not its own, leak, write to constants, or give other numbers on another run or with other kernels.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "bihrnet_lce.h"
#include "fuzz_input.h"
#include "mini_runtime.h"

namespace fuzz {
namespace {

// Small, so that a damaged size costs no time. A real machine's memory ends later, but in the same way.
constexpr size_t kMostMemory = size_t{16} << 20;
constexpr mini::Limits kLimits = {size_t{4} << 20, kMostMemory, 1e8};
constexpr double kMostWork = 3e8;   // multiply-adds of an Invoke
constexpr double kImageWork = 3e5;  // what an operator's threads lose on waiting for one another, an image

struct DelegateDeleter {
  void operator()(TfLiteDelegate* delegate) const { tflite_plugin_destroy_delegate(delegate); }
};
using Delegate = std::unique_ptr<TfLiteDelegate, DelegateDeleter>;

[[noreturn]] void Finding(const std::string& what) {
  std::fprintf(stderr, "fuzz_model: %s\n", what.c_str());
  std::abort();
}

Delegate MakeDelegate(const Choices& choices) {
  static constexpr const char* kKernels[] = {"", "scalar", "avx2", "neon"};
  std::string keys[] = {"threads", "kernel"};
  std::string values[] = {std::to_string(choices.threads % 5), kKernels[choices.kernel % 4]};
  char* key_list[] = {keys[0].data(), keys[1].data()};
  char* value_list[] = {values[0].data(), values[1].data()};
  return Delegate(tflite_plugin_create_delegate(key_list, value_list, 2, nullptr));
}

// At most the multiply-adds of one Invoke: no operator has more of them than its output's pixels times its constants.
// The shapes are the file's own, and can be wrong; then the delegate's limits and libFuzzer's timeout are what is left.
double Work(mini::Interpreter* interpreter, const mini::Model& model) {
  double work = 0;
  for (const mini::ModelOperator& op : model.operators) {
    double constants = 1, pixels = 1, images = 1;
    for (const int index : op.inputs) {
      if (index < 0) continue;
      const mini::ModelTensor& tensor = model.tensors[static_cast<size_t>(index)];
      const bool packed = op.custom == "LceBconv2d" && tensor.type == kTfLiteInt32;
      constants += static_cast<double>(tensor.data.size) * (packed ? 8 : 0.25);
      const TfLiteIntArray* dims = interpreter->tensor(static_cast<size_t>(index)).dims;
      double count = 1;
      for (int i = 0; i < dims->size && i < 3; ++i) count *= dims->data[i];
      if (tensor.data.size) continue;
      pixels = std::max(pixels, count);
      if (dims->size) images = std::max(images, static_cast<double>(dims->data[0]));
    }
    work += pixels * constants + images * kImageWork;
  }
  return work;
}

void Fill(mini::Interpreter* interpreter, uint8_t pattern) {
  uint32_t state = pattern + 1u;
  for (size_t i = 0; i < interpreter->inputs(); ++i) {
    TfLiteTensor& tensor = interpreter->input(i);
    if (!tensor.data || tensor.allocation_type == kTfLiteMmapRo) continue;
    auto* bytes = static_cast<uint8_t*>(tensor.data);
    for (size_t at = 0; at < tensor.bytes; at += 4) {
      state = state * 1664525u + 1013904223u;
      uint32_t word = state ^ state >> 16;
      if (tensor.type == kTfLiteFloat32 && pattern != 255) {  // 255: any bits, NaN and infinity among them
        const float value = static_cast<float>(static_cast<int32_t>(word) >> 20) / 512.0f;
        std::memcpy(&word, &value, sizeof word);
      } else if (tensor.type == kTfLiteBool) {
        word &= 0x01010101;
      }
      std::memcpy(bytes + at, &word, std::min<size_t>(4, tensor.bytes - at));
    }
  }
}

bool Same(const mini::Value& a, const mini::Value& b) {
  if (a.type != b.type || a.dims != b.dims || a.bytes.size() != b.bytes.size()) return false;
  if (a.bytes == b.bytes) return true;
  if (a.type != kTfLiteFloat32) return false;
  for (size_t at = 0; at + 4 <= a.bytes.size(); at += 4) {
    float left, right;
    std::memcpy(&left, a.bytes.data() + at, 4);
    std::memcpy(&right, b.bytes.data() + at, 4);
    // The sign and the payload of a NaN are nobody's promise.
    if (std::memcmp(&left, &right, 4) != 0 && !(std::isnan(left) && std::isnan(right))) return false;
  }
  return true;
}

std::vector<mini::Value> Outputs(mini::Interpreter* interpreter) {
  std::vector<mini::Value> outputs;
  for (size_t i = 0; i < interpreter->outputs(); ++i) outputs.push_back(interpreter->Output(i));
  return outputs;
}

void Compare(const std::vector<mini::Value>& first, const std::vector<mini::Value>& second, const char* what) {
  for (size_t i = 0; i < first.size(); ++i) {
    if (!Same(first[i], second[i])) Finding("output " + std::to_string(i) + " is another " + what);
  }
}

bool ResizeAndAllocate(mini::Interpreter* interpreter, const Choices& choices, const mini::Model& model) {
  if (choices.resize && interpreter->inputs()) {
    const size_t input = choices.resize % interpreter->inputs();
    const TfLiteTensor& tensor = interpreter->input(input);
    std::vector<int> dims(tensor.dims->data, tensor.dims->data + tensor.dims->size);
    const uint8_t sizes[] = {choices.batch, choices.height, choices.width};
    for (size_t i = 0; i < dims.size() && i < 3; ++i) {
      if (sizes[i]) dims[i] = sizes[i] == 255 ? 0 : sizes[i] % 33;
    }
    if (!interpreter->ResizeInput(input, dims)) return false;
  }
  if (Work(interpreter, model) > kMostWork) return false;
  return interpreter->AllocateTensors();
}

// The outputs of a run with these choices; none where something was refused.
std::vector<mini::Value> Run(const mini::Model& model, const Choices& choices) {
  const Delegate delegate = MakeDelegate(choices);
  if (!delegate) return {};
  mini::Interpreter interpreter(model, choices.threads % 3, kLimits);
  if (!interpreter.Apply(delegate.get())) {
    if (interpreter.messages().size() < 2) Finding("the delegate fails without a message");  // the runtime adds one
    return {};
  }
  if (!ResizeAndAllocate(&interpreter, choices, model)) return {};
  Fill(&interpreter, choices.pattern);
  if (!interpreter.Invoke()) return {};
  const std::vector<mini::Value> outputs = Outputs(&interpreter);
  if (choices.steps & kMove) interpreter.MoveTensors();
  if (choices.steps & kReallocate && !interpreter.AllocateTensors()) Finding("what was allocated cannot be again");
  Fill(&interpreter, choices.pattern);
  if (!interpreter.Invoke()) Finding("the second run fails: " + interpreter.Messages());
  Compare(outputs, Outputs(&interpreter), "in the second run");
  if (!interpreter.ConstantsIntact()) Finding("a constant was overwritten");
  return outputs;
}

}  // namespace
}  // namespace fuzz

// Memory that ends, for the delegate and not for libFuzzer: a sanitizer would stop the process where a real allocator
// throws.
static std::atomic<bool> memory_ends{false};

void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  return bytes <= fuzz::kMostMemory || !memory_ends ? std::malloc(bytes) : nullptr;
}
void* operator new(size_t bytes) {
  void* block = operator new(bytes, std::nothrow);
  if (!block) throw std::bad_alloc();
  return block;
}
void* operator new[](size_t bytes) { return operator new(bytes); }
void* operator new[](size_t bytes, const std::nothrow_t&) noexcept { return operator new(bytes, std::nothrow); }
void operator delete(void* block) noexcept { std::free(block); }
void operator delete(void* block, size_t) noexcept { std::free(block); }
void operator delete[](void* block) noexcept { std::free(block); }
void operator delete[](void* block, size_t) noexcept { std::free(block); }

extern "C" const char* __asan_default_options() {
  // The delegate's large blocks come from aligned_alloc, which must be able to fail too.
  return "allocator_may_return_null=1:max_allocation_size_mb=64:detect_stack_use_after_return=1";
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Choices choices;
  if (size < sizeof choices || size > fuzz::kMostBytes) return 0;
  std::memcpy(&choices, data, sizeof choices);
  // A block of exactly the file's size.
  const std::unique_ptr<uint8_t, mini::Freer> file(static_cast<uint8_t*>(std::malloc(size - sizeof choices)));
  std::memcpy(file.get(), data + sizeof choices, size - sizeof choices);
  memory_ends = true;
  try {
    const mini::Model model = mini::ReadModel({file.get(), size - sizeof choices});
    const std::vector<mini::Value> outputs = fuzz::Run(model, choices);
    if (choices.steps & fuzz::kCompare && !outputs.empty()) {
      fuzz::Choices plain = choices;
      plain.threads = plain.kernel = 1;
      plain.steps = 0;
      const std::vector<mini::Value> expected = fuzz::Run(model, plain);
      if (expected.empty()) fuzz::Finding("the scalar kernels refuse what others run");
      fuzz::Compare(expected, outputs, "than that of the scalar kernels");
    }
  } catch (const mini::Error&) {
  } catch (const std::bad_alloc&) {
  }
  memory_ends = false;
  return 0;
}
