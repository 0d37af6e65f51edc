// A FlatBuffer read with every offset checked, so that a damaged file ends in an exception and nothing else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

namespace mini {

// What the test runtime throws where a real runtime would refuse a model.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Bytes {
  const uint8_t* data = nullptr;
  size_t size = 0;
};

template <typename T>
T ReadAt(Bytes file, size_t offset) {
  if (offset > file.size || sizeof(T) > file.size - offset) throw Error("the file ends early");
  T value;
  std::memcpy(&value, file.data + offset, sizeof(T));
  return value;
}

// Elements of `width` bytes. An absent vector has none.
class FlatVector {
 public:
  FlatVector() = default;
  FlatVector(Bytes file, size_t place, size_t width) : file_(file), place_(place), width_(width) {
    size_ = ReadAt<uint32_t>(file, place);
    if (size_ > (file.size - place - 4) / width) throw Error("a vector runs past the end of the file");
  }
  explicit operator bool() const { return place_ != 0; }
  size_t size() const { return size_; }
  size_t place() const { return place_; }  // of the count; the elements follow
  size_t At(size_t index) const { return place_ + 4 + index * width_; }
  template <typename T>
  T Get(size_t index) const {
    if (index >= size_ || sizeof(T) != width_) throw Error("no such element");
    return ReadAt<T>(file_, At(index));
  }
  Bytes bytes() const { return {size_ ? file_.data + At(0) : nullptr, size_ * width_}; }

 private:
  Bytes file_;
  size_t place_ = 0;
  size_t width_ = 1;
  size_t size_ = 0;
};

// A table, or nothing: then every field is absent.
class FlatTable {
 public:
  FlatTable() = default;
  FlatTable(Bytes file, size_t place) : file_(file), place_(place) {
    const int64_t vtable = static_cast<int64_t>(place) - ReadAt<int32_t>(file, place);
    if (vtable < 0 || vtable > static_cast<int64_t>(file.size)) throw Error("a table lies outside the file");
    vtable_ = static_cast<size_t>(vtable);
    vtable_size_ = ReadAt<uint16_t>(file, vtable_);
  }
  static FlatTable Root(Bytes file) { return FlatTable(file, ReadAt<uint32_t>(file, 0)); }

  explicit operator bool() const { return place_ != 0; }
  size_t place() const { return place_; }

  // Where a field lies in the file, 0 where it is absent.
  size_t Where(int field) const {
    const size_t slot = 4 + 2 * static_cast<size_t>(field);
    if (!place_ || slot + 2 > vtable_size_) return 0;
    const uint16_t offset = ReadAt<uint16_t>(file_, vtable_ + slot);
    return offset ? place_ + offset : 0;
  }
  template <typename T>
  T Scalar(int field, T fallback) const {
    const size_t place = Where(field);
    return place ? ReadAt<T>(file_, place) : fallback;
  }
  FlatTable Table(int field) const {
    const size_t place = Target(field);
    return place ? FlatTable(file_, place) : FlatTable();
  }
  FlatVector Vector(int field, size_t width) const {
    const size_t place = Target(field);
    return place ? FlatVector(file_, place, width) : FlatVector();
  }
  FlatVector Tables(int field) const { return Vector(field, 4); }
  FlatTable Element(const FlatVector& tables, size_t index) const {
    return FlatTable(file_, tables.At(index) + tables.Get<uint32_t>(index));
  }
  std::string String(int field) const {
    const Bytes text = Vector(field, 1).bytes();
    return text.size ? std::string(reinterpret_cast<const char*>(text.data), text.size) : std::string();
  }

 private:
  size_t Target(int field) const {
    const size_t place = Where(field);
    return place ? place + ReadAt<uint32_t>(file_, place) : 0;
  }

  Bytes file_;
  size_t place_ = 0;
  size_t vtable_ = 0;
  size_t vtable_size_ = 0;
};

}  // namespace mini
