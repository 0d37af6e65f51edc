#include "mini_model.h"

namespace mini {
namespace {

int TypeOf(int8_t type) {  // TensorType of the schema to TfLiteType
  static constexpr int kTypes[] = {1, 10, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17};
  if (type < 0 || type >= static_cast<int>(sizeof(kTypes) / sizeof(int))) throw Error("a tensor of an unknown type");
  return kTypes[type];
}

class Reader {
 public:
  explicit Reader(Bytes file)
      : file_(file), root_(FlatTable::Root(file)), codes_(root_.Tables(1)), buffers_(root_.Tables(4)) {}
  Model Read();

 private:
  // Vectors of a file may share bytes, so that a small file can describe a vast graph.
  void Spend(size_t count) {
    if (count > budget_) throw Error("the graph is too large");
    budget_ -= count;
  }
  std::vector<int> Ints(const FlatVector& vector) {
    Spend(vector.size());
    std::vector<int> values(vector.size());
    for (size_t i = 0; i < values.size(); ++i) values[i] = vector.Get<int32_t>(i);
    return values;
  }
  std::vector<int> Indices(const FlatVector& vector, bool optional);
  void ReadQuantization(const FlatTable& table, ModelTensor* tensor);
  ModelTensor ReadTensor(const FlatTable& table);
  ModelOperator ReadOperator(const FlatTable& table);

