// The delegate's options, from the C structure or from the text that external delegates get.
#pragma once

#include <string>

#include "bihrnet_lce.h"
#include "kernels/kernels.h"

namespace bihrnet {

struct Options {
  int threads = 0;  // 0: what the interpreter recommends
  const Kernels* kernels = nullptr;
  std::string profile;
  bool verbose = false;
};

// Both return an empty string, or a sentence about the first option that is wrong.
std::string ReadOptions(const BihrnetLceOptions& given, Options* options);
std::string ReadOptions(char** keys, char** values, size_t count, Options* options);

}  // namespace bihrnet
