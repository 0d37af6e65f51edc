#include "mutator.h"

#include <algorithm>
#include <cstring>

#include "fuzz_input.h"
#include "mini_model.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace fuzz {
namespace {

using mini::Bytes;
using mini::FlatTable;
using mini::FlatVector;

size_t Below(Random* random, size_t count) { return std::uniform_int_distribution<size_t>(0, count - 1)(*random); }

template <typename T>
T Pick(Random* random, std::initializer_list<T> values) {
  return values.begin()[Below(random, values.size())];
}

template <typename T>
void Write(uint8_t* file, size_t size, size_t place, T value) {
  if (place <= size && sizeof(T) <= size - place) std::memcpy(file + place, &value, sizeof(T));
}

class Dissector {
 public:
  explicit Dissector(Bytes file) : file_(file) {}

  Anatomy Run() {
    // Each part on its own, so that one that is damaged does not hide the others.
    Try([&] { root_ = FlatTable::Root(file_); });
    Try([&] { buffers_ = Elements(root_, 4); });
    Try([&] { Codes(); });
    Try([&] { graph_ = root_.Element(root_.Tables(2), 0); });
    Try([&] { Vector(graph_.Vector(1, 4), Kind::kIndex); });
    Try([&] { Vector(graph_.Vector(2, 4), Kind::kIndex); });
    Try([&] { Tensors(); });
    Try([&] { Operators(); });
    return std::move(anatomy_);
  }

 private:
  template <typename F>
  void Try(F f) {
    try {
      f();
    } catch (const mini::Error&) {
    }
  }

  void Add(size_t place, Kind kind, size_t vector = 0) {
    if (place && anatomy_.slots.size() < kMostSlots) anatomy_.slots.push_back({place, kind, vector});
  }
  void Field(const FlatTable& table, int field, Kind kind) { Add(table.Where(field), kind); }
  void Vector(const FlatVector& vector, Kind kind) {
    if (!vector) return;
    Add(vector.place(), Kind::kCount);
    for (size_t i = 0; i < vector.size(); ++i) Add(vector.At(i), kind);
  }
  FlatVector Elements(const FlatTable& table, int field) {
    const FlatVector tables = table.Tables(field);
    Add(tables.place(), Kind::kCount);
    for (size_t i = 0; i < tables.size(); ++i) Add(tables.At(i), Kind::kElement, tables.place());
    return tables;
  }

  void Codes() {
    const FlatVector codes = Elements(root_, 1);
    for (size_t i = 0; i < codes.size(); ++i) {
      Try([&] {
        const FlatTable code = root_.Element(codes, i);
        Field(code, 0, Kind::kByte);
        Field(code, 3, Kind::kCode);
      });
    }
  }

  void Tensors() {
    const FlatVector tensors = Elements(graph_, 0);
    for (size_t i = 0; i < tensors.size(); ++i) {
      Try([&] { Tensor(graph_.Element(tensors, i)); });
    }
  }

  void Tensor(const FlatTable& tensor) {
    Vector(tensor.Vector(0, 4), Kind::kSize);
    Field(tensor, 1, Kind::kByte);
    Field(tensor, 2, Kind::kIndex);
    Field(tensor, 5, Kind::kByte);
    const FlatTable quantization = tensor.Table(4);
    Vector(quantization.Vector(2, 4), Kind::kFloat);
    Vector(quantization.Vector(3, 8), Kind::kSize);
    const uint32_t index = tensor.Scalar<uint32_t>(2, 0);
    if (index >= buffers_.size()) return;
    const FlatVector data = root_.Element(buffers_, index).Vector(0, 1);
    if (data.size() == 0) return;
    const int type = tensor.Scalar<int8_t>(1, 0);
    anatomy_.constants.push_back({tensor.Vector(0, 4).place(), data.place(), type == 9 || type == 3 ? 1u : 4u});
    // A few of a large constant: the others are as good.
    for (size_t at = 0; at + 4 <= data.size() && at < 64; at += 4) {
      Add(data.At(at), type == 0 ? Kind::kFloat : Kind::kData);
    }
  }

  void Operators() {
    const FlatVector operators = Elements(graph_, 3);
    for (size_t i = 0; i < operators.size(); ++i) {
      Try([&] {
        const FlatTable op = graph_.Element(operators, i);
        Field(op, 0, Kind::kIndex);
        Vector(op.Vector(1, 4), Kind::kIndex);
        Vector(op.Vector(2, 4), Kind::kIndex);
        Field(op, 3, Kind::kByte);
        Vector(op.Vector(5, 1), Kind::kOption);
        const FlatTable options = op.Table(4);
        for (int field = 0; field < 6; ++field) {
          // Some of these are bytes; a change of four then reaches the padding or a neighbour, which does no harm here.
          Field(options, field, Below(&coin_, 2) ? Kind::kByte : Kind::kSize);
        }
      });
    }
  }

  static constexpr size_t kMostSlots = 1 << 16;

  Bytes file_;
  FlatTable root_, graph_;
  FlatVector buffers_;
  Anatomy anatomy_;
  Random coin_{1};
};

int32_t Plus(int32_t value, int32_t step) {  // wraps
  return static_cast<int32_t>(static_cast<uint32_t>(value) + static_cast<uint32_t>(step));
}

int32_t InterestingInt(Random* random, int32_t old) {
  switch (Below(random, 4)) {
    case 0:
      return Plus(old, Pick(random, {-1, 1, -4, 4, 32}));
    case 1:
      return static_cast<int32_t>(Below(random, 9));
    case 2:
      return Pick(random, {-1, 0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 31, 32, 33, 63, 64, 65, 70, 96, 127, 128});
    default:
      return Pick(random, {-2147483647 - 1, -65536, -32, -2, 255, 256, 1024, 1025, 4096, 65535, 65536, 1 << 20, 1 << 28,
                           1 << 30, 2147483647});
  }
}

float InterestingFloat(Random* random) {
  static constexpr float kInfinity = __builtin_inff();
  return Pick(random, {0.0f, -0.0f, 1.0f, -1.0f, 0.5f, 1e-30f, -1e30f, 1e-45f, 3.4e38f, kInfinity, -kInfinity,
                       __builtin_nanf(""), 127.5f, 2147483648.0f});
}

}  // namespace

