#include "tflite/options.h"

#include <cstdlib>
#include <cstring>

namespace bihrnet {
namespace {

constexpr int kMaxThreads = 64;

std::string KernelNames() {
  std::string names;
  for (const Kernels* kernels : {ScalarKernels(), Avx2Kernels(), NeonKernels()}) {
    if (kernels != nullptr) names += (names.empty() ? "" : ", ") + std::string(kernels->name);
  }
  return names;
}

std::string SetKernel(const char* name, Options* options) {
  std::string wanted = name != nullptr ? name : "";
  std::string origin = "the option kernel";
  if (wanted.empty()) {
    const char* from_environment = std::getenv("BIHRNET_LCE_KERNEL");
    wanted = from_environment != nullptr ? from_environment : "";
    origin = "the environment's BIHRNET_LCE_KERNEL";
  }
  options->kernels = SelectKernels(wanted.c_str());
  if (options->kernels != nullptr) return "";
  return origin + " is '" + wanted + "', which this machine does not have; choose one of " + KernelNames() + ".";
}

}  // namespace

std::string ReadOptions(const BihrnetLceOptions& given, Options* options) {
  if (given.threads < 0 || given.threads > kMaxThreads) {
    return "the option threads is " + std::to_string(given.threads) + "; choose 0 to 64.";
  }
  options->threads = given.threads;
  options->profile = given.profile != nullptr ? given.profile : "";
  options->verbose = given.verbose != 0;
  return SetKernel(given.kernel, options);
}

std::string ReadOptions(char** keys, char** values, size_t count, Options* options) {
  BihrnetLceOptions given = bihrnet_lce_options_default();
  if (count > 0 && (keys == nullptr || values == nullptr)) return "the options have no keys or no values.";
  for (size_t i = 0; i < count; ++i) {
    if (keys[i] == nullptr || values[i] == nullptr) return "an option has no key or no value.";
    const std::string key = keys[i];
    if (key == "kernel") {
      given.kernel = values[i];
    } else if (key == "profile") {
      given.profile = values[i];
    } else if (key == "threads" || key == "verbose") {
      char* end = nullptr;
      const long number = std::strtol(values[i], &end, 10);
      if (end == values[i] || *end != '\0' || number < 0 || number > kMaxThreads) {
        return "the option " + key + " is '" + values[i] + "'; give a number from 0 to 64.";
      }
      (key == "threads" ? given.threads : given.verbose) = static_cast<int>(number);
    } else {
      return "there is no option '" + key + "'; there are threads, kernel, profile and verbose.";
    }
  }
  return ReadOptions(given, options);
}

}  // namespace bihrnet
