// The models that make_models.py wrote, and what this library offers to run them.
#pragma once

#include <string>
#include <vector>

#include "mini_runtime.h"

namespace mini {

// Inputs, and the outputs that LCE's interpreter gives for them.
struct Case {
  std::vector<Value> inputs;
  std::vector<Value> outputs;
};

struct Fixture {
  std::string name;
  std::vector<uint8_t> file;
  std::vector<Case> cases;  // the first has the model's own input size
};

// Ends the test with a sentence where a file is missing or damaged.
std::vector<Fixture> LoadFixtures(const std::string& folder);
std::vector<uint8_t> ReadFile(const std::string& path);

// Options of an external delegate, and what it said.
using Options = std::vector<std::pair<std::string, std::string>>;

class Delegate {
 public:
  explicit Delegate(const Options& options);
  ~Delegate();
  Delegate(const Delegate&) = delete;
  Delegate& operator=(const Delegate&) = delete;
  TfLiteDelegate* get() const { return delegate_; }
  const std::vector<std::string>& messages() const { return messages_; }

 private:
  TfLiteDelegate* delegate_;
  std::vector<std::string> messages_;
};

// The kernels that this machine can run: "scalar", and "avx2" or "neon".
std::vector<std::string> AvailableKernels();

// Sets the inputs (resizing where their size is another), runs, and gives the outputs; ends the test on an error.
std::vector<Value> Run(Interpreter* interpreter, const std::vector<Value>& inputs, const std::string& what);

// An empty string, or where `got` differs from `want`: floats by more than `tolerance` of the range of `want`.
std::string Difference(const std::vector<Value>& want, const std::vector<Value>& got, double tolerance);

[[noreturn]] void Fail(const std::string& what);
void Check(bool condition, const std::string& what);
void Check(bool condition, const std::string& what, const Interpreter& interpreter);  // adds what it reported

}  // namespace mini