Anatomy Dissect(Bytes file) { return Dissector(file).Run(); }

void MutateSlot(uint8_t* file, size_t size, const Anatomy& anatomy, Random* random) {
  // Kinds first: else the many values of constants would leave nothing to the few that steer.
  const auto kind = static_cast<Kind>(Below(random, 9));
  std::vector<const Slot*> slots;
  for (const Slot& slot : anatomy.slots) {
    if (slot.kind == kind) slots.push_back(&slot);
  }
  if (slots.empty()) return;
  const Slot& slot = *slots[Below(random, slots.size())];
  const Bytes bytes = {file, size};
  switch (kind) {
    case Kind::kSize:
    case Kind::kData:
      return Write(file, size, slot.place, InterestingInt(random, mini::ReadAt<int32_t>(bytes, slot.place)));
    case Kind::kIndex: {
      const size_t other = slots[Below(random, slots.size())]->place;  // what another place says is likely there
      const int32_t value = mini::ReadAt<int32_t>(bytes, other);
      return Write(file, size, slot.place,
                   Below(random, 4) ? value : Pick(random, {-1, Plus(value, 1), Plus(value, -1), 0}));
    }
    case Kind::kCode:
      return Write(file, size, slot.place, Pick<int32_t>(random, {0,  1,  2,  3,  6,  17, 18, 19,  20, 21,  32, 40,
                                                                  41, 45, 54, 55, 57, 65, 97, 116, 51, 127, -1}));
    case Kind::kByte:
      return Write(file, size, slot.place,
                   static_cast<uint8_t>(Below(random, 3) ? Below(random, 12) : Below(random, 256)));
    case Kind::kFloat:
      return Write(file, size, slot.place, InterestingFloat(random));
    case Kind::kCount: {
      const uint32_t count = mini::ReadAt<uint32_t>(bytes, slot.place);
      return Write(file, size, slot.place, Pick(random, {count + 1, count - 1, count / 2, 0u, 1u, 2u, 5u, ~0u}));
    }
    case Kind::kOption:
      return Write(file, size, slot.place,
                   static_cast<uint8_t>(Below(random, 3) ? Below(random, 9) : Below(random, 256)));
    case Kind::kElement: {
      // Offsets count from where they stand, and only forward.
      const Slot& other = *slots[Below(random, slots.size())];
      if (other.vector != slot.vector) return;
      const size_t target = other.place + mini::ReadAt<uint32_t>(bytes, other.place);
      if (target > slot.place) Write(file, size, slot.place, static_cast<uint32_t>(target - slot.place));
      return;
    }
  }
}

void MutateConstant(uint8_t* file, size_t size, const Constant& constant, Random* random) {
  if (!constant.dims) return;
  const FlatVector dims({file, size}, constant.dims, 4);
  if (dims.size() == 0 || dims.size() > 8) return;
  std::vector<int32_t> sizes(dims.size());
  for (size_t i = 0; i < sizes.size(); ++i) sizes[i] = dims.Get<int32_t>(i);
  const size_t axis = Below(random, sizes.size());
  const size_t other = Below(random, sizes.size());
  switch (Below(random, 4)) {
    case 0:
      std::swap(sizes[axis], sizes[other]);
      break;
    case 1:
      if (sizes[axis] % 2 == 0 && sizes[other] > 0 && sizes[other] < 1 << 20) {
        sizes[axis] /= 2;
        sizes[other] *= 2;
      }
      break;
    case 2:
      sizes[axis] = static_cast<int32_t>(1 + Below(random, 8));
      break;
    default:
      sizes[axis] = Plus(sizes[axis], Pick(random, {-1, 1}));
  }
  uint64_t bytes = constant.element;
  for (size_t i = 0; i < sizes.size(); ++i) {
    Write(file, size, dims.At(i), sizes[i]);
    bytes *= static_cast<uint64_t>(std::max(sizes[i], 0));
    if (bytes > size) return;
  }
  // More bytes than before are those of whatever lies behind: as good as any.
  if (constant.bytes + 4 + bytes <= size) Write(file, size, constant.bytes, static_cast<uint32_t>(bytes));
}

}  // namespace fuzz

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned int seed) {
  using namespace fuzz;
  Random random(seed);
  const size_t way = Below(&random, 10);
  if (size <= sizeof(Choices) || way == 0) return LLVMFuzzerMutate(data, size, max_size);
  if (way == 1) {
    for (size_t i = 1 + Below(&random, 4); i > 0; --i) {
      data[Below(&random, sizeof(Choices))] = static_cast<uint8_t>(Below(&random, 4) ? Below(&random, 8) : random());
    }
    return size;
  }
  uint8_t* file = data + sizeof(Choices);
  const size_t file_size = size - sizeof(Choices);
  const size_t changes = 1 + Below(&random, 3);
  for (size_t i = 0; i < changes; ++i) {
    try {
      const Anatomy anatomy = Dissect({file, file_size});
      if (!anatomy.constants.empty() && Below(&random, 5) == 0) {
        MutateConstant(file, file_size, anatomy.constants[Below(&random, anatomy.constants.size())], &random);
      } else {
        MutateSlot(file, file_size, anatomy, &random);
      }
    } catch (const mini::Error&) {
    }
  }
  return size;
}
