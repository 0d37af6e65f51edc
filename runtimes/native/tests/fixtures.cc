#include "fixtures.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "bihrnet_lce.h"

namespace mini {
namespace {

thread_local std::vector<std::string>* collected = nullptr;

class ValueReader {
 public:
  explicit ValueReader(const std::vector<uint8_t>& file) : file_(file) {}
  std::vector<Value> Read() {
    std::vector<Value> values(static_cast<size_t>(Int()));
    for (Value& value : values) {
      value.type = static_cast<TfLiteType>(Int());
      value.dims.resize(static_cast<size_t>(Int()));
      for (int& size : value.dims) size = Int();
      value.bytes.resize(TensorBytes(value.type, value.dims.data(), value.dims.size()));
      std::memcpy(value.bytes.data(), Take(value.bytes.size()), value.bytes.size());
    }
    return values;
  }

 private:
  const uint8_t* Take(size_t bytes) {
    Check(bytes <= file_.size() - at_, "an .io file ends early");
    at_ += bytes;
    return file_.data() + at_ - bytes;
  }
  int Int() {
    int32_t value;
    std::memcpy(&value, Take(sizeof value), sizeof value);
    return value;
  }

  const std::vector<uint8_t>& file_;
  size_t at_ = 0;
};

std::string Name(const char* what, size_t index) { return std::string(what) + " " + std::to_string(index); }

std::string FloatDifference(const Value& want, const Value& got, double tolerance) {
  const size_t count = want.bytes.size() / sizeof(float);
  std::vector<float> expected(count), given(count);
  std::memcpy(expected.data(), want.bytes.data(), want.bytes.size());
  std::memcpy(given.data(), got.bytes.data(), got.bytes.size());
  double range = 0;
  for (const float value : expected) range = std::max(range, std::fabs(static_cast<double>(value)));
  for (size_t i = 0; i < count; ++i) {
    if (std::fabs(static_cast<double>(given[i]) - expected[i]) <= tolerance * range) continue;
    return Name("at", i) + ": " + std::to_string(given[i]) + " instead of " + std::to_string(expected[i]);
  }
  return "";
}

std::string ValueDifference(const Value& want, const Value& got, double tolerance) {
  if (want.type != got.type) return "its type is " + std::to_string(got.type);
  if (want.dims != got.dims || want.bytes.size() != got.bytes.size()) return "its shape is another";
  if (want.bytes == got.bytes) return "";
  if (want.type == kTfLiteFloat32 && tolerance > 0) return FloatDifference(want, got, tolerance);
  const auto place = std::mismatch(want.bytes.begin(), want.bytes.end(), got.bytes.begin()).first;
  return Name("at byte", static_cast<size_t>(place - want.bytes.begin())) + " of " + std::to_string(want.bytes.size());
}

}  // namespace

void Fail(const std::string& what) {
  std::fprintf(stderr, "delegate_test: %s\n", what.c_str());
  std::exit(1);
}

void Check(bool condition, const std::string& what) {
  if (!condition) Fail(what);
}

void Check(bool condition, const std::string& what, const Interpreter& interpreter) {
  if (!condition) Fail(what + ": " + interpreter.Messages());
}

std::vector<uint8_t> ReadFile(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  Check(stream.good(), path + " cannot be read");
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

std::vector<Fixture> LoadFixtures(const std::string& folder) {
  std::vector<Fixture> fixtures;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.path().extension() != ".tflite") continue;
    Fixture fixture{entry.path().stem().string(), ReadFile(entry.path().string()), {}};
    const std::string stem = folder + "/" + fixture.name + ".";
    for (int i = 0; std::filesystem::exists(stem + std::to_string(i) + ".io"); ++i) {
      const std::vector<uint8_t> file = ReadFile(stem + std::to_string(i) + ".io");
      ValueReader reader(file);
      Case one;
      one.inputs = reader.Read();
      one.outputs = reader.Read();
      fixture.cases.push_back(std::move(one));
    }
    Check(!fixture.cases.empty(), fixture.name + " has no .io file");
    fixtures.push_back(std::move(fixture));
  }
  Check(!error && !fixtures.empty(), "there are no models in " + folder);
  std::sort(fixtures.begin(), fixtures.end(), [](const Fixture& a, const Fixture& b) { return a.name < b.name; });
  return fixtures;
}

Delegate::Delegate(const Options& options) {
  std::vector<char*> keys, values;
  for (const auto& [key, value] : options) {
    keys.push_back(const_cast<char*>(key.c_str()));
    values.push_back(const_cast<char*>(value.c_str()));
  }
  collected = &messages_;
  delegate_ = tflite_plugin_create_delegate(keys.data(), values.data(), options.size(),
                                            [](const char* message) { collected->push_back(message); });
  collected = nullptr;
}

Delegate::~Delegate() { tflite_plugin_destroy_delegate(delegate_); }

std::vector<std::string> AvailableKernels() {
  std::vector<std::string> names;
  for (const char* name : {"scalar", "avx2", "neon"}) {
    if (Delegate(Options{{"kernel", name}}).get()) names.push_back(name);
  }
  return names;
}

std::vector<Value> Run(Interpreter* interpreter, const std::vector<Value>& inputs, const std::string& what) {
  Check(interpreter->inputs() == inputs.size(), what + ": the number of inputs is another");
  for (size_t i = 0; i < inputs.size(); ++i) {
    const TfLiteIntArray* dims = interpreter->input(i).dims;
    if (std::vector<int>(dims->data, dims->data + dims->size) == inputs[i].dims) continue;
    Check(interpreter->ResizeInput(i, inputs[i].dims), what, *interpreter);
  }
  Check(interpreter->AllocateTensors(), what, *interpreter);
  std::vector<Value> outputs[2];
  for (std::vector<Value>& values : outputs) {  // twice, at other addresses: no state may stay behind
    for (size_t i = 0; i < inputs.size(); ++i) {
      Check(interpreter->input(i).bytes == inputs[i].bytes.size(), what + ": an input's size is another");
      std::memcpy(interpreter->input(i).data, inputs[i].bytes.data(), inputs[i].bytes.size());
    }
    Check(interpreter->Invoke(), what, *interpreter);
    for (size_t i = 0; i < interpreter->outputs(); ++i) values.push_back(interpreter->Output(i));
    interpreter->MoveTensors();
  }
  Check(Difference(outputs[0], outputs[1], 0).empty(), what + ": the second run gives something else");
  Check(interpreter->ConstantsIntact(), what + ": a constant was overwritten");
  return outputs[0];
}

std::string Difference(const std::vector<Value>& want, const std::vector<Value>& got, double tolerance) {
  if (want.size() != got.size()) return "the number of outputs is " + std::to_string(got.size());
  for (size_t i = 0; i < want.size(); ++i) {
    const std::string difference = ValueDifference(want[i], got[i], tolerance);
    if (!difference.empty()) return Name("output", i) + " " + difference;
  }
  return "";
}

}  // namespace mini
