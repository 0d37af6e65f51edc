#include "runtime/thread_pool.h"

namespace bihrnet {
namespace {

// Spins before a thread offers its core: about a microsecond. Where nobody wants the core the offer costs as little as
// a spin; where the thread that is waited for wants it, spinning longer only holds it up.
constexpr int kSpins = 50;

void Pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

template <typename Condition>
void SpinUntil(Condition condition) {
  for (int spins = 0; !condition(); ++spins) {
    if (spins < kSpins) {
      Pause();
    } else {
      std::this_thread::yield();
    }
  }
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  workers_.reserve(static_cast<size_t>(threads - 1));
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { Work(i); });
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::Work(int thread) {
  uint64_t seen = 0;
  for (;;) {
    const std::function<void(int)>* job = nullptr;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return stop_ || generation_ != seen; });
      if (stop_) return;
      seen = generation_;
      job = job_;
    }
    (*job)(thread);
    running_.fetch_sub(1, std::memory_order_release);
  }
}

void ThreadPool::Run(const std::function<void(int)>& job) {
  if (workers_.empty()) return job(0);
  running_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    job_ = &job;
    ++generation_;
  }
  wake_.notify_all();
  job(0);
  SpinUntil([&] { return running_.load(std::memory_order_acquire) == 0; });
}

void ThreadPool::Barrier() {
  if (workers_.empty()) return;
  const unsigned phase = phase_.load(std::memory_order_relaxed);
  if (waiting_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads()) {
    waiting_.store(0, std::memory_order_relaxed);
    phase_.store(phase + 1, std::memory_order_release);
  } else {
    SpinUntil([&] { return phase_.load(std::memory_order_acquire) != phase; });
  }
}

}  // namespace bihrnet
