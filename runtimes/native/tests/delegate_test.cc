// The delegate in a stand-in runtime: the numbers of LCE's interpreter, whatever the kernels, threads and input sizes.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "bihrnet_lce.h"
#include "fixtures.h"

namespace mini {
namespace {

constexpr double kTolerance = 1e-6;

Model Load(const Fixture& fixture) { return ReadModel({fixture.file.data(), fixture.file.size()}); }

const Fixture& Find(const std::vector<Fixture>& fixtures, const std::string& name) {
  for (const Fixture& fixture : fixtures) {
    if (fixture.name == name) return fixture;
  }
  Fail("there is no model " + name);
}

// All cases in one interpreter, and the first once more: sizes change there and back.
void RunCases(const Fixture& fixture, Interpreter* interpreter, const std::string& what,
              std::vector<std::vector<Value>>* first) {
  for (size_t i = 0; i <= fixture.cases.size(); ++i) {
    const size_t index = i % fixture.cases.size();
    const Case& one = fixture.cases[index];
    const std::string name = what + " case " + std::to_string(index);
    const std::vector<Value> outputs = Run(interpreter, one.inputs, name);
    const std::string wrong = Difference(one.outputs, outputs, kTolerance);
    Check(wrong.empty(), name + " differs from LCE: " + wrong);
    if (first->size() <= index) first->push_back(outputs);
    const std::string unlike = Difference((*first)[index], outputs, 0);
    Check(unlike.empty(), name + " differs from the scalar kernels on one thread: " + unlike);
  }
}

void TestOutputs(const std::vector<Fixture>& fixtures) {
  for (const Fixture& fixture : fixtures) {
    std::vector<std::vector<Value>> first;
    for (const std::string& kernel : AvailableKernels()) {
      for (const char* threads : {"1", "2", "3"}) {
        const std::string what = fixture.name + " with " + kernel + " on " + threads + " threads";
        const Delegate delegate(Options{{"kernel", kernel}, {"threads", threads}});
        Interpreter interpreter(Load(fixture));
        Check(interpreter.Apply(delegate.get()), what, interpreter);
        Check(interpreter.delegate_nodes() > 0, what + ": the delegate claims nothing");
        RunCases(fixture, &interpreter, what, &first);
      }
    }
  }
}

// What is claimed: all of a graph of binary operators, and several regions where other operators lie between them.
void TestRegions(const std::vector<Fixture>& fixtures) {
  const Delegate delegate(Options{});
  Interpreter whole(Load(Find(fixtures, "ms_block")));
  Check(whole.Apply(delegate.get()) && whole.delegate_nodes() == 1 && whole.other_nodes() == 0,
        "ms_block is not one region");
  Interpreter divided(Load(Find(fixtures, "two_regions")));
  Check(divided.Apply(delegate.get()) && divided.delegate_nodes() == 2 && divided.other_nodes() >= 3,
        "two_regions is not two regions and three convolutions");
  Interpreter integers(Load(Find(fixtures, "integer_convs")));
  Check(integers.Apply(delegate.get()) && integers.delegate_nodes() == 1 && integers.other_nodes() == 2,
        "integer_convs is not one region behind a convolution and before another");
  Interpreter images(Load(Find(fixtures, "image_convs")));
  Check(images.Apply(delegate.get()) && images.delegate_nodes() == 1 && images.other_nodes() == 0,
        "image_convs is not one region");
}

// One delegate, two interpreters that run at once, each with threads of its own.
void TestTwoAtOnce(const std::vector<Fixture>& fixtures) {
  const Delegate delegate(Options{{"threads", "2"}});
  const auto work = [&](const char* name) {
    const Fixture& fixture = Find(fixtures, name);
    for (int i = 0; i < 4; ++i) {
      std::vector<std::vector<Value>> first;
      Interpreter interpreter(Load(fixture));
      Check(interpreter.Apply(delegate.get()), "the runtime refuses", interpreter);
      RunCases(fixture, &interpreter, fixture.name + " beside another", &first);
    }
  };
  std::thread other(work, "ms_block");
  work("two_regions");
  other.join();
}

void TestLifetimes(const std::vector<Fixture>& fixtures) {
  const Fixture& fixture = Find(fixtures, "ms_block");
  for (int i = 0; i < 20; ++i) {
    const Delegate delegate(Options{{"threads", std::to_string(i % 4)}});
    Interpreter never_applied(Load(fixture));
    Interpreter never_prepared(Load(fixture));
    Check(never_prepared.Apply(delegate.get()), "the runtime refuses", never_prepared);
    Interpreter never_run(Load(fixture));
    Check(never_run.Apply(delegate.get()) && never_run.AllocateTensors(), "the runtime refuses", never_run);
    Check(never_run.AllocateTensors(), "the runtime refuses", never_run);
  }
  tflite_plugin_destroy_delegate(nullptr);
  bihrnet_lce_delegate_destroy(nullptr);
}

// What the interpreter recommends is taken where the option says nothing.
void TestRecommendedThreads(const std::vector<Fixture>& fixtures) {
  const Fixture& fixture = Find(fixtures, "ms_block");
  const Delegate delegate(Options{});
  for (const int threads : {-1, 0, 1, 3, 1000}) {
    std::vector<std::vector<Value>> first;
    Interpreter interpreter(Load(fixture), threads);
    Check(interpreter.Apply(delegate.get()), "the runtime refuses", interpreter);
    RunCases(fixture, &interpreter, "ms_block on recommended threads", &first);
  }
}

void TestBadOptions() {
  const std::vector<Options> bad = {
      {{"speed", "1"}},
      {{"", "1"}},
      {{"threads", "-1"}},
      {{"threads", "65"}},
      {{"threads", ""}},
      {{"threads", "abc"}},
      {{"threads", "2x"}},
      {{"threads", "99999999999999999999"}},
      {{"kernel", "foo"}},
      {{"verbose", "yes"}},
      {{"threads", "2"}, {"kernel", "sse"}},
  };
  for (const Options& options : bad) {
    const Delegate delegate(options);
    const std::string what = "option " + options.back().first + "=" + options.back().second;
    Check(delegate.get() == nullptr, what + " is taken");
    Check(delegate.messages().size() == 1 && !delegate.messages()[0].empty(), what + " is not one message");
  }
  const std::vector<Options> good = {{}, {{"threads", "0"}}, {{"threads", "64"}}, {{"kernel", ""}}, {{"verbose", "0"}}};
  for (const Options& options : good) {
    const Delegate delegate(options);
    Check(delegate.get() != nullptr && delegate.messages().empty(), "a good option is refused");
  }
  char key[] = "kernel", value[] = "foo";
  char *keys[] = {key}, *values[] = {value};
  Check(tflite_plugin_create_delegate(keys, values, 1, nullptr) == nullptr, "kernel=foo without a listener");
}

void TestEnvironment() {
  setenv("BIHRNET_LCE_KERNEL", "foo", 1);
  Check(Delegate(Options{}).get() == nullptr, "the environment's kernel foo is taken");
  Check(Delegate(Options{{"kernel", "scalar"}}).get() != nullptr, "the option does not go before the environment");
  setenv("BIHRNET_LCE_KERNEL", "scalar", 1);
  Check(Delegate(Options{}).get() != nullptr, "the environment's kernel scalar is refused");
  unsetenv("BIHRNET_LCE_KERNEL");
}

void TestLinkedInterface() {
  const BihrnetLceOptions defaults = bihrnet_lce_options_default();
  Check(defaults.threads == 0 && !defaults.kernel && !defaults.profile && !defaults.verbose, "the defaults are others");
  for (const BihrnetLceOptions* options : {&defaults, static_cast<const BihrnetLceOptions*>(nullptr)}) {
    TfLiteDelegate* delegate = bihrnet_lce_delegate_create(options, nullptr);
    Check(delegate != nullptr, "the defaults are refused");
    bihrnet_lce_delegate_destroy(delegate);
  }
  BihrnetLceOptions bad = defaults;
  bad.threads = 65;
  Check(bihrnet_lce_delegate_create(&bad, nullptr) == nullptr, "65 threads are taken");
  const std::string version = bihrnet_lce_version();
  Check(version.find(' ' + AvailableKernels().back()) != std::string::npos, "the version names no kernel: " + version);
}

void TestProfile(const std::vector<Fixture>& fixtures, const std::string& folder) {
  const std::string path = folder + "/delegate_test_profile.json";
  std::remove(path.c_str());
  {
    const Delegate delegate(Options{{"profile", path}, {"threads", "2"}});
    std::vector<std::vector<Value>> first;
    Interpreter interpreter(Load(Find(fixtures, "two_regions")));
    Check(interpreter.Apply(delegate.get()), "the runtime refuses", interpreter);
    RunCases(Find(fixtures, "two_regions"), &interpreter, "two_regions with a profile", &first);
  }
  const std::vector<uint8_t> profile = ReadFile(path);
  Check(profile.size() > 2 && profile[0] == '{' && profile[profile.size() - 2] == '}', "the profile is no JSON object");
  std::remove(path.c_str());
  const Delegate delegate(Options{{"profile", folder + "/no such folder/profile.json"}});
  std::vector<std::vector<Value>> first;
  Interpreter interpreter(Load(Find(fixtures, "two_regions")));
  Check(interpreter.Apply(delegate.get()), "a profile that cannot be written stops the delegate");
  RunCases(Find(fixtures, "two_regions"), &interpreter, "two_regions with a lost profile", &first);
}

// An LCE operator that cannot be run is a sentence, and leaves the graph alone.
void TestDamagedModels(const std::vector<Fixture>& fixtures) {
  const auto refused = [](Model model, const char* what) {
    const Delegate delegate(Options{});
    Interpreter interpreter(model);
    Check(!(interpreter.Apply(delegate.get()) && interpreter.AllocateTensors()), std::string(what) + " is taken");
    Check(!interpreter.messages().empty(), std::string(what) + " gives no message");
    Check(!interpreter.Invoke(), std::string(what) + " runs");
  };
  const Fixture& fixture = Find(fixtures, "bconv_same");
  const auto damaged = [&](const auto& damage, const char* what) {
    Model model = Load(fixture);
    damage(&model);
    refused(std::move(model), what);
  };
  constexpr int kBconv = 1;  // after LceQuantize
  damaged([](Model* m) { m->operators[kBconv].has_options = false; }, "a bconv without options");
  damaged([](Model* m) { m->operators[kBconv].options.size = 3; }, "a bconv with cut options");
  damaged([](Model* m) { m->operators[kBconv].options.size = 0; }, "a bconv with empty options");
  damaged([](Model* m) { m->operators[kBconv].inputs.resize(2); }, "a bconv with two inputs");
  damaged([](Model* m) { m->operators[kBconv].inputs.clear(); }, "a bconv without inputs");
  damaged([](Model* m) { m->operators[kBconv].outputs.clear(); }, "a bconv without outputs");
  damaged([](Model* m) { m->operators[kBconv].inputs[1] = -1; }, "a bconv without a filter");
  damaged([](Model* m) { m->operators[kBconv].inputs[2] = -1; }, "a bconv without a multiplier");
  damaged([](Model* m) { m->operators[kBconv].inputs[0] = 0; }, "a bconv of floats");
  damaged([](Model* m) { m->operators[kBconv].custom = "LceBconv3d"; }, "an unknown operator");
  damaged([](Model* m) { m->tensors[m->operators[kBconv].outputs[0]].type = kTfLiteInt64; }, "an int64 output");
  damaged([](Model* m) { m->tensors[m->operators[kBconv].outputs[0]].type = kTfLiteInt8; }, "int8 without a scale");
  damaged([](Model* m) { m->tensors[m->operators[kBconv].inputs[1]].data = {}; }, "a filter that is no constant");
  damaged([](Model* m) { m->tensors[0].dims = {1, 5, 448}; }, "an input of three dimensions");
  damaged([](Model* m) { m->tensors[0].dims = {1, 5, 7, 96}; }, "an input of other channels");

  const Delegate delegate(Options{});
  Interpreter interpreter(Load(fixture));
  Check(interpreter.Apply(delegate.get()), "the runtime refuses", interpreter);
  for (const std::vector<int>& dims : std::vector<std::vector<int>>{{1, 0, 7, 64}, {1, 5, 7, 63 * 32}, {}, {35, 64}}) {
    Check(!(interpreter.ResizeInput(0, dims) && interpreter.AllocateTensors()), "an impossible input size is taken");
  }
  std::vector<std::vector<Value>> first;
  RunCases(fixture, &interpreter, "after impossible sizes", &first);

  Interpreter unequal(Load(Find(fixtures, "two_inputs")));
  Check(unequal.Apply(delegate.get()), "the runtime refuses", unequal);
  Check(unequal.ResizeInput(1, {1, 4, 7, 5}) && !unequal.AllocateTensors(), "inputs of different sizes are joined");
}

}  // namespace
}  // namespace mini

int main(int argc, char** argv) {
  using namespace mini;
  if (argc != 3) Fail("give the folder of the models and one for temporary files");
  unsetenv("BIHRNET_LCE_KERNEL");
  const std::vector<Fixture> fixtures = LoadFixtures(argv[1]);
  TestBadOptions();
  TestEnvironment();
  TestLinkedInterface();
  TestOutputs(fixtures);
  TestRegions(fixtures);
  TestTwoAtOnce(fixtures);
  TestLifetimes(fixtures);
  TestRecommendedThreads(fixtures);
  TestProfile(fixtures, argv[2]);
  TestDamagedModels(fixtures);
  std::string kernels;
  for (const std::string& kernel : AvailableKernels()) kernels += " " + kernel;
  std::printf("delegate_test: %zu models, kernels%s: ok\n", fixtures.size(), kernels.c_str());
  return 0;
}
