// The threads of one interpreter: they spin for a moment between the steps of an inference, and sleep between
// inferences.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace bihrnet {

class ThreadPool {
 public:
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls job(thread) once on every thread, the caller's included (thread 0); returns when all have returned.
  void Run(const std::function<void(int thread)>& job);

  // From within a job: returns when every thread of the job has called it as often.
  void Barrier();

 private:
  void Work(int thread);

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  const std::function<void(int)>* job_ = nullptr;  // guarded by mutex_
  uint64_t generation_ = 0;                        // guarded by mutex_
  bool stop_ = false;                              // guarded by mutex_
  std::atomic<int> running_{0};
  std::atomic<int> waiting_{0};
  std::atomic<unsigned> phase_{0};
};

}  // namespace bihrnet
