// Memory for kernels_test: what is read ends where nobody may touch, what is written lies between guards.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace bihrnet {

inline std::mt19937& Rng() {
  static std::mt19937 rng(20240917);
  return rng;
}

inline int Random(int low, int high) { return std::uniform_int_distribution<int>(low, high)(Rng()); }

// `count` items for a kernel to read, at the end or at the start of pages between two forbidden ones.
template <typename T>
class Input {
 public:
  explicit Input(size_t count) {
#if defined(__linux__)
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t bytes = count * sizeof(T);
    const size_t whole = (bytes + page - 1) / page * page;
    size_ = whole + 2 * page;
    void* pages = mmap(nullptr, size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) std::abort();
    pages_ = static_cast<uint8_t*>(pages);
    if (whole > 0 && mprotect(pages_ + page, whole, PROT_READ | PROT_WRITE) != 0) std::abort();
    data_ = reinterpret_cast<T*>(pages_ + page + (Random(0, 3) != 0 ? whole - bytes : 0));
#else
    heap_.reset(new T[count]);
    data_ = heap_.get();
#endif
  }
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;
  Input(Input&& other) noexcept { Swap(other); }
  ~Input() {
#if defined(__linux__)
    if (pages_ != nullptr) munmap(pages_, size_);
#endif
  }
  T* get() const { return data_; }
  T& operator[](size_t i) const { return data_[i]; }

 private:
  void Swap(Input& other) {
    std::swap(data_, other.data_);
#if defined(__linux__)
    std::swap(pages_, other.pages_);
    std::swap(size_, other.size_);
#else
    std::swap(heap_, other.heap_);
#endif
  }

  T* data_ = nullptr;
#if defined(__linux__)
  uint8_t* pages_ = nullptr;
  size_t size_ = 0;
#else
  std::unique_ptr<T[]> heap_;
#endif
};

// `count` items for a kernel to write, between guards.
template <typename T>
class Output {
 public:
  explicit Output(size_t count) : bytes_(2 * kGuard + count * sizeof(T)), count_(count) {
    for (uint8_t& byte : bytes_) byte = static_cast<uint8_t>(Rng()());
    before_ = bytes_;
  }
  T* data() { return reinterpret_cast<T*>(bytes_.data() + kGuard); }
  size_t size() const { return count_; }
  bool GuardsHold() const {
    return std::memcmp(bytes_.data(), before_.data(), kGuard) == 0 &&
           std::memcmp(&bytes_[bytes_.size() - kGuard], &before_[before_.size() - kGuard], kGuard) == 0;
  }

 private:
  static constexpr size_t kGuard = 256;
  std::vector<uint8_t> bytes_;
  std::vector<uint8_t> before_;
  size_t count_;
};

}  // namespace bihrnet