  Bytes file_;
  FlatTable root_;
  FlatVector codes_;
  FlatVector buffers_;
  size_t tensors_ = 0;
  size_t budget_ = 1 << 22;
};

std::vector<int> Reader::Indices(const FlatVector& vector, bool optional) {
  std::vector<int> values = Ints(vector);
  for (const int value : values) {
    if (value == -1 && optional) continue;
    if (value < 0 || static_cast<size_t>(value) >= tensors_) throw Error("a tensor is used that is not there");
  }
  return values;
}

void Reader::ReadQuantization(const FlatTable& table, ModelTensor* tensor) {
  const FlatVector scale = table.Vector(2, 4);
  const FlatVector zero_point = table.Vector(3, 8);
  if (!scale || scale.size() == 0) return;
  if (zero_point.size() != scale.size()) throw Error("a tensor has more scales than zero points");
  Spend(scale.size());
  for (size_t i = 0; i < scale.size(); ++i) {
    tensor->scale.push_back(scale.Get<float>(i));
    tensor->zero_point.push_back(static_cast<int>(zero_point.Get<int64_t>(i)));
  }
  tensor->quantized_dimension = table.Scalar<int32_t>(6, 0);
  const auto rank = static_cast<int>(tensor->dims.size());
  if (scale.size() != 1 && (tensor->quantized_dimension < 0 || tensor->quantized_dimension >= rank ||
                            tensor->dims[tensor->quantized_dimension] != static_cast<int>(scale.size()))) {
    throw Error("a tensor's scales do not fit its shape");
  }
}

ModelTensor Reader::ReadTensor(const FlatTable& table) {
  ModelTensor tensor;
  tensor.type = static_cast<TfLiteType>(TypeOf(table.Scalar<int8_t>(1, 0)));
  tensor.dims = Ints(table.Vector(0, 4));
  tensor.signature = Ints(table.Vector(7, 4));
  tensor.name = table.String(3);
  Spend(tensor.name.size());
  tensor.is_variable = table.Scalar<uint8_t>(5, 0) != 0;
  tensor.is_sparse = static_cast<bool>(table.Table(6));
  ReadQuantization(table.Table(4), &tensor);
  const uint32_t index = table.Scalar<uint32_t>(2, 0);
  if (index >= buffers_.size()) throw Error("a tensor has a buffer that is not there");
  const FlatTable buffer = root_.Element(buffers_, index);
  tensor.data = buffer.Vector(0, 1).bytes();
  const uint64_t offset = buffer.Scalar<uint64_t>(1, 0);
  if (offset > 1) {  // files above 2 GB keep constants behind the FlatBuffer
    const uint64_t size = buffer.Scalar<uint64_t>(2, 0);
    if (offset > file_.size || size > file_.size - offset) throw Error("a constant runs past the end of the file");
    tensor.data = {file_.data + offset, static_cast<size_t>(size)};
  }
  const size_t bytes = TensorBytes(tensor.type, tensor.dims.data(), tensor.dims.size());
  if (tensor.data.size && ElementSize(tensor.type) && !tensor.is_sparse && bytes != tensor.data.size) {
    throw Error("a constant's bytes do not fit its shape");
  }
  if (tensor.data.size && tensor.is_variable) throw Error("a constant cannot be a variable");
  return tensor;
}

ModelOperator Reader::ReadOperator(const FlatTable& table) {
  ModelOperator op;
  const uint32_t index = table.Scalar<uint32_t>(0, 0);
  if (index >= codes_.size()) throw Error("an operator has a code that is not there");
  const FlatTable code = root_.Element(codes_, index);
  op.builtin = code.Scalar<int32_t>(3, 0);
  if (const int8_t old = code.Scalar<int8_t>(0, 0); old > op.builtin) op.builtin = old;
  op.version = code.Scalar<int32_t>(2, 1);
  op.inputs = Indices(table.Vector(1, 4), true);
  op.outputs = Indices(table.Vector(2, 4), false);
  Spend(op.inputs.size() * op.outputs.size());
  for (const int output : op.outputs) {
    for (const int input : op.inputs) {
      if (input == output) throw Error("an operator writes its own input");
    }
  }
  if (op.builtin == bihrnet::kOpCustom) {
    op.custom = code.String(1);
    if (op.custom.empty()) throw Error("a custom operator without a name");
    const FlatVector options = table.Vector(5, 1);
    op.has_options = static_cast<bool>(options);
    op.options = options.bytes();
  } else {
    op.builtin_data = ReadBuiltinData(op.builtin, table.Scalar<uint8_t>(3, 0), table.Table(4));
  }
  return op;
}

Model Reader::Read() {
  const FlatVector subgraphs = root_.Tables(2);
  if (subgraphs.size() == 0) throw Error("the file holds no graph");
  const FlatTable graph = root_.Element(subgraphs, 0);
  const FlatVector tensors = graph.Tables(0);
  const FlatVector operators = graph.Tables(3);
  Spend(tensors.size() + operators.size());
  tensors_ = tensors.size();
  Model model;
  for (size_t i = 0; i < tensors.size(); ++i) model.tensors.push_back(ReadTensor(root_.Element(tensors, i)));
  for (size_t i = 0; i < operators.size(); ++i) model.operators.push_back(ReadOperator(root_.Element(operators, i)));
  model.inputs = Indices(graph.Vector(1, 4), false);
  model.outputs = Indices(graph.Vector(2, 4), false);
  return model;
}

TfLitePadding PaddingOf(const FlatTable& options) {
  const int8_t padding = options.Scalar<int8_t>(0, 0);
  return padding == 0 ? kTfLitePaddingSame : padding == 1 ? kTfLitePaddingValid : kTfLitePaddingUnknown;
}

TfLiteFusedActivation ActivationOf(const FlatTable& options, int field) {
  const int8_t activation = options.Scalar<int8_t>(field, 0);
  return static_cast<TfLiteFusedActivation>(activation >= 0 && activation <= 5 ? activation : 0);
}

}  // namespace

size_t ElementSize(int type) {
  switch (type) {
    case 1:
    case 2:
    case 16:
      return 4;
    case 4:
    case 8:
    case 11:
    case 13:
      return 8;
    case 12:
      return 16;
    case 7:
    case 10:
    case 17:
      return 2;
    case 3:
    case 6:
    case 9:
      return 1;
    case 5:
      return 0;
    default:
      throw Error("a tensor of a type that this runtime lacks");
  }
}

size_t TensorBytes(int type, const int* dims, size_t rank) {
  size_t count = 1;
  for (size_t i = 0; i < rank; ++i) {
    if (__builtin_mul_overflow(count, static_cast<size_t>(dims[i]), &count)) throw Error("a tensor is too large");
  }
  if (__builtin_mul_overflow(count, ElementSize(type), &count)) throw Error("a tensor is too large");
  return count;
}

std::vector<uint8_t> ReadBuiltinData(int32_t builtin, int options_type, const FlatTable& given) {
  enum {
    kConv = 1,
    kPool = 5,
    kConcat = 10,
    kAdd = 11,
    kMul = 21,
    kReducer = 27,
    kSub = 28,
    kSlice = 32,
    kNearest = 74
  };
  // Options of another operator are none at all: the struct is then zero.
  const auto bytes = [&](int expected, auto params, const auto& fill) {
    if (options_type == expected && given) fill(&params);
    std::vector<uint8_t> result(sizeof params);
    std::memcpy(result.data(), &params, sizeof params);
    return result;
  };
  const auto integer = [&](int field, int fallback = 0) { return given.Scalar<int32_t>(field, fallback); };
  const auto flag = [&](int field) { return given.Scalar<uint8_t>(field, 0) != 0; };
  const auto arithmetic = [&](auto* params) { params->activation = ActivationOf(given, 0); };
  switch (builtin) {
    case bihrnet::kOpAdd:
      return bytes(kAdd, TfLiteArithmeticParams{}, arithmetic);
    case bihrnet::kOpSub:
      return bytes(kSub, TfLiteArithmeticParams{}, arithmetic);
    case bihrnet::kOpMul:
      return bytes(kMul, TfLiteArithmeticParams{}, arithmetic);
    case bihrnet::kOpConcatenation:
      return bytes(kConcat, TfLiteConcatenationParams{},
                   [&](auto* params) { *params = {integer(0), ActivationOf(given, 1)}; });
    case bihrnet::kOpConv2d:
      return bytes(kConv, TfLiteConvParams{}, [&](auto* params) {
        *params = {PaddingOf(given), integer(1), integer(2), ActivationOf(given, 3), integer(4, 1), integer(5, 1)};
      });
    case bihrnet::kOpAveragePool2d:
    case bihrnet::kOpMaxPool2d:
      return bytes(kPool, TfLitePoolParams{}, [&](auto* params) {
        *params = {PaddingOf(given), integer(1), integer(2), integer(3), integer(4), ActivationOf(given, 5)};
      });
    case bihrnet::kOpStridedSlice:
      return bytes(kSlice, TfLiteStridedSliceParams{}, [&](auto* params) {
        *params = {integer(0), integer(1), integer(2), integer(3), integer(4), flag(5)};
      });
    case bihrnet::kOpResizeNearestNeighbor:
      return bytes(kNearest, TfLiteResizeNearestNeighborParams{}, [&](auto* params) { *params = {flag(0), flag(1)}; });
    case bihrnet::kOpMean:
      return bytes(kReducer, TfLiteReducerParams{}, [&](auto* params) { params->keep_dims = flag(0); });
    default:
      return {};
  }
}

Model ReadModel(Bytes file) {
  if (ReadAt<uint32_t>(file, 4) != 0x334c4654) throw Error("not a TFLite model");  // "TFL3"
  return Reader(file).Read();
}

}  // namespace mini
