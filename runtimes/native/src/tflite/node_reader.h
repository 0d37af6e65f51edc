// Reads one node of the runtime into a checked Node: node_reader.cc has its tensors and attributes, node_ops.cc what
// each operator asks of them, node_conv.cc what a float convolution has to be.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "graph/flexbuffer.h"
#include "tflite/reader.h"

namespace bihrnet {

constexpr int kMaxWindow = 1024;  // of a filter, stride or dilation: far beyond any net, far below any overflow
constexpr int kMaxReceptiveField = 65535;  // what an accumulator of the kernels holds
constexpr int kMaxConvReach = 64;  // pads of an image of words are stored: a far reach would take more than it saves

// Reads one node; the first thing that is wrong ends in `error`, and everything after it does nothing.
class NodeReader {
 public:
  NodeReader(const TfLiteContext& context, const RuntimeNode& node, std::vector<int>* tensor_ids, Graph* graph)
      : context_(context),
        node_(*node.node),
        registration_(*node.registration),
        tensor_ids_(*tensor_ids),
        graph_(*graph) {}

  std::string Run();

 private:
  void Fail(const std::string& what) {
    if (error_.empty()) error_ = what;
  }
  bool ok() const { return error_.empty(); }

  const TfLiteTensor* RuntimeTensor(int index) const;
  int InputCount() const { return node_.inputs == nullptr ? 0 : node_.inputs->size; }
  // The runtime's tensor behind an input, -1 where there is none.
  int InputAt(int position) const {
    return position >= 0 && position < InputCount() ? node_.inputs->data[position] : -1;
  }
  // The graph's tensor for an input; rank 4 and not constant.
  int Activation4d(int position, std::initializer_list<TensorType> types);
  int Constant(int position, TfLiteType type);
  int ConstantFloats(int position, size_t count);  // count 0: any number
  int ConstantInts(int position, size_t count);
  int Output(std::initializer_list<TensorType> types, bool flat_too = false);
  int Intern(int index, const TfLiteTensor& tensor);
  void Options();
  int32_t Option(const char* key, int32_t low, int32_t high);
  void SetActivation(int code);
  template <typename T>
  const T* Builtin() {
    if (node_.builtin_data == nullptr) Fail("it has no attributes");
    return static_cast<const T*>(node_.builtin_data);
  }

  void ReadBconv();
  void ReadFilter();
  void ReadConv();
  const TfLiteTensor* ConvFilter(TfLiteType type, size_t weight_bytes, Tensor* made);
  void ReadFloatFilter();
  void ReadByteFilter();
  void FindByteScales(const Tensor& filter, const std::vector<float>& scales);
  void ReadBinaryMaxPool();
  void ReadArithmetic(Op op, bool has_activation);
  void ReadByteArithmetic();
  void CheckFactor(double factor, double most);
  void ReadPrelu();
  bool IsInt8(int position) const;
  void SameScale(int tensor);
  void ReadConcat();
  void ReadStridedSlice();
  void ReadSlice();
  void ReadPool(Op op);
  void ReadMean();
  void ReadResize();
  void SliceChannels(int tensor, const std::vector<int32_t>& begin, const std::vector<int32_t>& end, int begin_mask,
                     int end_mask);
  void CheckWindow();
  void CheckChannels(const Tensor& activation, const Tensor& constant);

  const TfLiteContext& context_;
  const TfLiteNode& node_;
  const TfLiteRegistration& registration_;
  std::vector<int>& tensor_ids_;
  Graph& graph_;
  Node result_{};
  std::optional<FlexMap> options_;
  std::string error_;
};

inline bool IsConstant(const TfLiteTensor& tensor) {
  return tensor.allocation_type == kTfLiteMmapRo && tensor.data != nullptr;
}

}  // namespace bihrnet
