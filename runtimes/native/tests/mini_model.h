// A .tflite file as plain structures: the first subgraph, read as a TFLite runtime reads it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "flatbuffer_view.h"
#include "tflite/abi.h"

namespace mini {

struct ModelTensor {
  TfLiteType type = kTfLiteNoType;
  std::vector<int> dims;
  std::vector<int> signature;
  std::string name;
  Bytes data;  // inside the file; empty where the tensor is no constant
  std::vector<float> scale;
  std::vector<int> zero_point;
  int quantized_dimension = 0;
  bool is_variable = false;
  bool is_sparse = false;
};

struct ModelOperator {
  int32_t builtin = 0;
  std::string custom;
  int version = 1;
  std::vector<int> inputs;
  std::vector<int> outputs;
  bool has_options = false;
  Bytes options;                      // a custom operator's, inside the file
  std::vector<uint8_t> builtin_data;  // the struct of abi.h, empty for null
};

struct Model {
  std::vector<ModelTensor> tensors;
  std::vector<ModelOperator> operators;
  std::vector<int> inputs;
  std::vector<int> outputs;
};

// Throws Error where a runtime would refuse the file. `file` must outlive the result.
Model ReadModel(Bytes file);

// The struct of abi.h that a runtime hands a delegate for this operator, or nothing.
std::vector<uint8_t> ReadBuiltinData(int32_t builtin, int options_type, const FlatTable& options);

// Bytes of one element, 0 for strings. Throws Error for types that this runtime lacks.
size_t ElementSize(int type);

// Bytes of a tensor by the runtime's own rule: a negative size counts as the huge number that it is as size_t.
size_t TensorBytes(int type, const int* dims, size_t rank);

}  // namespace mini
